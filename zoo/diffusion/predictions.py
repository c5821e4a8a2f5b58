"""What a network may predict of x = alpha image + sigma noise: in each case a sum, c image + d noise.

So a prediction is a pair of numbers at each level of noise, and image and noise are found again from x and the output
by one solution of two linear equations.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

DATA_STD = 0.5
"""The standard deviation of images in [-1, 1], as EDM takes it; table 1 there."""


class Prediction(NamedTuple):
    """How a network is asked."""

    target: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
    """Alpha and sigma -> c and d of what it is to predict."""
    scale: Callable[[Tensor, Tensor], Tensor] = lambda alpha, sigma: torch.ones_like(sigma)
    """Alpha and sigma -> by what x is multiplied before it is shown to the network."""


def _edm(alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    """What is left of the image when a share of x is skipped past the network; Karras et al., 2022, equation 7."""
    variance = sigma.square() + DATA_STD**2
    skip, out = DATA_STD**2 / variance, sigma * DATA_STD * variance.rsqrt()
    return (1 - skip * alpha) / out, -skip * sigma / out


PREDICTIONS: Mapping[str, Prediction] = {
    "noise": Prediction(lambda alpha, sigma: (torch.zeros_like(alpha), torch.ones_like(sigma))),
    "x0": Prediction(lambda alpha, sigma: (torch.ones_like(alpha), torch.zeros_like(sigma))),
    "v": Prediction(lambda alpha, sigma: (-sigma, alpha)),
    "velocity": Prediction(lambda alpha, sigma: (-torch.ones_like(alpha), torch.ones_like(sigma))),
    "edm": Prediction(_edm, lambda alpha, sigma: (sigma.square() + DATA_STD**2).rsqrt()),
}
"""`noise`: Ho et al., 2020. `x0`: the image. `v`: Salimans and Ho, 2022. `velocity`, from image to noise: Lipman et
al., 2023. `edm`: Karras et al., 2022, for the schedule `edm` alone."""
