"""Train a model as a config says: the same as `zoo train`, for people who work in a clone.

python scripts/train.py configs/resnet/resnet20-digits.yaml trainer.seed=1 --out runs/digits
torchrun --nproc-per-node 2 scripts/train.py configs/resnet/resnet20-digits.yaml --out runs/digits
"""

import sys

from zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
