"""The root-mean-square norm as two Triton kernels.

A row is in registers while its mean is taken, so the forward pass reads x once and writes y once. It also keeps
1 / sqrt(mean(x²) + eps), one number a row, which spares the backward pass the first of its two sums. There, with
n = x · scale and g = dy · weight: dx = scale · (g - n · mean(g · n)) and dweight = Σ dy · n over all rows.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from zoo.kernels.launch import differentiable_once, on_device, options, programs


@triton.jit
def _forward_kernel(x_ptr, weight_ptr, y_ptr, scale_ptr, dim, eps, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < dim
    start = row.to(tl.int64) * dim  # rows · dim may pass 2³¹
    x = tl.load(x_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / dim + eps)
    tl.store(scale_ptr + row, scale)
    tl.store(y_ptr + start + at, (x * scale * weight).to(y_ptr.dtype.element_ty), mask=inside)


@triton.jit
def _backward_kernel(dy_ptr, x_ptr, weight_ptr, scale_ptr, dx_ptr, dweight_ptr, rows, dim, BLOCK: tl.constexpr):
    program = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    inside = at < dim
    weight = tl.load(weight_ptr + at, mask=inside, other=0.0).to(tl.float32)
    dweight = tl.zeros((BLOCK,), tl.float32)  # this program's share: a sum without atomics has the same order each time
    for row in range(program, rows, tl.num_programs(0)):
        start = tl.cast(row, tl.int64) * dim
        scale = tl.load(scale_ptr + row)
        n = tl.load(x_ptr + start + at, mask=inside, other=0.0).to(tl.float32) * scale
        dy = tl.load(dy_ptr + start + at, mask=inside, other=0.0).to(tl.float32)
        dweight += dy * n
        g = dy * weight
        dx = (g - n * (tl.sum(g * n, 0) / dim)) * scale
        tl.store(dx_ptr + start + at, dx.to(dx_ptr.dtype.element_ty), mask=inside)
    tl.store(dweight_ptr + program.to(tl.int64) * dim + at, dweight, mask=inside)


@torch.library.custom_op("zoo::rms_norm", mutates_args=())
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The normed vectors and the scale of each: (..., dim) and (...)."""
    x, weight = x.contiguous(), weight.contiguous()
    dim = x.shape[-1]
    y, scale = torch.empty_like(x), x.new_empty(x.shape[:-1], dtype=torch.float32)
    block = triton.next_power_of_2(dim)
    with on_device(x):
        _forward_kernel[(scale.numel(),)](x, weight, y, scale, dim, eps, **options(block, BLOCK=block))
    return y, scale


@rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    return y, x.new_empty(x.shape[:-1], dtype=torch.float32)


@torch.library.custom_op("zoo::rms_norm_backward", mutates_args=())
def _rms_norm_backward(dy: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    dy, x, weight = dy.contiguous(), x.contiguous(), weight.contiguous()
    rows, dim = scale.numel(), x.shape[-1]
    shares = min(rows, programs(x))
    dx, dweight = torch.empty_like(x), x.new_empty((shares, dim), dtype=torch.float32)
    block = triton.next_power_of_2(dim)
    with on_device(x):
        _backward_kernel[(shares,)](dy, x, weight, scale, dx, dweight, rows, dim, **options(block, BLOCK=block))
    return dx, dweight.sum(0).to(weight.dtype)


@_rms_norm_backward.register_fake
def _(dy: Tensor, x: Tensor, weight: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=torch.contiguous_format), weight.new_empty(weight.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _ = inputs
    ctx.save_for_backward(x, weight, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
    return *_rms_norm_backward(dy, *ctx.saved_tensors), None


rms_norm.register_autograd(_backward, setup_context=_setup_context)
differentiable_once(_rms_norm_backward, "rms_norm")
