"""`python -m zoo` is the `zoo` command, which `torchrun -m zoo` needs."""

import sys

from zoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
