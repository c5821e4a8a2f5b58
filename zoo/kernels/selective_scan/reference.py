"""The definition of the selective scan: a loop over time."""

import torch
from torch import Tensor


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """One step after the other, each with tensors of its own (a slice's gradient would be as large as its source)."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    inputs, delta, A, B, C = (tensor.to(dtype) for tensor in (x, delta, A, B, C))
    h = x.new_zeros(x.shape[0], *A.shape, dtype=dtype) if state is None else state.to(dtype)
    outputs = []
    for x_t, delta_t, B_t, C_t in zip(inputs.unbind(1), delta.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        decay = torch.exp(delta_t.unsqueeze(-1) * A)  # (batch, channels, state_dim), as h
        h = decay * h + (delta_t * x_t).unsqueeze(-1) * B_t.unsqueeze(1)
        outputs.append((h * C_t.unsqueeze(1)).sum(-1))
    y = torch.stack(outputs, 1)
    return (y if D is None else y + D * inputs).to(x.dtype), h
