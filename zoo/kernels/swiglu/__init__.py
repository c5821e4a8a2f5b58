"""Gated linear unit with the SiLU: y = silu(gate) · up, where silu(g) = g / (1 + exp(-g)).

Source: Shazeer, 2020, "GLU variants improve transformer", equation 6 without its projections.
"""

from torch import Tensor

from zoo.kernels.op import Op
from zoo.kernels.swiglu.reference import swiglu as reference


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Let the gate decide how much of each feature passes: y = silu(gate) · up.

    The fused form keeps gate and up alone for its backward pass, where the reference also keeps silu(gate).

    Args:
        gate: (..., dim).
        up: (..., dim).

    Returns:
        (..., dim) in the dtype that the product has. The errors of all implementations, in values and gradients, are
        within twice the reference's own.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    return OP(gate, up)


def _refuses(gate: Tensor, up: Tensor) -> str | None:
    if gate.shape != up.shape:
        return f"the shapes of gate and up are {tuple(gate.shape)} and {tuple(up.shape)}, not the same"
    return "gate and up have no axis" if gate.ndim == 0 else None


def _fused(gate: Tensor, up: Tensor) -> Tensor:
    from zoo.kernels.swiglu.fused import swiglu

    return swiglu(gate, up)


OP = Op(name="swiglu", reference=reference, fused=_fused, refuses=_refuses)
