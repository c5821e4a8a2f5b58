"""The rotary position embedding as one Triton kernel, whose backward pass is the rotation by the negative angle.

A program rotates several heads at one position, with cosines and sines that it reads once. Heads and positions may lie
in either order in memory, and the result has them in x's order.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoo.kernels.launch import on_device, options

TILE = 2048
"""Pairs of features that a program rotates at the most."""


@triton.jit
def _kernel(
    x_ptr, cos_ptr, sin_ptr, y_ptr, heads, seq, half, x_batch, x_head, x_seq, y_batch, y_head, y_seq,
    BACK: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    batch = (tl.program_id(0) // seq).to(tl.int64)
    position = (tl.program_id(0) % seq).to(tl.int64)
    head = tl.program_id(1).to(tl.int64) * HEADS + tl.arange(0, HEADS)[:, None]
    pair = tl.arange(0, HALF)[None, :]
    inside = (head < heads) & (pair < half)
    cos = tl.load(cos_ptr + position * half + pair, mask=pair < half, other=0.0).to(tl.float32)
    sin = tl.load(sin_ptr + position * half + pair, mask=pair < half, other=0.0).to(tl.float32)
    if BACK:
        sin = -sin
    x_ptr += batch * x_batch + position * x_seq + head * x_head + pair
    y_ptr += batch * y_batch + position * y_seq + head * y_head + pair
    first = tl.load(x_ptr, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(x_ptr + half, mask=inside, other=0.0).to(tl.float32)
    tl.store(y_ptr, (first * cos - second * sin).to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(y_ptr + half, (second * cos + first * sin).to(y_ptr.dtype.element_ty), mask=inside)


def _output(x: Tensor) -> Tensor:
    batch, heads, seq, head_dim = x.shape
    if x.stride(1) < x.stride(2):
        return x.new_empty(batch, seq, heads, head_dim).transpose(1, 2)
    return x.new_empty(x.shape)


@torch.library.custom_op("zoo::rope", mutates_args=())
def rope(x: Tensor, cos: Tensor, sin: Tensor, back: bool = False) -> Tensor:
    """The rotated heads; `back` rotates by the negative angles."""
    y = _output(x)
    x = x if x.stride(-1) == 1 else x.contiguous()
    batch, heads, seq, head_dim = x.shape
    half = head_dim // 2
    pairs = triton.next_power_of_2(half)
    block = min(triton.next_power_of_2(heads), TILE // pairs) if heads else 1
    with on_device(x):
        _kernel[(batch * seq, triton.cdiv(heads, block))](
            x, cos.contiguous(), sin.contiguous(), y, heads, seq, half,
            x.stride(0), x.stride(1), x.stride(2), y.stride(0), y.stride(1), y.stride(2),
            **options(block * pairs, BACK=back, HEADS=block, HALF=pairs),
        )  # fmt: skip
    return y


@rope.register_fake
def _(x: Tensor, cos: Tensor, sin: Tensor, back: bool = False) -> Tensor:
    return _output(x)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, cos, sin, ctx.back = inputs
    ctx.save_for_backward(cos, sin)


def _backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None, None]:
    return rope(dy, *ctx.saved_tensors, not ctx.back), None, None, None


rope.register_autograd(_backward, setup_context=_setup_context)
