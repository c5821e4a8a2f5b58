"""The residual connection and its norm as two Triton kernels.

A row of the sum is in registers while its mean is taken, so the forward pass reads x and the residual once and writes
y and h once. It also keeps 1 / sqrt(mean(h²) + eps), one number a row. The backward pass reads h, not x and the
residual, whose gradients are the same. With n = h · scale and g = dy · weight: dx = scale · (g - n · mean(g · n)) + dh
and dweight = Σ dy · n over all rows.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoo.kernels.launch import differentiable_once, on_device, options, programs


@triton.jit
def _forward_kernel(x_ptr, residual_ptr, weight_ptr, y_ptr, h_ptr, scale_ptr, dim, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < dim
    start = row.to(tl.int64) * dim  # rows · dim may pass 2³¹
    x = tl.load(x_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
    residual = tl.load(residual_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(tl.float32)
    stored = (x + residual).to(h_ptr.dtype.element_ty)
    tl.store(h_ptr + start + at, stored, mask=inside)
    h = stored.to(tl.float32)  # the backward pass and the next block see the rounded sum, so the norm does too
    scale = tl.rsqrt(tl.sum(h * h, 0) / dim + eps)
    tl.store(scale_ptr + row, scale)
    tl.store(y_ptr + start + at, (h * scale * weight).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(dy_ptr, dh_ptr, h_ptr, weight_ptr, scale_ptr, dx_ptr, dweight_ptr, rows, dim, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < dim
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dweight = tl.zeros((BLOCK,), tl.float32)  # this program's share: a sum without atomics has the same order each time
    for row in range(program, rows, tl.num_programs(0)):
        start = tl.cast(row, tl.int64) * dim
        scale = tl.load(scale_ptr + row)
        n = tl.load(h_ptr + start + at, mask=inside, other=0.0).to(tl.float32) * scale
        dy = tl.load(dy_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
        dh = tl.load(dh_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
        dweight += dy * n
        g = dy * weight
        dx = (g - n * (tl.sum(g * n, 0) / dim)) * scale + dh
        tl.store(dx_ptr + start + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    tl.store(dweight_ptr + program.to(tl.int64) * dim + at, dweight, mask=inside)


@torch.library.custom_op("zoo::add_rms_norm", mutates_args=())
def add_rms_norm(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """The normed sums, the sums, and the scale of each: (..., dim) twice and (...)."""
    x, residual, weight = x.contiguous(), residual.contiguous(), weight.contiguous()
    dim = x.shape[-1]
    y = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, residual.dtype))
    h, scale = torch.empty_like(y), x.new_empty(x.shape[:-1], dtype=torch.float32)
    block = triton.next_power_of_2(dim)
    with on_device(x):
        _forward_kernel[(scale.numel(),)](x, residual, weight, y, h, scale, dim, eps, **options(block, BLOCK=block))
    return y, h, scale


@add_rms_norm.register_fake
def _(x: Tensor, residual: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    y = x.new_empty(x.shape, dtype=torch.promote_types(x.dtype, residual.dtype))
    return y, torch.empty_like(y), x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("zoo::add_rms_norm_backward", mutates_args=())
def _add_rms_norm_backward(dy: Tensor, dh: Tensor, h: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    dy, dh, weight = dy.contiguous(), dh.contiguous(), weight.contiguous()
    rows, dim = scale.numel(), h.shape[-1]
    shares = min(rows, programs(h))
    dx, dweight = torch.empty_like(h), h.new_empty((shares, dim), dtype=torch.float32)
    block = triton.next_power_of_2(dim)
    with on_device(h):
        _backward_kernel[(shares,)](dy, dh, h, weight, scale, dx, dweight, rows, dim, **options(block, BLOCK=block))
    return dx, dweight.sum(0).to(weight.dtype)


@_add_rms_norm_backward.register_fake
def _(dy: Tensor, dh: Tensor, h: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(h), weight.new_empty(weight.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, residual, weight, _ = inputs
    _, h, scale = output
    ctx.save_for_backward(h, weight, scale)
    ctx.mark_non_differentiable(scale)
    ctx.dtypes = x.dtype, residual.dtype


def _backward(ctx: Any, dy: Tensor, dh: Tensor, _: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    dx, dweight = _add_rms_norm_backward(dy, dh, *ctx.saved_tensors)
    of_x, of_residual = ctx.dtypes
    return dx.to(of_x), dx.to(of_residual), dweight, None


add_rms_norm.register_autograd(_backward, setup_context=_setup_context)
differentiable_once(_add_rms_norm_backward, "add_rms_norm")
