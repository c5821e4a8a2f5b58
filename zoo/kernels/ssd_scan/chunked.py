"""The state-space dual scan as matrix products over chunks, forward and backward in plain PyTorch.

A chunk's outputs are a masked attention over its own inputs plus what its start state still says, and the state moves
on by one product per chunk. Of the states only those at the chunks' starts are kept; the backward pass computes the
rest of a chunk again. The exponents' running sums are float64, for what matters is the difference of two large ones;
only from such differences are decays formed, so none is a quotient of numbers that overflow.

Inside, heads are apart as (groups, heads of the group), and a group's states are one matrix, (state_dim, heads x
head_dim). The two passes are operators of their own: a compiler sees one node, and does not unroll the loop over
chunks.
"""

import math
from typing import Any

import torch
from torch import Tensor

from zoo.kernels.launch import differentiable_once
from zoo.kernels.ssd_scan.reference import ssd_scan as reference

CHUNK = 64
TO_BASE_2 = 1 / math.log(2)
"""Decays are powers of 2, which take a CPU less than half the time that powers of e take."""
FADED = -92.0
"""Exponents below are taken for this one: of what they scale no float64 digit is left, and products with still smaller
decays would be subnormal numbers, with which a CPU is fifty times slower."""


def ssd_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The same as the reference, which it leaves single steps to: there is no chunk to prepare for."""
    if x.shape[1] == 1:
        return reference(x, delta, A, B, C, D, state)
    dtype = torch.promote_types(x.dtype, torch.float32)
    inputs, delta, A, B, C = (tensor.to(dtype) for tensor in (x, delta, A, B, C))
    D = x.new_zeros(x.shape[2], dtype=dtype) if D is None else D.to(dtype)
    state = x.new_zeros(x.shape[0], *x.shape[2:], B.shape[-1], dtype=dtype) if state is None else state.to(dtype)
    y, end, _ = _scan(inputs, delta, A, B, C, D, state)
    return y.to(x.dtype), end


@torch.library.custom_op("zoo::ssd_scan", mutates_args=())
def _scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, the final state, and the states at the chunks' starts, one after the other."""
    with torch.autocast(x.device.type, enabled=False):
        y, h, groups = torch.empty_like(x, memory_format=torch.contiguous_format), _grouped(state, B), B.shape[2]
        starts = x.new_empty(-(-x.shape[1] // CHUNK), *h.shape)
        A, D = A.unflatten(-1, (groups, -1)), D.view(groups, -1, 1)
        sequences = [*(tensor.unflatten(2, (groups, -1)) for tensor in (x, delta, y)), B, C]
        for start, *chunk in zip(starts, *(tensor.split(CHUNK, 1) for tensor in sequences), strict=True):
            x_c, delta_c, y_c, B_c, C_c = chunk
            start.copy_(h)
            within, since, until = _decays(delta_c, A)
            B_c, C_c, u = B_c.transpose(1, 2), C_c.transpose(1, 2), x_c * delta_c.unsqueeze(-1)
            near = (within * (C_c @ B_c.mT).unsqueeze(2)) @ u.permute(0, 2, 3, 1, 4)  # (batch, groups, heads, seq, -1)
            far = _apart(C_c @ h, x_c)  # (batch, seq, groups, heads, head_dim)
            torch.addcmul(near.permute(0, 3, 1, 2, 4), far, since.unsqueeze(-1), out=y_c).addcmul_(x_c, D)
            h = _decayed(h, since[:, -1]).add_(B_c.mT @ _together(u * until.unsqueeze(-1)))
        return y, _ungrouped(h, state), starts.flatten()


def _decays(delta: Tensor, A: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What is left of a state within a chunk.

    Args:
        delta: (batch, seq, groups, heads).
        A: (groups, heads).

    Returns:
        From a step to a later one, (batch, groups, heads, later, earlier), 0 for those that are not later; from the
        start to a step and from a step to the end, both shaped as delta.
    """
    sums = (delta.double() * (A.double() * TO_BASE_2)).cumsum(1)
    by_head = sums.permute(0, 2, 3, 1).contiguous()
    exponents = by_head.unsqueeze(-1) - by_head.unsqueeze(-2), sums, sums[:, -1:] - sums
    within, since, until = (exponent.to(delta.dtype).clamp_(min=FADED).exp2_() for exponent in exponents)
    return within.tril_(), since, until


def _grouped(state: Tensor, B: Tensor) -> Tensor:
    """(batch, heads, head_dim, state_dim) as (batch, groups, state_dim, heads of the group x head_dim)."""
    return state.unflatten(1, (B.shape[2], -1)).flatten(2, 3).mT.contiguous()


def _ungrouped(h: Tensor, like: Tensor) -> Tensor:
    return h.mT.reshape(like.shape).clone(memory_format=torch.contiguous_format)


def _together(tensor: Tensor) -> Tensor:
    """(batch, seq, groups, heads, head_dim) as (batch, groups, seq, heads x head_dim)."""
    return tensor.flatten(-2).transpose(1, 2)


def _apart(tensor: Tensor, like: Tensor) -> Tensor:
    """The reverse of `_together`."""
    return tensor.transpose(1, 2).unflatten(-1, like.shape[-2:])


def _decayed(h: Tensor, decay: Tensor) -> Tensor:
    """A new state, (batch, groups, state_dim, heads x head_dim), with every head's decay, (batch, groups, heads)."""
    return (h.unflatten(-1, (decay.shape[-1], -1)) * decay[:, :, None, :, None]).flatten(-2)


@torch.library.custom_op("zoo::ssd_scan_backward", mutates_args=())
def _scan_backward(dy: Tensor, dend: Tensor, inputs: list[Tensor], starts: Tensor) -> list[Tensor]:
    """The gradients of x, delta, A, B, C, D and the initial state; sums over all steps are float64."""
    x, delta, A, B, C, D = inputs
    with torch.autocast(x.device.type, enabled=False):
        gradients = [torch.empty_like(tensor, memory_format=torch.contiguous_format) for tensor in (x, delta, B, C)]
        dx, ddelta, dB, dC = gradients
        groups, dh = B.shape[2], _grouped(dend, B)
        starts = starts.view(-(-x.shape[1] // CHUNK), *dh.shape)
        A, D = A.unflatten(-1, (groups, -1)), D.view(groups, -1, 1)
        dA, dD = (torch.zeros_like(A, dtype=torch.float64) for _ in range(2))
        sequences = [*(tensor.unflatten(2, (groups, -1)) for tensor in (dy, x, delta, dx, ddelta)), B, C, dB, dC]
        chunks = zip(starts, *(tensor.split(CHUNK, 1) for tensor in sequences), strict=True)
        for h, *chunk in reversed(list(chunks)):
            dy_c, x_c, delta_c, dx_c, ddelta_c, B_c, C_c, dB_c, dC_c = chunk
            B_c, C_c, u = B_c.transpose(1, 2), C_c.transpose(1, 2), x_c * delta_c.unsqueeze(-1)
            within, since, until = _decays(delta_c, A)
            du, dB_near, dC_near, dsums = _near_backward(dy_c, u, B_c, C_c, within)
            du_onward, dB_onward, dh, moved = _onward_backward(dh, h, u, B_c, until, since[:, -1])
            dC_far, dh_far, started = _far_backward(dy_c, h, C_c, since)
            torch.add(dB_near, dB_onward, out=dB_c.transpose(1, 2))
            torch.add(dC_near, dC_far, out=dC_c.transpose(1, 2))
            du, dh, dsums = du.add_(du_onward), dh.add_(dh_far), dsums.add_(moved).add_(started)
            torch.mul(du, delta_c.unsqueeze(-1), out=dx_c).addcmul_(dy_c, D)
            dD += (dy_c * x_c).sum(-1).sum((0, 1))
            dexponents = dsums.flip(1).cumsum(1).flip(1)  # of delta A, which is in all later sums
            ddelta_c.copy_((du * x_c).sum(-1) + dexponents * A)
            dA += (dexponents * delta_c).sum((0, 1))
        dA, dD = (tensor.flatten().to(x.dtype) for tensor in (dA, dD))
        return [dx, ddelta, dA, dB, dC, dD, _ungrouped(dh, dend)]


def _near_backward(
    dy: Tensor, u: Tensor, B: Tensor, C: Tensor, within: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Through what outputs owe to inputs of the same chunk: gradients of u, B, C and the exponents' sums."""
    by_head = (0, 2, 3, 1, 4)
    dy, u, scores = dy.permute(by_head), u.permute(by_head), (C @ B.mT).unsqueeze(2)
    dmixing = (dy @ u.mT).mul_(within)  # (batch, groups, heads, later, earlier)
    dscores, du = dmixing.sum(2), (within * scores).mT @ dy
    moved = dmixing.mul_(scores)
    moved.diagonal(dim1=-2, dim2=-1).zero_()  # no time passes between a step and itself
    moved = moved.double()  # sums over later steps cancel what happened among them
    dsums = moved.sum(-1) - moved.sum(-2)
    return du.permute(0, 3, 1, 2, 4), dscores.mT @ C, dscores @ B, dsums.permute(0, 3, 1, 2)


def _far_backward(dy: Tensor, h: Tensor, C: Tensor, since: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Through what outputs owe to the start state: gradients of C, that state and the exponents' sums."""
    dfar = dy * since.unsqueeze(-1)
    dsums = (dfar * _apart(C @ h, dy)).sum(-1).double()
    dfar = _together(dfar)
    return dfar @ h.mT, C.mT @ dfar, dsums


def _onward_backward(
    dh: Tensor, h: Tensor, u: Tensor, B: Tensor, until: Tensor, total: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Through the next chunk's start state: gradients of u, B, this chunk's start state and the exponents' sums."""
    du = _apart(B @ dh, u) * until.unsqueeze(-1)
    leaving = (du * u).sum(-1).double()
    dsums, staying = -leaving, _decayed(dh, total)
    dsums[:, -1] += (staying * h).unflatten(-1, u.shape[-2:]).sum((2, 4)) + leaving.sum(1)
    return du, _together(u * until.unsqueeze(-1)) @ dh.mT, staying, dsums


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
differentiable_once(_scan_backward, "ssd_scan")
