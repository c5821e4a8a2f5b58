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
from zoo.training.data.arrays import check_positive
from zoo.training.data.drawn import Drawn, drawn


@dataclass(frozen=True, kw_only=True)
class BouncingBall(Drawn):
    """How long the ball is watched, and how fast it is."""

    steps: int = 48
    """Places that are seen; the one after each is to be predicted."""
    min_speed: float = 0.02
    """Of a coordinate, in sides of the square per step, towards either side."""
    max_speed: float = 0.12

    def __post_init__(self) -> None:
        """Refuse flights that cannot be."""
        super().__post_init__()
        check_positive(self, "steps")
        if not 0 <= self.min_speed <= self.max_speed:
            raise ValueError(f"min_speed {self.min_speed} is not in [0, {self.max_speed}], the max_speed")


def flights(options: BouncingBall, _: str, rngs: Sequence[np.random.Generator]) -> dict[str, Tensor]:
    """Places, and those that follow.

    Returns:
        `features` and `target`, (batch, steps, 2) float32; the walls are at -1 and 1.
    """
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
    spec = Spec(
        keys=("features", "target"), in_features=2, out_features=2, target_mean=(0.0, 0.0), target_std=(1.0, 1.0),
        columns=("x", "y"),
    )  # fmt: skip
    return drawn("bouncing_ball", options, spec, flights)


DATA = DataSet(name="bouncing_ball", config=BouncingBall, load=load)
