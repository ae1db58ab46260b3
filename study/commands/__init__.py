"""Commands of the command line, by what they are about; study/cli.py puts them together."""
