"""``python -m ocirt``: the command line."""

import sys

from ocirt.cli import main

if __name__ == "__main__":
    sys.exit(main())
