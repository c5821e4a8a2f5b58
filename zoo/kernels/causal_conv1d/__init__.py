"""Causal depthwise convolution, then SiLU: y_t = silu(bias + Σ_k weight_k x_{t - width + 1 + k}), 0 <= k < width.

Source: Gu and Dao, 2023, "Mamba: linear-time sequence modeling with selective state spaces", figure 3.
"""

from torch import Tensor

from zoo.kernels.causal_conv1d.reference import causal_conv1d as reference
from zoo.kernels.op import Op
from zoo.kernels.shapes import check_shape


def causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mix every channel's last `width` inputs, and apply SiLU.

    Args:
        x: (batch, seq, channels).
        weight: (channels, width); the last column weighs the present.
        bias: (channels,).
        state: (batch, width - 1, channels), the inputs before the first one; zeros when not given.

    Returns:
        (batch, seq, channels) in x's dtype, summed in float32 at least, and the last width - 1 inputs as the state for
        what follows. They are inputs as they were, so they keep x's dtype.

    Raises:
        ValueError: an argument has another shape, or the weight no column.
    """
    batch, _, channels = check_shape("x", x, batch=None, seq=None, channels=None)
    _, width = check_shape("weight", weight, channels=channels, width=None)
    if width == 0:
        raise ValueError(f"weight must be (channels, width) with width at least 1, got the shape {tuple(weight.shape)}")
    check_shape("bias", bias, channels=channels)
    check_shape("state", state, batch=batch, past=width - 1, channels=channels)
    return OP(x, weight, bias, state)


OP = Op(name="causal_conv1d", reference=reference)
