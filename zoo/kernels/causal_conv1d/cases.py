"""Inputs of the causal convolution."""

from functools import partial

import torch
from torch import Tensor

from zoo.kernels.op import Case


def _make(batch: int, seq: int, channels: int, width: int, bias: bool, state: bool) -> tuple[Tensor | None, ...]:
    return (
        torch.randn(batch, seq, channels),
        torch.randn(channels, width) / width**0.5,
        torch.randn(channels) if bias else None,
        torch.randn(batch, width - 1, channels) if state else None,
    )


def _bytes(batch: int, seq: int, channels: int, width: int, size: int) -> int:
    return (2 * batch * seq * channels + channels * (width + 1)) * size


CASES = tuple(
    Case(name=name, make=partial(_make, *sizes))
    for name, sizes in {
        "one step": (2, 1, 6, 4, True, False),
        "one step after others": (2, 1, 6, 4, True, True),
        "shorter than the kernel": (3, 2, 5, 4, True, True),
        "no bias": (2, 17, 129, 4, False, False),
        "one tap": (2, 5, 7, 1, True, True),
        "odd sizes": (1, 63, 33, 3, True, True),
        "empty batch": (0, 8, 4, 4, True, True),
    }.items()
) + tuple(
    Case(
        name=f"8x{seq}x{channels}",
        make=partial(_make, 8, seq, channels, 4, True, False),
        bytes_moved=partial(_bytes, 8, seq, channels, 4),
    )
    for seq, channels in ((2048, 1536), (2048, 5120))
)
