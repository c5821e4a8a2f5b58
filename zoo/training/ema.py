"""An exponential moving average of a model's weights, kept as a second model.

Source: Polyak & Juditsky, 1992; the ramp of the decay follows the usual (1 + step) / (10 + step).
"""

import copy

import torch
from torch import nn


class MovingAverage:
    """The average, as a model in eval mode that shares nothing with the one it follows."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        """Start from the model as it is.

        Args:
            model: what to follow.
            decay: how much of the average stays at each step, once warm.
        """
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the model: floating-point parameters and buffers are averaged, counters copied."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        average, current = self.model.state_dict(keep_vars=True), model.state_dict(keep_vars=True)
        unique = {value.data_ptr(): name for name, value in average.items() if value.is_floating_point()}
        names = list(unique.values())  # a tied tensor has two names but is moved once
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            [average[n].data for n in names], [current[n].data for n in names], weight
        )
        for name, value in average.items():
            if not value.is_floating_point():
                value.copy_(current[name])
