"""The definition of the state-space dual scan: a loop over time."""

import torch
from torch import Tensor


def ssd_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step after the other, each with tensors of its own (a slice's gradient would be as large as its source)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    inputs, delta, A, B, C = (tensor.to(dtype) for tensor in (x, delta, A, B, C))
    B, C = (tensor.repeat_interleave(len(A) // tensor.shape[2], 2) for tensor in (B, C))  # of each head
    h = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1], dtype=dtype) if state is None else state.to(dtype)
    outputs = []
    for x_t, delta_t, B_t, C_t in zip(inputs.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        decay = torch.exp(delta_t * A)  # (batch, heads)
        u_t = delta_t.unsqueeze(-1) * x_t  # (batch, heads, head_dim)
        h = decay[..., None, None] * h + u_t.unsqueeze(-1) * B_t.unsqueeze(-2)
        outputs.append((h * C_t.unsqueeze(-2)).sum(-1))
    y = torch.stack(outputs, 1)
    return (y if D is None else y + D.unsqueeze(-1) * inputs).to(x.dtype), h
