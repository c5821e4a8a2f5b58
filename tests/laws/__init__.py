"""What all architectures of a task obey, one file per task; here is what those files share.

A law takes an `Architecture` record and speaks only of the contract, never of a model by name, so that a new
file in `zoo/architectures` is held to it by being there.
"""

import os
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from zoo.registry import ARCHITECTURES, Architecture

NO_TEXTS = {
    "no batch": torch.zeros(5, dtype=torch.int64),
    "no position": torch.zeros(2, 0, dtype=torch.int64),
    "floats": torch.zeros(2, 5),
    "bytes": torch.zeros(2, 5, dtype=torch.uint8),
    "a list": [[1, 2], [3, 4]],
    "an array": torch.zeros(2, 5, dtype=torch.int64).numpy(),
}
"""What no model reads as tokens."""


def architectures(*tasks: str) -> list[Architecture]:
    """Every registered architecture, or those of these tasks."""
    return [record for record in ARCHITECTURES.records().values() if not tasks or record.task in tasks]


def classifiers() -> list[Architecture]:
    """Those of images and of videos, which share a contract."""
    return architectures("image-classification", "video-classification")


TOGETHER = ("graph-ml", "zero-shot-image-classification")
"""Tasks whose inputs or outputs are not one row for each sample; their own laws say what holds instead."""


def rowwise() -> list[Architecture]:
    """Those whose tensors have a row for each sample."""
    return [record for record in architectures() if record.task not in TOGETHER]


def each(records: list[Architecture]) -> pytest.MarkDecorator:
    """Run a law once for each of these records."""
    return pytest.mark.parametrize("architecture", records, ids=lambda record: record.name)


def few(records: list[Architecture], count: int = 4) -> list[Architecture]:
    """For slow proofs: those with the smallest presets, or with `ZOO_ALL=1` in the environment all of them."""
    by_size = sorted(records, key=lambda record: min(record.params.values(), default=0))
    return records if os.environ.get("ZOO_ALL") == "1" else by_size[:count]


def build(architecture: Architecture, config: Any = None, seed: int = 0) -> nn.Module:
    """A model, by default the tiny one, as `zoo.create` makes it: on meta, given memory, initialised."""
    with torch.device("meta"):
        model = architecture.model(architecture.tiny if config is None else config)
    model.to_empty(device="cpu")
    torch.manual_seed(seed)
    model.init_weights()
    return model


def perturbed(architecture: Architecture, config: Any = None) -> nn.Module:
    """A model in eval mode in which nothing is zero any more, such as a residual that starts as the identity."""
    model = build(architecture, config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def run(model: nn.Module, inputs: dict[str, Tensor]) -> list[Tensor]:
    """All floating-point tensors that the whole model puts out, also where it puts out a tuple.

    A model with a discriminator, which its `forward` does not need, has it judge what was generated.
    """
    outputs = [model(**inputs)]
    if hasattr(model, "discriminator"):
        told = {name: value for name, value in inputs.items() if name == "label"}
        outputs.append(model.discriminator(tree_leaves(outputs)[0], **told))
    return [leaf for leaf in tree_leaves(outputs) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


def differ(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are further apart than rounding."""
    return not torch.allclose(first, second, rtol=1e-3, atol=1e-5)
