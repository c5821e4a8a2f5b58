"""Noise schedules: how much of an image and how much noise there is at each time.

At a time, x = alpha image + sigma noise, with noise from the standard normal distribution. A `timestep` is what a
network is told of the time: the number of a step for `linear`, `scaled_linear`, `cosine` and `sigmoid`, where
alpha^2 + sigma^2 = 1; a quarter of log sigma for `edm`, where alpha = 1; a thousand times sigma for `flow`, where
alpha = 1 - sigma.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

STEPS = 1000
"""Of the discrete schedules, and the largest timestep of `flow`; as many stand for all where time is continuous."""
LARGEST_BETA = 0.999
"""Of the cosine and the sigmoid schedule, whose last step would leave nothing (Nichol and Dhariwal, section 3.2)."""


class Schedule(Protocol):
    """What is asked of a noise schedule."""

    @property
    def steps(self) -> int:
        """How many timesteps there are at most, or where time is continuous, how many stand for all."""
        ...

    def level(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """Alpha and sigma, float32, of timesteps of any shape."""
        ...

    def draw(self, uniform: Tensor) -> Tensor:
        """The timesteps to train at, from numbers that are uniform in [0, 1)."""
        ...

    def timesteps(self, steps: int) -> Tensor:
        """The timesteps (steps,) to sample at, the noisiest first; after the last one there is no noise any more.

        Raises:
            ValueError: there are not so many.
        """
        ...


@dataclass(frozen=True)
class Discrete:
    """Steps of which each replaces a part of the variance, beta, by noise; `alpha_bar` is what is left after each."""

    alpha_bar: Tensor
    """(steps,) float64, falling."""

    def __post_init__(self) -> None:
        """Refuse steps without noise, or without image, as far as float32 can tell: no way leads back from there.

        Raises:
            ValueError: there is such a step.
        """
        lost = ~torch.stack(self.level(torch.arange(self.steps))).gt(0).all(0)
        if lost.any():
            step = int(lost.nonzero()[0])
            raise ValueError(
                f"these options leave {float(self.alpha_bar[step]):g} of the variance at step {step}, which must lie "
                "between 0 and 1; choose some nearer to the usual ones"
            )

    @property
    def steps(self) -> int:
        """See `Schedule`."""
        return len(self.alpha_bar)

    def level(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule`; timesteps are int64."""
        kept = self.alpha_bar.to(timestep.device)[timestep]
        return kept.sqrt().float(), (1 - kept).sqrt().float()

    def draw(self, uniform: Tensor) -> Tensor:
        """Each step as often."""
        return (uniform * self.steps).long()

    def timesteps(self, steps: int) -> Tensor:
        """Evenly spaced from the last one on, so that sampling begins at noise: Lin et al., 2023, table 2, trailing."""
        if not 1 <= steps <= self.steps:
            raise ValueError(f"steps {steps} is not in 1 to {self.steps}, the number of the schedule's own")
        return (self.steps - torch.arange(steps, dtype=torch.float64) * self.steps / steps).round().long() - 1


def _between(low: float, high: float, **options: float) -> None:
    """Refuse options that are not numbers between two others."""
    for name, value in options.items():
        if not low < value < high:
            raise ValueError(f"schedule option {name} {value} must lie between {low:g} and {high:g}")


def _whole(steps: float) -> None:
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"schedule option steps {steps} must be a whole number, 1 or more")


def linear(start: float = 1e-4, end: float = 0.02, steps: int = STEPS) -> Discrete:
    """Betas on a straight line: Ho et al., 2020, "Denoising diffusion probabilistic models", section 4."""
    _between(0, 1, start=start, end=end)
    _whole(steps)
    return Discrete((1 - torch.linspace(start, end, steps, dtype=torch.float64)).cumprod(0))


def scaled_linear(start: float = 8.5e-4, end: float = 0.012, steps: int = STEPS) -> Discrete:
    """Roots of betas on a straight line, for latents: the code of Rombach et al., 2022, and of Stable Diffusion."""
    _between(0, 1, start=start, end=end)
    _whole(steps)
    return Discrete((1 - torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64).square()).cumprod(0))


def cosine(offset: float = 0.008, steps: int = STEPS) -> Discrete:
    """A squared cosine: Nichol and Dhariwal, 2021, "Improved denoising diffusion probabilistic models", equation 17."""
    if not 0 <= offset < math.inf:
        raise ValueError(f"schedule option offset {offset} must be 0 or more")
    return _from_curve(lambda time: ((time + offset) / (1 + offset) * math.pi / 2).cos().square(), steps)


