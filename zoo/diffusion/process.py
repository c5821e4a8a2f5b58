"""A noise schedule and a prediction together: what a network is shown and asked, and what its answer means."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from zoo.diffusion.predictions import PREDICTIONS, Prediction
from zoo.diffusion.schedules import SCHEDULES, Schedule

Network = Callable[[Tensor, Tensor], Tensor]
"""x (batch, channels, ...), scaled, and timesteps (batch,) -> its prediction, (batch, channels, ...); or twice as many
channels, whose second half says the variance of a step: Nichol and Dhariwal, 2021, equation 15."""


class Estimate(NamedTuple):
    """What x is taken to consist of; all (batch, channels, ...)."""

    image: Tensor
    noise: Tensor
    spread: Tensor | None = None
    """The variance of a step back, on a logarithmic scale from the smallest, 0, to the largest, 1, that it may have;
    None if the network does not say it."""


@dataclass(frozen=True, kw_only=True)
class Diffusion:
    """How images become noise, and what is predicted."""

    schedule: Schedule
    prediction: Prediction

    def noisy(self, image: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """The image (batch, ...) with the noise (batch, ...) of timesteps (batch,)."""
        alpha, sigma = self._level(timestep, image)
        return alpha * image + sigma * noise

    def target(self, image: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network is to predict, (batch, ...)."""
        c, d = self.prediction.target(*self._level(timestep, image))
        return c * image + d * noise

    def ask(self, network: Network, x: Tensor, timestep: Tensor) -> Tensor:
        """The network's answer for x (batch, channels, ...) at timesteps (batch,)."""
        return network(x * self.prediction.scale(*self._level(timestep, x)), timestep)

    def estimate(self, x: Tensor, output: Tensor, timestep: Tensor, clip: float | None = None) -> Estimate:
        """Image and noise from x and the network's prediction, and the variance if it says that, too.

        Args:
            x: (batch, channels, ...).
            output: (batch, channels or twice as many, ...).
            timestep: (batch,).
            clip: no number of the image is larger, and none smaller than its negative; the noise is then what explains
                x with this image.
        """
        alpha, sigma = self._level(timestep, x)
        c, d = self.prediction.target(alpha, sigma)
        whole = alpha * d - sigma * c
        output, rest = output[:, : x.shape[1]], output[:, x.shape[1] :]
        spread = (rest + 1) / 2 if rest.shape[1] else None
        image, noise = (d * x - sigma * output) / whole, (alpha * output - c * x) / whole
        if clip is None:
            return Estimate(image, noise, spread)
        image = image.clamp(-clip, clip)
        return Estimate(image, (x - alpha * image) / sigma, spread)

    def _level(self, timestep: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, to be multiplied with (batch, ...)."""
        shape = (-1, *[1] * (like.ndim - 1))
        alpha, sigma = self.schedule.level(timestep)
        return alpha.view(shape).to(like.dtype), sigma.view(shape).to(like.dtype)


def guided(network: Callable[..., Tensor], label: Tensor, nothing: Tensor, scale: float) -> Network:
    """Classifier-free guidance: further away from what the network draws when it is told nothing.

    Source: Ho and Salimans, 2022, "Classifier-free diffusion guidance", equation 6, where w is `scale` - 1. What the
    network says of the variance is not guided.

    Args:
        network: x, timestep and label -> its prediction.
        label: (batch,), what is asked for.
        nothing: (batch,), the label that says nothing.
        scale: 1 is the network as it is.
    """

    def ask(x: Tensor, timestep: Tensor) -> Tensor:
        asked = network(x, timestep, label)
        if scale == 1:
            return asked
        away = (asked - network(x, timestep, nothing))[:, : x.shape[1]]
        return torch.cat([asked[:, : x.shape[1]] + (scale - 1) * away, asked[:, x.shape[1] :]], 1)

    return ask


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """A `Diffusion` in words, as weights remember it."""

    schedule: Literal["linear", "scaled_linear", "cosine", "sigmoid", "edm", "flow"] = "linear"
    """How the noise grows; `zoo.diffusion.schedules`."""
    schedule_options: Mapping[str, int | float] = field(default_factory=dict)
    """The schedule's own, where they are not the usual ones."""
    prediction: Literal["noise", "x0", "v", "velocity", "edm"] = "noise"
    """What the network predicts; `zoo.diffusion.predictions`."""
    clip: float | None = 1.0
    """No number of an image is larger, and none smaller than its negative; None: they have no bound, as latents."""

    def __post_init__(self) -> None:
        """Refuse what does not go together.

        Raises:
            ValueError: a schedule has no such option, or not with this value; EDM's schedule and prediction are not
                used together; at one of the schedule's timesteps the prediction does not say what the image is; or
                `clip` is not positive.
        """
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ValueError(f"clip {self.clip} is not positive; give the largest number of an image, or null for none")
        if (self.schedule == "edm") != (self.prediction == "edm"):
            raise ValueError(
                f"schedule {self.schedule} does not go with prediction {self.prediction}; edm is both or neither"
            )
        made = self.made()
        alpha, sigma = made.schedule.level(made.schedule.timesteps(made.schedule.steps))
        c, d = made.prediction.target(alpha, sigma)
        if (alpha * d == sigma * c).any():
            raise ValueError(
                f"schedule {self.schedule} does not go with prediction {self.prediction}: it begins with noise alone, "
                "from which that tells nothing of the image; choose velocity, v or x0"
            )

    def made(self) -> Diffusion:
        """What the words stand for."""
        make = SCHEDULES[self.schedule]
        try:
            schedule = make(**self.schedule_options)
        except TypeError:
            known = ", ".join(inspect.signature(make).parameters)
            given = ", ".join(self.schedule_options)
            raise ValueError(f"schedule_options {given}: the schedule {self.schedule} knows {known}") from None
        return Diffusion(schedule=schedule, prediction=PREDICTIONS[self.prediction])
