"""``python -m ocirt``: the command line."""

from ocirt.cli import command

if __name__ == "__main__":
    command()
