"""How tests run an operation: its cases as arguments by position, in any dtypes, and with gradients."""

import importlib
import inspect
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo import kernels
from zoo.kernels.op import HAS_TRITON, INTERPRETED

OPS = kernels.ops()
FUSED = HAS_TRITON and (INTERPRETED or torch.cuda.is_available())
"""Whether kernels can run here."""
DEVICE = "cuda" if FUSED and not INTERPRETED else "cpu"


class Dtypes(NamedTuple):
    """Of the first argument, and of the others; weights often stay float32 beside activations in half precision."""

    first: torch.dtype
    others: torch.dtype

    def __str__(self):
        names = [str(dtype).removeprefix("torch.") for dtype in self]
        return names[0] if names[0] == names[1] else "-".join(names)


SINGLE = Dtypes(torch.float32, torch.float32)
MIXED = Dtypes(torch.bfloat16, torch.float32)
BRAIN = Dtypes(torch.bfloat16, torch.bfloat16)
HALF = Dtypes(torch.float16, torch.float16)


def implementations(op) -> list[str]:
    """Those that can run here."""
    fused = ["fused"] if FUSED and op.fused else []
    return ["reference", *(["chunked"] if op.chunked else []), *fused]


def cases(op):
    """The cases of an operation that are for tests."""
    found = importlib.import_module(f"zoo.kernels.{op.name}.cases").CASES
    return [case for case in found if case.bytes_moved is None]


def arguments(op, case) -> list[Any]:
    """A case's arguments as the implementations take them: all of them, by position."""
    bound = inspect.signature(getattr(kernels, op.name)).bind(*case.make(), **case.options)
    bound.apply_defaults()
    return list(bound.args)


def typed(args, dtypes, gaps=False):
    """The arguments in these dtypes, as they lie in memory, or with gaps between all numbers."""
    made = []
    for at, arg in enumerate(args):
        if isinstance(arg, Tensor):
            dtype = dtypes.others if at else dtypes.first
            stride = [(1 + gaps) * step for step in arg.stride()]
            arg = torch.empty_strided(arg.shape, stride, dtype=dtype, device=DEVICE).copy_(arg)
        made.append(arg)
    return made


def example(op, dtypes=SINGLE) -> list[Any]:
    """The arguments of the largest case below some hundred numbers."""
    some = [arguments(op, case) for case in cases(op)]
    return typed(max((args for args in some if args[0].numel() < 300), key=lambda args: args[0].numel()), dtypes)


def tensors(outputs) -> list[Tensor]:
    """The tensors that an operation returned."""
    return [out for out in (outputs if isinstance(outputs, tuple) else (outputs,)) if isinstance(out, Tensor)]


def differentiable(op, args) -> list[int]:
    """Positions of the arguments of which gradients are taken; one whose gradient a kernel refuses is a constant."""
    found = []
    for at, arg in enumerate(args):
        if isinstance(arg, Tensor) and arg.is_floating_point():
            wanted = [other.detach() if isinstance(other, Tensor) else other for other in args]
            wanted[at].requires_grad_()
            if op.refuses(*wanted) is None:
                found.append(at)
    return found


def run(op, implementation, args, drawn=None):
    """The outputs and the gradients of an implementation.

    Args:
        op: the operation.
        implementation: `reference`, `chunked` or `fused`.
        args: its arguments.
        drawn: makes the gradient of an output, (output) -> tensor; drawn from the normal distribution if None.

    Returns:
        The outputs, their gradients as drawn, and the arguments' gradients.
    """
    at = differentiable(op, args)
    args = [arg.detach() if isinstance(arg, Tensor) else arg for arg in args]
    wanted = [args[i].requires_grad_() for i in at]
    outputs = tensors(getattr(op, implementation)(*args))
    reached = [out for out in outputs if out.requires_grad]
    given = [drawn(out) if drawn else torch.randn(out.shape).to(out) for out in reached]
    found = torch.autograd.grad(reached, wanted, given, allow_unused=True)
    return [out.detach() for out in outputs], given, list(found)
