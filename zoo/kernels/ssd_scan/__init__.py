"""State-space dual scan: a linear recurrence over matrices, whose decay is one number per head and step.

    h_t = exp(delta_t A) h_{t-1} + delta_t x_t B_tᵀ
    y_t = h_t C_t + D x_t

Source: Dao and Gu, 2024, "Transformers are SSMs: generalized models and efficient algorithms through structured state
space duality", section 6 and listing 1.

The chunked form is the paper's block decomposition with its exponents summed in float64: in float32 outputs, final
states and gradients are within 1e-6 of a float64 recurrence, relative to their largest value, for 4096 steps.
"""

from torch import Tensor

from zoo.kernels.op import Op
from zoo.kernels.shapes import check_shape
from zoo.kernels.ssd_scan.chunked import ssd_scan as chunked
from zoo.kernels.ssd_scan.reference import ssd_scan as reference


def ssd_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run every head's recurrence over a sequence of at least one step.

    Args:
        x: (batch, seq, heads, head_dim).
        delta: (batch, seq, heads), positive: how much time passes at a step.
        A: (heads,), negative: how fast the state decays.
        B: (batch, seq, groups, state_dim), how the input enters the state; consecutive heads share a group, and groups
            divides heads.
        C: (batch, seq, groups, state_dim), how the state is read.
        D: (heads,), what of the input passes by the state.
        state: (batch, heads, head_dim, state_dim), what an earlier part of the sequence left; zeros when not given.

    Returns:
        (batch, seq, heads, head_dim) in x's dtype, and the state after the last step, (batch, heads, head_dim,
        state_dim) in float32, as all of it is computed; for float64 inputs both are float64.

    Raises:
        ValueError: an argument has another shape, the sequence no step, or the groups do not divide the heads.
    """
    batch, seq, heads, head_dim = check_shape("x", x, batch=None, seq=None, heads=None, head_dim=None)
    if seq == 0:
        raise ValueError(f"x must be (batch, seq, heads, head_dim) with seq at least 1, got the shape {tuple(x.shape)}")
    check_shape("delta", delta, batch=batch, seq=seq, heads=heads)
    check_shape("A", A, heads=heads)
    _, _, groups, state_dim = check_shape("B", B, batch=batch, seq=seq, groups=None, state_dim=None)
    if groups == 0 or heads % groups:
        raise ValueError(f"B's {groups} groups do not divide x's {heads} heads; consecutive heads share a group")
    check_shape("C", C, batch=batch, seq=seq, groups=groups, state_dim=state_dim)
    check_shape("D", D, heads=heads)
    check_shape("state", state, batch=batch, heads=heads, head_dim=head_dim, state_dim=state_dim)
    return OP(x, delta, A, B, C, D, state)


OP = Op(name="ssd_scan", reference=reference, chunked=chunked)
