"""The selective scan in pieces that stay in the cache, forward and backward in plain PyTorch.

Within a chunk everything that does not depend on the step before is one operation for all steps; what does is one
in-place multiply-add per step. Of the states only those at the chunks' starts are kept, and the backward pass computes
a chunk's others again. There is no division and no product of decays, so nothing overflows.

Inside, time is the first axis, which makes a step contiguous, and channels are the last, which makes the loops long.
The two passes are operators of their own: a compiler sees one node, and does not unroll the loop over time.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.kernels.launch import differentiable_once
from zoo.kernels.selective_scan.reference import selective_scan as reference

CHUNK = 16
TO_BASE_2 = 1 / math.log(2)
"""Decays are powers of 2, which take a CPU less than half the time that powers of e take."""
FADED = -92.0
"""Exponents below are taken for this one: of what they scale no float64 digit is left, and products with still smaller
decays would be subnormal numbers, with which a CPU is fifty times slower."""


def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same as the reference, which it leaves single steps to: there is no chunk to prepare for."""
    if x.shape[1] == 1:
        return reference(x, delta, A, B, C, D, state)
    dtype = torch.promote_types(x.dtype, torch.float32)
    inputs, delta, A, B, C = (tensor.to(dtype) for tensor in (x, delta, A, B, C))
    D = x.new_zeros(x.shape[2], dtype=dtype) if D is None else D.to(dtype)
    state = x.new_zeros(x.shape[0], *A.shape, dtype=dtype) if state is None else state.to(dtype)
    y, end, _ = _scan(inputs, delta, A, B, C, D, state)
    return y.to(x.dtype), end


