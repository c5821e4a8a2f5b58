"""Train a pretrained model further on other data: the same as `zoo finetune`.

python scripts/finetune.py runs/digits --data photos/ --out runs/photos trainer.freeze=backbone
"""

import sys

from zoo.cli import main

if __name__ == "__main__":
    sys.exit(main(["finetune", *sys.argv[1:]]))
