"""`python -m zoo.cli`, which torchrun can start too: `torchrun --nproc-per-node 2 -m zoo.cli train ...`."""

import sys

from zoo.cli import main

if __name__ == "__main__":
    sys.exit(main())
