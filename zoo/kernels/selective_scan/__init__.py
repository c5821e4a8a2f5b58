"""Selective scan: a linear recurrence whose coefficients depend on the input, in every channel by itself.

    h_t = exp(delta_t A) h_{t-1} + delta_t x_t B_t
    y_t = <h_t, C_t> + D x_t

Source: Gu and Dao, 2023, "Mamba: linear-time sequence modeling with selective state spaces", algorithm 2, with A
discretised by equation 4 and B by its first-order form, delta B, as in the released code.

The chunked form is the recurrence too, so it is as exact: in float32 outputs, final states and gradients are within
1e-6 of a float64 recurrence, relative to their largest value, for sequences of 4096 steps.
"""

from torch import Tensor

from zoo.kernels.op import Op
from zoo.kernels.selective_scan.chunked import selective_scan as chunked
from zoo.kernels.selective_scan.reference import selective_scan as reference
from zoo.kernels.shapes import check_shape


def selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run every channel's recurrence over a sequence of at least one step.

    Args:
        x: (batch, seq, channels).
        delta: (batch, seq, channels), positive: how much time passes at a step.
        A: (channels, state_dim), negative: how fast the state decays.
        B: (batch, seq, state_dim), how the input enters the state.
        C: (batch, seq, state_dim), how the state is read.
        D: (channels,), what of the input passes by the state.
        state: (batch, channels, state_dim), what an earlier part of the sequence left; zeros when not given.

    Returns:
        (batch, seq, channels) in x's dtype, and the state after the last step, (batch, channels, state_dim) in
        float32, as all of it is computed; for float64 inputs both are float64.

    Raises:
        ValueError: an argument has another shape, or the sequence no step.
    """
    batch, seq, channels = check_shape("x", x, batch=None, seq=None, channels=None)
    if seq == 0:
        raise ValueError(f"x must be (batch, seq, channels) with seq at least 1, got the shape {tuple(x.shape)}")
    check_shape("delta", delta, batch=batch, seq=seq, channels=channels)
    _, state_dim = check_shape("A", A, channels=channels, state_dim=None)
    check_shape("B", B, batch=batch, seq=seq, state_dim=state_dim)
    check_shape("C", C, batch=batch, seq=seq, state_dim=state_dim)
    check_shape("D", D, channels=channels)
    check_shape("state", state, batch=batch, channels=channels, state_dim=state_dim)
    return OP(x, delta, A, B, C, D, state)


OP = Op(name="selective_scan", reference=reference, chunked=chunked)