def sigmoid(start: float = -3.0, end: float = 3.0, temperature: float = 1.0, steps: int = STEPS) -> Discrete:
    """A piece of a sigmoid: Jabri et al., 2022, "Scalable adaptive computation for iterative generation", figure 3."""
    _between(0, math.inf, temperature=temperature)
    _between(-math.inf, end, start=start)

    def curve(time: Tensor) -> Tensor:
        first, last = (torch.tensor(end_ / temperature, dtype=torch.float64).sigmoid() for end_ in (start, end))
        return (last - ((time * (end - start) + start) / temperature).sigmoid()) / (last - first)

    return _from_curve(curve, steps)


def _from_curve(alpha_bar: Callable[[Tensor], Tensor], steps: int) -> Discrete:
    """A schedule whose alpha_bar follows a curve over the times 0 to 1."""
    _whole(steps)
    curve = alpha_bar(torch.arange(steps + 1, dtype=torch.float64) / steps)
    return Discrete((1 - (1 - curve[1:] / curve[:-1]).clamp(max=LARGEST_BETA)).cumprod(0))


@dataclass(frozen=True, kw_only=True)
class EDM:
    """Noise of any size is added: Karras et al., 2022, "Elucidating the design space of diffusion-based models"."""

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    rho: float = 7.0
    """How much of the sampling goes into small noise; table 1."""
    log_mean: float = -1.2
    log_std: float = 1.2
    """Of log sigma in training; table 1."""

    def __post_init__(self) -> None:
        """Refuse noise of no size, and steps that do not lead from the largest to the smallest."""
        _between(0, math.inf, sigma_max=self.sigma_max, rho=self.rho, log_std=self.log_std)
        _between(0, self.sigma_max, sigma_min=self.sigma_min)
        _between(-math.inf, math.inf, log_mean=self.log_mean)

    @property
    def steps(self) -> int:
        """See `Schedule`."""
        return STEPS

    def level(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule`."""
        return torch.ones_like(timestep, dtype=torch.float32), (4 * timestep).exp().float()

    def draw(self, uniform: Tensor) -> Tensor:
        """Such that log sigma is normally distributed."""
        return (self.log_mean + self.log_std * torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))) / 4

    def timesteps(self, steps: int) -> Tensor:
        """Evenly spaced in the rho-th root of sigma: equation 5."""
        if steps < 1:
            raise ValueError(f"steps {steps} is below 1")
        root = torch.linspace(self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho), steps)
        return self.rho * root.double().log().float() / 4


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A straight line from image to noise: Lipman et al., 2023, "Flow matching for generative modeling"."""

    shift: float = 1.0
    """Above 1, more of the steps at large noise, as large images want: Esser et al., 2024, equation 23."""
    logit_normal: bool = False
    """Whether training prefers the middle, by a standard normal logit of sigma: Esser et al., 2024, section 3.1."""

    def __post_init__(self) -> None:
        """Refuse a shift that leads nowhere."""
        _between(0, math.inf, shift=self.shift)

    @property
    def steps(self) -> int:
        """See `Schedule`."""
        return STEPS

    def level(self, timestep: Tensor) -> tuple[Tensor, Tensor]:
        """See `Schedule`."""
        sigma = timestep.float() / STEPS
        return 1 - sigma, sigma

    def draw(self, uniform: Tensor) -> Tensor:
        """Evenly from the line, or from its middle."""
        time = torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6)).sigmoid() if self.logit_normal else uniform
        return STEPS * self._shifted(time)

    def timesteps(self, steps: int) -> Tensor:
        """Evenly spaced from 1000 on."""
        if steps < 1:
            raise ValueError(f"steps {steps} is below 1")
        return STEPS * self._shifted(1 - torch.arange(steps) / steps)

    def _shifted(self, sigma: Tensor) -> Tensor:
        return self.shift * sigma / (1 + (self.shift - 1) * sigma)


SCHEDULES: Mapping[str, Callable[..., Schedule]] = {
    "linear": linear,
    "scaled_linear": scaled_linear,
    "cosine": cosine,
    "sigmoid": sigmoid,
    "edm": EDM,
    "flow": Flow,
}
"""Name -> what makes it, with its options."""
