"""Inputs of the state-space dual scan."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.kernels.op import Case


def _make(
    batch: int, seq: int, heads: int, head_dim: int, groups: int, state_dim: int, skip: bool, state: bool
) -> tuple[Tensor | None, ...]:
    return (
        torch.randn(batch, seq, heads, head_dim),
        F.softplus(1.5 * torch.randn(batch, seq, heads) - 2),  # mostly between .01 and 1, as a trained model's
        -torch.empty(heads).uniform_(1, 16),
        torch.randn(batch, seq, groups, state_dim),
        torch.randn(batch, seq, groups, state_dim),
        torch.randn(heads) if skip else None,
        torch.randn(batch, heads, head_dim, state_dim) if state else None,
    )


def _bytes(batch: int, seq: int, heads: int, head_dim: int, state_dim: int, size: int) -> int:
    """Outputs, x, delta, B and C of one group; and the final state, which is float32."""
    steps = batch * seq * (2 * heads * head_dim + heads + 2 * state_dim) * size
    return steps + batch * heads * head_dim * state_dim * 4


CASES = tuple(
    Case(name=name, make=partial(_make, *sizes))
    for name, sizes in {
        "one step": (2, 1, 2, 4, 1, 8, True, False),
        "one step after others": (2, 1, 2, 4, 1, 8, True, True),
        "no skip": (1, 15, 3, 5, 1, 7, False, True),
        "more than a chunk": (2, 131, 3, 4, 1, 5, True, True),
        "heads in groups": (2, 70, 6, 3, 3, 4, True, True),
        "from the start": (2, 64, 6, 8, 2, 16, True, False),
        "empty batch": (0, 70, 2, 8, 1, 16, True, True),
    }.items()
) + tuple(
    Case(
        name=f"8x4096x{heads}x64",
        make=partial(_make, 8, 4096, heads, 64, 1, 128, True, False),
        bytes_moved=partial(_bytes, 8, 4096, heads, 64, 128),
    )
    for heads in (24, 80)
)
