"""Measure a model on data: the same as `zoo evaluate`.

python scripts/evaluate.py runs/digits --json
"""

import sys

from zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
