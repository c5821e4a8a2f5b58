"""Root-mean-square norm: y = x / sqrt(mean(x²) + eps) · weight.

Source: Zhang and Sennrich, 2019, "Root mean square layer normalization", equation 4.
"""

from torch import Tensor

from zoo.kernels.op import Op
from zoo.kernels.rms_norm.reference import rms_norm as reference


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale every vector to a root mean square of 1, then each of its features by a weight.

    Args:
        x: (..., dim).
        weight: (dim,).
        eps: added to the mean square.

    Returns:
        (..., dim) in x's dtype; the mean is taken in float32 at least.
    """
    return OP(x, weight, eps)


def _fused(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    from zoo.kernels.rms_norm.fused import rms_norm

    return rms_norm(x, weight, eps)


OP = Op(name="rms_norm", reference=reference, fused=_fused)
