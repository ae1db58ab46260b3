"""python -m study COMMAND."""

import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is being loaded, which takes a second, is silent."""
    try:
        from study.cli import main as command_line  # noqa: PLC0415
    except KeyboardInterrupt:
        sys.exit(130)
    command_line()


if __name__ == "__main__":  # a worker imports this file too, and needs none of the commands
    main()
