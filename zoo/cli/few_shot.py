"""How much a model that knows five digits helps to learn five others from a handful of images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zoo
from zoo.training.data import Splits
from zoo.weights import provenance_of

OLD, NEW = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9]
SHOTS = 5
"""Labelled images of each new digit."""
STEPS = 60
"""So long learns either arm, from all the shots at once."""
RATES = {"fine-tuned": 0.01, "from scratch": 0.01}
"""The learning rate that is best for each arm on training images that are no shots: see `benchmarks/few_shot.py`."""
RECIPE: Mapping[str, Any] = {
    "model": {"name": "resnet20"},
    "optimizer": {"name": "adamw", "lr": 0.003, "weight_decay": 0.01},
    "schedule": {"name": "cosine", "warmup": 0.1},
}


def old_digits(epochs: float) -> zoo.RunConfig:
    """The run that learns the old digits, of which there are many images."""
    data = {"name": "digits", "classes": OLD, "shift": 1, "batch_size": 64}
    return zoo.RunConfig.of({**RECIPE, "data": data, "trainer": {"epochs": epochs}})


def new_digits(arm: str, source: Path, seed: int, lr: float, data: Splits | None = None) -> float:
    """Learn the new digits, and return the accuracy on their test images.

    Args:
        arm: `fine-tuned`, with a new head on the source's backbone, or `from scratch`.
        source: the folder of the model that knows the old digits.
        seed: draws the shots, the new weights, and the augmentation.
        lr: the learning rate.
        data: other shots and test images.
    """
    known = zoo.load(source)
    torch.manual_seed(seed)
    model = _with_new_head(known) if arm == "fine-tuned" else zoo.create(zoo.config("resnet20", **_shape()))
    values = {
        **RECIPE,
        "data": shots(known, seed),
        "optimizer": {**RECIPE["optimizer"], "lr": lr},
        "trainer": {"steps": STEPS, "seed": seed},
    }
    return zoo.Trainer(zoo.RunConfig.of(values), model=model, data=data, quiet=True).fit().metrics["accuracy"]


def shots(known: nn.Module, seed: int) -> dict[str, Any]:
    """The data section for some images of each new digit, normalised as the known model's were."""
    stored = provenance_of(known).preprocessing or {}
    return {
        "name": "digits", "classes": NEW, "per_class": SHOTS, "subset_seed": seed, "shift": 1,
        "mean": list(stored["mean"]), "std": list(stored["std"]), "batch_size": SHOTS * len(NEW),
    }  # fmt: skip


def _shape() -> dict[str, int]:
    return {"in_channels": 1, "num_classes": len(NEW)}


def _with_new_head(model: Any) -> nn.Module:
    """The old head has as many classes, but they are other digits."""
    model.reset_classifier(len(NEW))
    return model
