"""How much a model that knows five digits helps to learn five others from a handful of images."""

from pathlib import Path
from typing import Any

import zoo
from zoo.factory import provenance
from zoo.training.data import Splits

OLD, NEW = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
SHOTS = 5
"""Labelled images of each new digit."""
STEPS = 60
"""So long learns either arm, from all the shots at once."""
RATES = {"fine-tuned": 0.003, "from scratch": 0.01}
"""The learning rate that is best for each arm on training images that are no shots: see `benchmarks/few_shot.py`."""
EPOCHS = 30
"""So long the old digits are learnt, of which there are many images."""


def old_digits(config: Path) -> zoo.RunConfig:
    """The project's config for all digits, for the old ones alone.

    Without label smoothing, which makes features that serve other classes worse (Kornblith et al., 2021, "Why do
    better loss functions lead to less transferable features?").
    """
    changes = [f"data.classes={OLD}", f"trainer.epochs={EPOCHS}", "objective.label_smoothing=0.0"]
    return zoo.RunConfig.read(config, changes)


def new_digits(arm: str, source: Path, seed: int, lr: float, data: Splits | None = None) -> float:
    """Learn the new digits, and return the accuracy on their test images.

    Args:
        arm: `fine-tuned`, with a new head on the source's backbone, or `from scratch`.
        source: the folder of the model that knows the old digits.
        seed: draws the shots, the new weights, and the augmentation.
        lr: the learning rate.
        data: other shots and test images.
    """
    config = zoo.RunConfig.of(
        {
            "model": f"local-dir:{source}" if arm == "fine-tuned" else "resnet20",
            "data": shots(source, seed),
            "optimizer": {"name": "adamw", "lr": lr, "weight_decay": 0.01},
            "schedule": {"name": "cosine", "warmup": 0.1},
            "trainer": {"steps": STEPS, "seed": seed},
        }
    )
    return zoo.Trainer(config, data=data, quiet=True).fit().metrics["accuracy"]


def shots(source: Path, seed: int) -> dict[str, Any]:
    """The data section for some images of each new digit, normalised as the source's were."""
    stored = provenance(f"local-dir:{source}").preprocessing or {}
    return {
        "name": "digits", "classes": NEW, "per_class": SHOTS, "subset_seed": seed, "shift": 1,
        "mean": list(stored["mean"]), "std": list(stored["std"]), "batch_size": SHOTS * len(NEW),
    }  # fmt: skip
