"""python -m study COMMAND."""

if __name__ == "__main__":  # a worker imports this file too, and needs none of the commands
    from study.cli import main

    main()
