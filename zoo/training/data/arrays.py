"""Samples that are held in memory, and how to choose among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.training.random import generator

MOST_CELLS = 2**31
"""A matrix of more numbers, 8 GiB in float32, is not written out; a few bytes can ask for it."""


@dataclass(frozen=True, kw_only=True)
class HoldOut:
    """How a validation part is carved from the training part."""

    val_fraction: float = 0.0
    """Share of the training samples to hold out for validation, the same of each class."""
    subset_seed: int = 0
    """Draws which."""

    def __post_init__(self) -> None:
        """Refuse shares that are none."""
        check_fractions(val_fraction=self.val_fraction)


@dataclass(frozen=True)
class Arrays:
    """A split of named tensors that share their first axis, the samples."""

    tensors: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """The rows at `indices` of every tensor."""
        rows = torch.as_tensor(indices)
        return {key: values[rows] for key, values in self.tensors.items()}


def hold_out(strata: np.ndarray, fraction: float, seed: int, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Divide samples into those that stay and those held out, in equal shares of every stratum.

    Args:
        strata: the class of each sample; all zeros where there are none.
        fraction: the share to hold out; a stratum always keeps one sample.
        seed: draws which.
        name: the option that asks for it, for the message.

    Returns:
        Two sorted arrays of indices; the second is empty when `fraction` is 0.

    Raises:
        ValueError: the fraction is so small that it holds out nothing.
    """
    held = [
        generator(seed, name, stratum).permutation(members)[: min(round(fraction * len(members)), len(members) - 1)]
        for stratum, members in _members(strata)
    ]
    out = np.sort(np.concatenate([*held, np.empty(0, np.int64)]))
    if fraction > 0 and not len(out):
        raise ValueError(f"{name} {fraction} of {len(strata)} samples holds out none; raise it, or set it to 0")
    return np.setdiff1d(np.arange(len(strata)), out), out


def float32(where: Any, values: np.ndarray) -> np.ndarray:
    """Numbers as features.

    Args:
        where: for the message.
        values: of any shape.

    Raises:
        ValueError: they are no numbers, or not finite in float32.
    """
    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32) if values.dtype.kind in "biuf" else np.array(np.nan)
    if not np.isfinite(narrow).all():
        raise ValueError(f"{where} has values that are no finite numbers in float32; scale them, or fill them in")
    return narrow


def few_of_each(targets: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Sorted indices of `count` samples of each class, drawn by `seed`.

    Raises:
        ValueError: a class has fewer.
    """
    picked = []
    for label, members in _members(targets):
        if len(members) < count:
            raise ValueError(f"per_class {count} is more than the {len(members)} training samples of class {label}")
        picked.append(generator(seed, "per_class", label).permutation(members)[:count])
    return np.sort(np.concatenate(picked))


def _members(strata: np.ndarray) -> list[tuple[int, np.ndarray]]:
    return [(int(stratum), np.flatnonzero(strata == stratum)) for stratum in np.unique(strata)]


def check_fractions(**fractions: float) -> None:
    """Refuse shares outside [0, 1).

    Raises:
        ValueError: one is; the message names it.
    """
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1:
            raise ValueError(f"{name} {fraction} is not in [0, 1); give a share of the training samples")


def check_positive(options: Any, *names: str) -> None:
    """Refuse numbers below 1.

    Raises:
        ValueError: one is; the message names it.
    """
    for name in names:
        if getattr(options, name) < 1:
            raise ValueError(f"{name} {getattr(options, name)} is below 1")
