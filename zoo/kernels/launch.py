"""What the launch of any kernel needs; it imports no Triton."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def on_device(x: Tensor) -> AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the one that holds the arguments."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def options(elements: int, **constants: Any) -> dict[str, Any]:
    """A kernel's constants and how to compile it.

    Args:
        elements: how many numbers a program works on at once; a thread has at most sixteen.
        **constants: the kernel's `tl.constexpr` arguments.
    """
    warps = min(max(elements // 512, 1), 16)
    fused = {"enable_fp_fusion": True}  # a * b + c rounds once; Triton's default changes with its version
    return {**constants, **fused, "num_warps": 1 << (warps.bit_length() - 1)}


def programs(x: Tensor) -> int:
    """How many programs keep the device busy, for kernels whose programs share their rows out among themselves."""
    if not x.is_cuda:
        return 3  # the interpreter runs them one after another; more than one, so that tests see the sharing
    return 4 * torch.cuda.get_device_properties(x.device).multi_processor_count


def differentiable_once(backward: Any, name: str) -> None:
    """Let whoever differentiates an operation's backward pass read what to do instead."""

    def refuse(*_: Any) -> None:
        raise ValueError(
            f"{name} has no second derivative but its definition's; "
            "run the forward pass within zoo.kernels.use('reference')"
        )

    backward.register_autograd(refuse)
