"""Inputs of the rotary position embedding."""

from functools import partial

import torch
from torch import Tensor

from zoo.kernels.op import Case


def _make(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Heads as a projection leaves them: a transposed view of (batch, seq, heads, head_dim)."""
    x, cos, sin = _contiguous(*shape)
    return x.transpose(1, 2).contiguous().transpose(1, 2), cos, sin


def _contiguous(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    seq, half = shape[2], shape[3] // 2
    angle = torch.arange(seq)[:, None] * 1000.0 ** -torch.linspace(0, 1, half)
    return torch.randn(shape), angle.cos(), angle.sin()


def _slice(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """The queries within the one projection of queries, keys and values."""
    batch, heads, seq, head_dim = shape
    _, cos, sin = _contiguous(*shape)
    query, _, _ = torch.randn(batch, seq, 3 * heads, head_dim).chunk(3, 2)
    return query.transpose(1, 2), cos, sin


def _strided(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features that do not lie side by side."""
    x, cos, sin = _contiguous(*shape)
    return x.transpose(2, 3).contiguous().transpose(2, 3), cos, sin


def _bytes(batch: int, heads: int, seq: int, head_dim: int, size: int) -> int:
    return (2 * batch * heads + 1) * seq * head_dim * size


CASES = (
    *(
        Case(name="x".join(map(str, shape)), make=partial(_make, *shape))
        for shape in (
            (1, 1, 1, 2),
            (2, 3, 5, 14),
            (1, 8, 4, 128),
            (1, 40, 2, 96),
            (2, 2, 3, 258),
            (0, 2, 3, 8),
            (1, 2, 0, 8),
        )
    ),
    Case(name="contiguous", make=partial(_contiguous, 2, 3, 5, 16)),
    Case(name="slice", make=partial(_slice, 2, 3, 5, 16)),
    Case(name="strided", make=partial(_strided, 2, 3, 5, 16)),
    *(
        Case(
            name=f"8x{heads}x2048x128",
            make=partial(_make, 8, heads, 2048, 128),
            bytes_moved=partial(_bytes, 8, heads, 2048, 128),
        )
        for heads in (8, 32)
    ),
)
