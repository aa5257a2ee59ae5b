"""``python -m probe``; the commands are in :mod:`probe.cli`."""

import sys

from probe.cli import main

if __name__ == "__main__":
    sys.exit(main())
