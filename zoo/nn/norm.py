"""The root-mean-square norm as a module."""

import torch
from torch import Tensor, nn

from zoo import kernels


class RMSNorm(nn.Module):
    """Scales vectors to a root mean square of 1, and each of their features by a weight; see `kernels.rms_norm`."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return kernels.rms_norm(x, self.weight, self.eps)
