"""A ball that flies straight and bounces off the walls of a square: where will it be next?

Only its place is seen, so that a model must work out the speed from what came before, and where the walls are. Both
coordinates move alike and independently: reflected at 0 and 1, they are triangle waves, so the answer is known
exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import DataSet, Spec, Splits
from zoo.training.random import generator


@dataclass(frozen=True, kw_only=True)
class BouncingBall:
    """How long the ball is watched, how fast it is, and how often."""

    steps: int = 48
    """Places that are seen; the one after each is to be predicted."""
    min_speed: float = 0.02
    """Of a coordinate, in sides of the square per step, towards either side."""
    max_speed: float = 0.12
    samples: int = 4_096
    """Flights in one pass over the training part; while training they are drawn anew each time."""
    held_out: int = 512
    """Flights in each of the other two parts."""
    subset_seed: int = 0
    """Draws the flights that are evaluated."""

    def __post_init__(self) -> None:
        """Refuse flights that cannot be."""
        for name in ("steps", "samples", "held_out"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if not 0 <= self.min_speed <= self.max_speed:
            raise ValueError(f"min_speed {self.min_speed} is not in [0, {self.max_speed}], the max_speed")


@dataclass(frozen=True, kw_only=True)
class Flights:
    """One part; a flight is drawn when it is fetched."""

    name: str
    length: int
    options: BouncingBall

    def __len__(self) -> int:
        return self.length

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """Places, and those that follow; without `rngs`, an index always gives the same flight.

        Returns:
            `features` and `target`, (batch, steps, 2) float32; the walls are at -1 and 1.
        """
        options = self.options
        if rngs is None:
            rngs = [generator(options.subset_seed, f"bouncing_ball/{self.name}", int(index)) for index in indices]
        time = np.arange(options.steps + 1)[:, None]
        places = np.empty((len(rngs), options.steps + 1, 2), dtype=np.float32)
        for flight, rng in zip(places, rngs, strict=True):
            start = rng.uniform(0, 2, 2)  # a coordinate and its direction are a place on a circle of length 2
            speed = rng.uniform(options.min_speed, options.max_speed, 2)
            flight[:] = 2 * np.abs((start + speed * time) % 2 - 1) - 1
        both = torch.from_numpy(places)
        return {"features": both[:, :-1].contiguous(), "target": both[:, 1:].contiguous()}


def load(options: BouncingBall) -> Splits:
    """The three parts."""
    lengths = {"train": options.samples, "val": options.held_out, "test": options.held_out}
    parts = {name: Flights(name=name, length=length, options=options) for name, length in lengths.items()}
    spec = Spec(
        keys=("features", "target"), in_features=2, out_features=2, target_mean=(0.0, 0.0), target_std=(1.0, 1.0),
        columns=("x", "y"),
    )  # fmt: skip
    return Splits(spec=spec, train=parts["train"], val=parts["val"], test=parts["test"])


DATA = DataSet(name="bouncing_ball", config=BouncingBall, load=load)