@torch.library.custom_op("zoo::selective_scan", mutates_args=())
def _scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the final state, and the states at the chunks' starts, one after the other."""
    with torch.autocast(x.device.type, enabled=False):
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        x, delta, B, C, y_t = (tensor.transpose(0, 1) for tensor in (x, delta, B, C, y))
        rates, h = _rates(A), state.mT.contiguous()
        starts = x.new_empty(-(-len(x) // CHUNK), *h.shape)
        decay, states = x.new_empty(2, min(CHUNK, len(x)), *h.shape)
        steps = list(zip(decay.unbind(0), states.unbind(0), strict=True))
        for start, *chunk in zip(starts, *(tensor.split(CHUNK) for tensor in (x, delta, B, C, y_t)), strict=True):
            x_c, delta_c, B_c, C_c, y_c = chunk
            start.copy_(h)
            decay, states = decay[: len(x_c)], states[: len(x_c)]
            _coefficients(x_c * delta_c, delta_c, rates, B_c, decay, states)
            h = _states(start, steps[: len(x_c)])
            torch.addcmul((C_c.unsqueeze(-2) @ states).squeeze(-2), D, x_c, out=y_c)
        return y, h.mT.clone(memory_format=torch.contiguous_format), starts.flatten()


def _rates(A: Tensor) -> Tensor:
    """How many times a state is halved in a unit of time, (state_dim, channels)."""
    return (A.double() * TO_BASE_2).to(A.dtype).mT.contiguous()


def _coefficients(u: Tensor, delta: Tensor, rates: Tensor, B: Tensor, decay: Tensor, inputs: Tensor) -> None:
    """Write what a chunk's recurrence multiplies by and what it adds, (seq, batch, state_dim, channels)."""
    torch.mul(delta.unsqueeze(-2), rates, out=decay).clamp_(min=FADED).exp2_()
    torch.mul(u.unsqueeze(-2), B.unsqueeze(-1), out=inputs)


def _states(h: Tensor, steps: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Turn what is added at each step, behind its decay, into the state after it; gives the last state."""
    for decay, state in steps:
        h = state.addcmul_(decay, h)
    return h


@torch.library.custom_op("zoo::selective_scan_backward", mutates_args=())
def _scan_backward(dy: Tensor, dend: Tensor, inputs: list[Tensor], starts: Tensor) -> list[Tensor]:
    """The gradients of x, delta, A, B, C, D and the initial state; sums over all steps are float64."""
    x, delta, A, B, C, D = inputs
    with torch.autocast(x.device.type, enabled=False):
        gradients = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (x, delta, B, C)]
        sequences = [tensor.transpose(0, 1) for tensor in (dy, x, delta, B, C, *gradients)]
        rates, A, dh = _rates(A), A.mT.contiguous(), dend.mT.contiguous()
        dA, dD = (torch.zeros_like(tensor, dtype=torch.float64) for tensor in (A, D))
        starts = starts.view(-(-x.shape[1] // CHUNK), *dh.shape)
        buffers = x.new_empty(4, min(CHUNK, x.shape[1]), *dh.shape)
        decays, all_states, gradients_of_states, _ = (buffer.unbind(0) for buffer in buffers)
        steps = list(zip(decays, all_states, strict=True))
        chunks = zip(starts, *(tensor.split(CHUNK) for tensor in sequences), strict=True)
        for start, *chunk in reversed(list(chunks)):
            dy_c, x_c, delta_c, B_c, C_c, dx_c, ddelta_c, dB_c, dC_c = chunk
            decay, states, dstates, products = buffers[:, : len(x_c)].unbind(0)
            u = x_c * delta_c
            _coefficients(u, delta_c, rates, B_c, decay, states)
            _states(start, steps[: len(x_c)])
            torch.matmul(dy_c.unsqueeze(-2), states.mT, out=dC_c.unsqueeze(-2))
            torch.mul(dy_c.unsqueeze(-2), C_c.unsqueeze(-1), out=dstates)
            dh = _reverse(dh, decays[: len(x_c)], gradients_of_states[: len(x_c)])
            du = torch.matmul(B_c.unsqueeze(-2), dstates).squeeze(-2)
            torch.matmul(u.unsqueeze(-2), dstates.mT, out=dB_c.unsqueeze(-2))
            torch.mul(du, delta_c, out=dx_c).addcmul_(dy_c, D)
            dD += (dy_c * x_c).sum((0, 1))
            dstates.mul_(decay)  # from here on the gradients of the exponents, delta A
            dstates[0].mul_(start)
            dstates[1:].mul_(states[:-1])
            torch.sum(torch.mul(dstates, A, out=products), -2, out=ddelta_c).addcmul_(du, x_c)
            dA += torch.mul(dstates, delta_c.unsqueeze(-2), out=products).sum((0, 1))
        dx, ddelta, dB, dC = gradients
        dA, dD = dA.mT.to(A.dtype, memory_format=torch.contiguous_format), dD.to(D.dtype)
        return [dx, ddelta, dA, dB, dC, dD, dh.mT.contiguous()]


def _reverse(dh: Tensor, decays: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """Add to every state's gradient what comes from the state after it; gives that of the state before the chunk."""
    dh = gradients[-1].add_(dh)
    for decay, gradient in zip(reversed(decays[1:]), reversed(gradients[:-1]), strict=True):
        dh = gradient.addcmul_(decay, dh)
    return decays[0] * dh


@_scan.register_fake
def _(x: Tensor, *rest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    state = rest[-1]
    return x.new_empty(x.shape), state.new_empty(state.shape), x.new_empty(-(-x.shape[1] // CHUNK) * state.numel())


@_scan_backward.register_fake
def _(_dy: Tensor, dend: Tensor, inputs: list[Tensor], _starts: Tensor) -> list[Tensor]:
    return [tensor.new_empty(tensor.shape) for tensor in (*inputs, dend)]


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:-1], output[2])
    ctx.state_shape = inputs[-1].shape
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)  # or zeros of the size of all kept states would be made


def _backward(ctx: Any, dy: Tensor | None, dend: Tensor | None, _: None) -> tuple[Tensor, ...]:
    *inputs, starts = ctx.saved_tensors
    dy = torch.zeros_like(inputs[0]) if dy is None else dy
    dend = dy.new_zeros(ctx.state_shape) if dend is None else dend
    return tuple(_scan_backward(dy, dend, inputs, starts))


_scan.register_autograd(_backward, setup_context=_save)
differentiable_once(_scan_backward, "selective_scan")
