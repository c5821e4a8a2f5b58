"""Inputs of the residual connection with its norm."""

from functools import partial

import torch
from torch import Tensor

from zoo.kernels.op import Case


def _make(*shape: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(shape), torch.randn(shape), torch.rand(shape[-1]) + 0.5


def _transposed() -> tuple[Tensor, Tensor, Tensor]:
    x, residual, weight = _make(5, 6, 48)
    return x.transpose(0, 1), residual.reshape(6, 5, 48), weight


def _bytes(rows: int, dim: int, size: int) -> int:
    return (4 * rows * dim + dim) * size


CASES = (
    *(
        Case(name="x".join(map(str, shape)), make=partial(_make, *shape))
        for shape in ((1, 1), (5, 7), (2, 3, 129), (4, 768), (4, 1000), (2, 8192), (1, 8191), (48,), (0, 8), (2, 0, 8))
    ),
    Case(name="transposed", make=_transposed),
    Case(name="large_eps", make=partial(_make, 5, 64), options={"eps": 0.5}),
    *(
        Case(name=f"16384x{dim}", make=partial(_make, 16384, dim), bytes_moved=partial(_bytes, 16384, dim))
        for dim in (768, 4096, 8192)
    ),
)
