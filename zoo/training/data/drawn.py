"""Tasks whose samples are made up: drawn anew while training, and always the same when they are evaluated."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from zoo.training.data import Spec, Splits
from zoo.training.data.arrays import check_positive
from zoo.training.random import generator


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """How many samples there are."""

    samples: int = 16_384
    """In one pass over the training part; while training they are drawn anew each time."""
    held_out: int = 1_024
    """In each of the other two parts."""
    subset_seed: int = 0
    """Draws the samples that are evaluated."""

    def __post_init__(self) -> None:
        """Refuse parts of nothing."""
        check_positive(self, "samples", "held_out")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part; a sample is drawn when it is fetched."""

    task: str
    name: str
    length: int
    options: Any
    make: Callable[[Any, str, Sequence[np.random.Generator]], dict[str, Tensor]]
    """From the options, the part's name and a generator for each sample to a batch."""

    def __len__(self) -> int:
        return self.length

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """A batch of samples; without `rngs`, an index always gives the same one."""
        if rngs is None:
            purpose = f"{self.task}/{self.name}"
            rngs = [generator(self.options.subset_seed, purpose, int(index)) for index in indices]
        return self.make(self.options, self.name, rngs)


def drawn(
    task: str,
    options: Drawn,
    spec: Spec,
    make: Callable[[Any, str, Sequence[np.random.Generator]], dict[str, Tensor]],
) -> Splits:
    """The three parts of a task; see `Part`."""
    lengths = {"train": options.samples, "val": options.held_out, "test": options.held_out}
    parts = {name: Part(task=task, name=name, length=n, options=options, make=make) for name, n in lengths.items()}
    return Splits(spec=spec, train=parts["train"], val=parts["val"], test=parts["test"])
