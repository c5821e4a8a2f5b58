"""Inputs of the gated linear unit with the SiLU."""

from functools import partial

import torch
from torch import Tensor

from zoo.kernels.op import Case


def _make(*shape: int) -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(shape), torch.randn(shape)


def _halves(*shape: int) -> tuple[Tensor, Tensor]:
    """Gate and up as one projection leaves them."""
    gate, up = (3 * torch.randn(*shape[:-1], 2 * shape[-1])).chunk(2, -1)
    return gate, up


def _transposed() -> tuple[Tensor, Tensor]:
    gate, up = _make(5, 48)
    return gate.reshape(48, 5).t(), up


def _bytes(rows: int, dim: int, size: int) -> int:
    return 3 * rows * dim * size


CASES = (
    *(
        Case(name="x".join(map(str, shape)), make=partial(_make, *shape))
        for shape in ((1, 1), (5, 7), (2, 3, 129), (3, 2048), (48,), (0, 8), (2, 0, 8), (3, 0))
    ),
    *(
        Case(name=f"halves_{'x'.join(map(str, shape))}", make=partial(_halves, *shape))
        for shape in ((2, 3, 17), (2, 1536), (0, 8))
    ),
    Case(name="transposed", make=_transposed),
    Case(name="16384x11008", make=partial(_make, 16384, 11008), bytes_moved=partial(_bytes, 16384, 11008)),
)
