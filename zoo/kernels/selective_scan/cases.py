"""Inputs of the selective scan."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.kernels.op import Case


def _make(batch: int, seq: int, channels: int, state_dim: int, skip: bool, state: bool) -> tuple[Tensor | None, ...]:
    return (
        torch.randn(batch, seq, channels),
        F.softplus(1.5 * torch.randn(batch, seq, channels) - 2),  # mostly between .01 and 1, as a trained model's
        -torch.arange(1.0, state_dim + 1).repeat(channels, 1),
        torch.randn(batch, seq, state_dim),
        torch.randn(batch, seq, state_dim),
        torch.randn(channels) if skip else None,
        torch.randn(batch, channels, state_dim) if state else None,
    )


def _bytes(batch: int, seq: int, channels: int, state_dim: int, size: int) -> int:
    """Outputs, x and delta, B and C; and the final state, which is float32."""
    return batch * seq * (3 * channels + 2 * state_dim) * size + batch * channels * state_dim * 4


CASES = tuple(
    Case(name=name, make=partial(_make, *sizes))
    for name, sizes in {
        "one step": (2, 1, 6, 4, True, False),
        "one step after others": (2, 1, 6, 4, True, True),
        "no skip": (1, 15, 3, 16, False, True),
        "more than a chunk": (2, 37, 17, 5, True, True),
        "from the start": (2, 32, 8, 16, True, False),
        "empty batch": (0, 20, 8, 16, True, True),
    }.items()
) + tuple(
    Case(
        name=f"{batch}x{seq}x1536",
        make=partial(_make, batch, seq, 1536, 16, True, False),
        bytes_moved=partial(_bytes, batch, seq, 1536, 16),
    )
    for batch, seq in ((8, 2048), (1, 65536))
)
