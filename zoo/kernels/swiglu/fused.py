"""The gated linear unit with the SiLU as two Triton kernels, number by number.

The backward pass computes the gate's sigmoid s again rather than to keep silu(gate) for it: dup = dy · gate · s and
dgate = dy · up · s · (1 + gate · (1 - s)). Gate and up are often the two halves of one projection, so the rows of each
may lie apart; tensors without gaps are one row.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoo.kernels.launch import differentiable_once, on_device, options

BLOCK = 1024


@triton.jit
def _place(dim, blocks, BLOCK: tl.constexpr):
    """The row of this program, its columns, and which of them there are."""
    row = (tl.program_id(0) // blocks).to(tl.int64)
    column = (tl.program_id(0) % blocks).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    return row, column, column < dim


@triton.jit
def _forward_kernel(gate_ptr, up_ptr, y_ptr, dim, blocks, gate_row, up_row, BLOCK: tl.constexpr):
    row, column, inside = _place(dim, blocks, BLOCK)
    gate = tl.load(gate_ptr + row * gate_row + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_row + column, mask=inside, other=0.0).to(tl.float32)
    y = gate * tl.sigmoid(gate) * up
    tl.store(y_ptr + row * dim + column, y.to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(
    dy_ptr, gate_ptr, up_ptr, dgate_ptr, dup_ptr, dim, blocks, dy_row, gate_row, up_row, BLOCK: tl.constexpr
):
    row, column, inside = _place(dim, blocks, BLOCK)
    dy = tl.load(dy_ptr + row * dy_row + column, mask=inside, other=0.0).to(tl.float32)
    gate = tl.load(gate_ptr + row * gate_row + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(up_ptr + row * up_row + column, mask=inside, other=0.0).to(tl.float32)
    s = tl.sigmoid(gate)
    dgate = dy * up * s * (1 + gate * (1 - s))
    dup = dy * gate * s
    tl.store(dgate_ptr + row * dim + column, dgate.to(dgate_ptr.dtype.element_ty), mask=inside)
    tl.store(dup_ptr + row * dim + column, dup.to(dup_ptr.dtype.element_ty), mask=inside)


def _rows(*tensors: Tensor) -> list[Tensor]:
    """The tensors as matrices whose rows have no gaps, as few rows as all of them allow."""
    if all(tensor.is_contiguous() for tensor in tensors):
        return [tensor.view(1, -1) for tensor in tensors]
    matrices = [tensor.reshape(-1, tensor.shape[-1]) for tensor in tensors]  # copies where no such rows exist
    return [matrix if matrix.stride(1) == 1 else matrix.contiguous() for matrix in matrices]


def _blocks(matrix: Tensor) -> int:
    return triton.cdiv(matrix.shape[1], BLOCK)


@torch.library.custom_op("zoo::swiglu", mutates_args=())
def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) · up, without gaps."""
    y = gate.new_empty(gate.shape, dtype=torch.promote_types(gate.dtype, up.dtype))
    g, u = _rows(gate, up)
    rows, dim, blocks = len(g), g.shape[1], _blocks(g)
    with on_device(y):
        _forward_kernel[(rows * blocks,)](g, u, y, dim, blocks, g.stride(0), u.stride(0), **options(BLOCK, BLOCK=BLOCK))
    return y


@swiglu.register_fake
def _(gate: Tensor, up: Tensor) -> Tensor:
    return gate.new_empty(gate.shape, dtype=torch.promote_types(gate.dtype, up.dtype))


@torch.library.custom_op("zoo::swiglu_backward", mutates_args=())
def _swiglu_backward(dy: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    dgate, dup = gate.new_empty(gate.shape), up.new_empty(up.shape)
    d, g, u = _rows(dy, gate, up)
    rows, dim, blocks = len(g), g.shape[1], _blocks(g)
    with on_device(gate):
        _backward_kernel[(rows * blocks,)](
            d, g, u, dgate, dup, dim, blocks, d.stride(0), g.stride(0), u.stride(0), **options(BLOCK, BLOCK=BLOCK)
        )
    return dgate, dup


@_swiglu_backward.register_fake
def _(dy: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    return gate.new_empty(gate.shape), up.new_empty(up.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
    return _swiglu_backward(dy, *ctx.saved_tensors)


swiglu.register_autograd(_backward, setup_context=_setup_context)
differentiable_once(_swiglu_backward, "swiglu")
