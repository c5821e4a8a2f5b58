"""The learning rates of the demonstration's fine-tuning comparison, chosen without its shots and its test images.

For each arm and rate: the mean accuracy over eight draws of shots, on the training images that are no shots.
`python benchmarks/few_shot.py` takes about three minutes of one core and writes few_shot.json beside itself.
"""

import dataclasses
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

import zoo
from zoo.cli import few_shot
from zoo.training.assemble import load_data
from zoo.training.data import Splits
from zoo.training.data.arrays import few_of_each

CONFIG = Path(__file__).parents[1] / "configs" / "resnet" / "resnet20-digits.yaml"
GRID = (1e-3, 3e-3, 1e-2, 2e-2, 3e-2)
SEEDS = range(100, 108)  # the demonstration's own are 0 to 4


def held_out(source: Path, seed: int) -> Splits:
    """Shots to learn from, and all other training images of their digits in place of the test part."""
    section = few_shot.shots(source, seed)
    few = load_data(section)
    everything: Any = load_data({**section, "per_class": None}).train
    picked = few_of_each(everything.targets.numpy(), few_shot.SHOTS, seed)
    rest = torch.from_numpy(np.setdiff1d(np.arange(len(everything)), picked))
    others = dataclasses.replace(everything, images=everything.images[rest], targets=everything.targets[rest], shift=0)
    return dataclasses.replace(few, test=others)


def main() -> int:
    """Try every rate, and write what each gave."""
    found: dict[str, dict[str, list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "old"
        zoo.Trainer(few_shot.old_digits(CONFIG), out=out, quiet=True).fit()
        for arm in few_shot.RATES:
            for lr in GRID:
                values = [
                    few_shot.new_digits(arm, out / "model", seed, lr, held_out(out / "model", seed)) for seed in SEEDS
                ]
                found.setdefault(arm, {})[str(lr)] = [round(value, 4) for value in values]
                sys.stdout.write(f"{arm:>14}  lr {lr:<6} {np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}\n")
                sys.stdout.flush()
    facts = {"torch": torch.__version__, "python": platform.python_version(), "device": platform.processor() or "cpu"}
    best = {arm: max(rates, key=lambda lr: np.mean(rates[lr])) for arm, rates in found.items()}
    result = {"accuracy": found, "best": best, "seeds": list(SEEDS), "steps": few_shot.STEPS, **facts}
    Path(__file__).with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
