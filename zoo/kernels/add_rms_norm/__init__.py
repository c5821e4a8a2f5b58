"""Residual connection and root-mean-square norm: h = x + residual, y = h / sqrt(mean(h²) + eps) · weight.

Source: Zhang and Sennrich, 2019, "Root mean square layer normalization", equation 4, after the sum that precedes it in
every pre-norm transformer: as one operation it writes h and does not read it back.
"""

from torch import Tensor

from zoo.kernels.add_rms_norm.reference import add_rms_norm as reference
from zoo.kernels.op import Op
from zoo.kernels.rms_norm import refuses as norm_refuses


def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Add what a block computed to the residual stream, and norm the sum for the next block.

    h = x + residual, y = h / sqrt(mean(h²) + eps) · weight, the mean over the last axis.

    Args:
        x: (..., dim).
        residual: (..., dim), of any floating dtype: under autocast it is float32 beside an x in half precision.
        weight: (dim,), of any floating dtype.
        eps: added to the mean square.

    Returns:
        y and h: (..., dim) each, in the dtype that the sum has. The norm reads h as it is returned, rounded to its
        dtype. All implementations compute in float32 at least; their errors, in values and gradients, are within twice
        the reference's own.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    return OP(x, residual, weight, eps)


def _refuses(x: Tensor, residual: Tensor, weight: Tensor, _: float) -> str | None:
    if x.shape != residual.shape:
        return f"the residual's shape is {tuple(residual.shape)}, not {tuple(x.shape)}"
    return norm_refuses(x, weight)


def _fused(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    from zoo.kernels.add_rms_norm.fused import add_rms_norm

    y, h, _ = add_rms_norm(x, residual, weight, eps)
    return y, h


OP = Op(name="add_rms_norm", reference=reference, fused=_fused, refuses=_refuses)
