"""The definition of the residual connection with its norm."""

from torch import Tensor

from zoo.kernels.rms_norm.reference import rms_norm


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm reads the sum as it is stored, rounded to its dtype."""
    h = x + residual
    return rms_norm(h, weight, eps), h
