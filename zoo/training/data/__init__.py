"""What is read. One file = one source; it exports `DATA`, plugins use the group `zoo_data`.

A data set declares a `Spec`, from which the trainer fills the model fields that a config leaves out, and
hands out its splits. A split is indexed, never iterated: the order, the epochs and the place to resume
belong to the trainer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from zoo.registry import Registry

IGNORE = -100
"""The target of a position where nothing is asked for, which PyTorch's cross_entropy skips by default."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """What a data set is; fields that do not apply are None."""

    keys: tuple[str, ...]
    """The keys of a batch, named like the arguments of a model's forward."""
    num_classes: int | None = None
    in_features: int | None = None
    out_features: int | None = None
    """Of a series, how many variables are to be predicted."""
    in_channels: int | None = None
    image_size: int | None = None
    vocab_size: int | None = None
    max_seq_len: int | None = None
    end_token: int | None = None
    """The token that ends a text, where every text has it."""
    labels: tuple[str, ...] = ()
    """The name of each class, in the order of the targets."""
    prompts: tuple[tuple[tuple[int, ...], ...], ...] = ()
    """For each class the tokens of the texts that describe it, all of one length, where images are to be told apart by
    them."""
    columns: tuple[str, ...] = ()
    """The name of each feature, where they have some."""
    mean: tuple[float, ...] = ()
    """Per channel or feature, of the training part; inputs have been normalised by it."""
    std: tuple[float, ...] = ()
    target_mean: tuple[float, ...] = ()
    """Per output, of the training part, where the target is a quantity: the model predicts (target - mean) / std."""
    target_std: tuple[float, ...] = ()
    value_range: tuple[float, float] | None = None
    """The range of an image before normalisation."""
    levels: int | None = None
    """How many different numbers pixels consist of, evenly spaced over `value_range`; None if that is not known, as for
    images that were interpolated."""
    frames: int | None = None
    """Of a video."""
    neighbours: tuple[int, ...] = ()
    """For each hop, at most how many edges that enter a node of a graph are taken while training; empty for all."""
    tokenizer: Mapping[str, bytes] = field(default_factory=dict)
    """The files of the tokenizer that made the tokens, which then belong to the model too."""

    def model_fields(self) -> dict[str, Any]:
        """What a model's config may take from the data."""
        names = (
            "num_classes", "in_features", "out_features", "in_channels", "image_size", "vocab_size", "max_seq_len",
            "end_token",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


class Split(Protocol):
    """One part of a data set."""

    def __len__(self) -> int:
        """How many samples it has."""
        ...

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """A batch of samples, each value (batch, ...), but for what samples share, such as the graph they are in.

        Args:
            indices: which samples.
            rngs: one generator per sample, from which alone augmentation may draw; None when evaluating,
                which means no augmentation.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Splits:
    """A data set that has been read."""

    spec: Spec
    train: Split
    val: Split | None = None
    """Carved from train where the config asks for it; the best checkpoint is chosen by it."""
    test: Split | None = None
    """Evaluated once, at the end."""


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """The record that a file of this package exports."""

    name: str
    config: type
    """The dataclass of its options: `data.<field>` in a run's config."""
    load: Callable[[Any], Splits]
    """Read it; ValueError or OSError, naming the file, where that fails."""


DATA_SETS: Registry[DataSet] = Registry("data", "zoo.training.data", "DATA", lambda data_set: [data_set.name])
