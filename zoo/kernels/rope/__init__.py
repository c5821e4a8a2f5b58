"""Rotary position embedding: every pair of features turns by an angle that grows with the position.

Source: Su et al., 2021, "RoFormer", equation 34, with the pairs as GPT-NeoX and Llama's checkpoints on the Hub have
them: feature i goes with feature i + head_dim / 2.
"""

from torch import Tensor

from zoo.kernels.op import Op
from zoo.kernels.rope.reference import rope as reference

WIDEST = 1024
"""Features of a head: the kernel holds one in the registers of a program."""


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the first half of each head's features against the second half.

    y₁ = x₁ · cos - x₂ · sin and y₂ = x₂ · cos + x₁ · sin, where x₁ and x₂ are the halves of x's last axis.

    Args:
        x: (batch, heads, seq, head_dim), contiguous or a transposed view of (batch, seq, heads, head_dim).
        cos: (seq, head_dim / 2), the cosines of the angles, of any floating dtype.
        sin: (seq, head_dim / 2), their sines.

    Returns:
        (batch, heads, seq, head_dim) in x's dtype. All implementations compute in float32 at least and round once;
        their errors, in values and gradients, are within twice the reference's own.

    Raises:
        RuntimeError: the shapes do not fit.
    """
    return OP(x, cos, sin)


def _refuses(x: Tensor, cos: Tensor, sin: Tensor) -> str | None:
    if x.ndim != 4:
        return f"x has {x.ndim} axes, not the four of (batch, heads, seq, head_dim)"
    seq, head_dim = x.shape[2:]
    if not 0 < head_dim <= WIDEST or head_dim % 2:
        return f"heads of {head_dim} features are not even and between 2 and the {WIDEST} that a program holds"
    if cos.shape != (seq, head_dim // 2) or sin.shape != cos.shape:
        return f"cos and sin are {tuple(cos.shape)} and {tuple(sin.shape)}, not {(seq, head_dim // 2)}"
    if cos.requires_grad or sin.requires_grad:
        return "cos or sin wants a gradient, which the kernel does not compute"
    return None


def _fused(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    from zoo.kernels.rope.fused import rope

    return rope(x, cos, sin)


OP = Op(name="rope", reference=reference, fused=_fused, refuses=_refuses)
