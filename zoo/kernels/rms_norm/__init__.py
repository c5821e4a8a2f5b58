"""Root-mean-square norm: y = x / sqrt(mean(x²) + eps) · weight.

Source: Zhang and Sennrich, 2019, "Root mean square layer normalization", equation 4.
"""

from torch import Tensor

from zoo.kernels.op import Op
from zoo.kernels.rms_norm.reference import rms_norm as reference

WIDEST = 8192
"""Features of a vector: the kernel holds one in the registers of a program."""


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale every vector to a root mean square of 1, then each of its features by a weight.

    y = x / sqrt(mean(x²) + eps) · weight, the mean over the last axis.

    Args:
        x: (..., dim).
        weight: (dim,), of any floating dtype: float32 weights go with activations in half precision.
        eps: added to the mean square.

    Returns:
        (..., dim) in x's dtype. All implementations compute in float32 at least and round once; their errors, in
        values and gradients, are within twice the reference's own.

    Raises:
        RuntimeError: the weight has another shape.
    """
    return OP(x, weight, eps)


def refuses(x: Tensor, weight: Tensor) -> str | None:
    """Why no kernel can normalise x with this weight, or None if it can."""
    dim = x.shape[-1]
    if weight.shape != (dim,):
        return f"the weight's shape is {tuple(weight.shape)}, not ({dim},)"
    if not 0 < dim <= WIDEST:
        return f"vectors of {dim} features are not between 1 and the {WIDEST} that a program holds"
    return None


def _fused(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    from zoo.kernels.rms_norm.fused import rms_norm

    return rms_norm(x, weight, eps)[0]


OP = Op(name="rms_norm", reference=reference, fused=_fused, refuses=lambda x, weight, _: refuses(x, weight))
