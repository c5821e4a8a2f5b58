"""What an operation with several implementations is, and which of them runs.

Every operation has a `reference`, its definition in plain PyTorch, which works on any device, in any dtype and for
derivatives of any order. It may have a `chunked` form, plain PyTorch too but faster where the definition is a loop,
and a `fused` one, a Triton kernel forward and backward. Whoever calls the operation names none of them:

- `auto`, the default, takes the fused form where it can run, else the chunked one, else the reference;
- `reference` takes the definition;
- `fused` takes the kernel, and raises with the reason where it cannot run.

Only the reference has a second derivative: what needs one, such as a gradient penalty, runs its forward pass within
`use("reference")`. Forward-mode derivatives and the transforms of `torch.func` are the reference's too, and under them
the others step aside by themselves.
"""

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd import forward_ad

from zoo.registry import did_you_mean

MODES = ("auto", "reference", "fused")
HAS_TRITON = importlib.util.find_spec("triton") is not None  # not imported: that takes a tenth of a second
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Triton runs its kernels on the CPU, slowly, as tests want it; its decorator reads this once, when it is imported."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""What kernels read and write; they compute in float32."""

_mode = ["auto"]  # a list, for torch.compile watches its item and compiles again when it changes


@dataclass(frozen=True, kw_only=True)
class Case:
    """Inputs of an operation, for its tests and benchmarks."""

    name: str
    make: Callable[[], tuple[Tensor | None, ...]]
    """Draws the arguments: float32 on the CPU, from torch's global generator."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Further arguments by name, such as an epsilon."""
    bytes_moved: Callable[[int], int] | None = None
    """From the bytes of a number to the least that the forward pass reads and writes. Cases that have it are for
    benchmarks and may be large; those without are for tests and are small."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """An operation; its folder's `__init__.py` exports one as `OP`, and `zoo.kernels` its public function `name`.

    The implementations take the public function's arguments, all of them and by position.
    """

    name: str
    reference: Callable[..., Any]
    chunked: Callable[..., Any] | None = None
    fused: Callable[..., Any] | None = None
    """Imports `fused.py`, and with it Triton, when it is first called. That file registers the custom operators
    `zoo::<name>`, whose first arguments are these, and, where it has one, `zoo::<name>_backward`."""
    refuses: Callable[..., str | None] = lambda *_: None
    """Why the kernel cannot take these arguments, beyond what holds for all kernels; None if it can."""

    def __call__(self, *args: Any) -> Any:
        """Run the implementation that suits the arguments and `use`.

        Raises:
            ValueError: `use("fused")` is on and the kernel cannot run; the message says why.
        """
        if _mode[0] == "reference":
            return self.reference(*args)
        why = self.why_not_fused(*args)
        if self.fused is not None and why is None:
            return self.fused(*args)
        if _mode[0] == "fused":
            raise ValueError(f"{self.name} cannot run fused: {why}; leave the choice to zoo.kernels.use('auto')")
        if self.chunked is None or _differentiated_anew():
            return self.reference(*args)
        return self.chunked(*args)

    def why_not_fused(self, *args: Any) -> str | None:
        """The reason why the kernel cannot take these arguments, or None if it can."""
        if why := self.never_fused():
            return why
        for arg in args:
            if isinstance(arg, Tensor) and (why := _unfit(arg)):
                return why
        return _differentiated_anew() or self.refuses(*args)

    def never_fused(self) -> str | None:
        """The reason why no arguments at all would run fused here, or None if some would."""
        if self.fused is None:
            return "there is no kernel of it yet"
        if not HAS_TRITON:
            return "triton is not installed"
        return None


def _differentiated_anew() -> str | None:
    """Why nothing but the reference is right here, or None if the others are; they would give zeros or fail."""
    if torch._C._are_functorch_transforms_active():
        return "torch.func transforms it, which kernels do not support"
    if forward_ad._current_level >= 0:
        return "it runs within forward_ad.dual_level, and kernels have no forward-mode derivative"
    return None


def _unfit(arg: Tensor) -> str | None:
    """Why no kernel can read this argument, or None if kernels can."""
    if arg.dtype not in DTYPES:
        return f"an argument is {str(arg.dtype).removeprefix('torch.')}, and kernels take at most float32"
    if INTERPRETED:
        return None
    if not arg.is_cuda:
        return f"an argument is on the {arg.device.type}, and kernels need a GPU"
    if torch.version.hip is None and torch.cuda.get_device_capability(arg.device) < (8, 0):
        return "the GPU is older than compute capability 8.0, which Triton asks for"
    return None


class _Choice:
    """What one block of `use` asks for; equal to itself alone, so that each block takes its own away."""

    def __init__(self, mode: str) -> None:
        self.mode = mode


_choices = [_Choice("auto")]
"""Those of all open blocks in all threads, behind the default; the last one decides."""


@contextmanager
def use(mode: str) -> Iterator[None]:
    """Choose the implementation of all operations, in all threads, within a `with` block.

    It holds in all threads because recomputed activations run in threads of autograd's own. Of the blocks that are open
    at a time, the one that was entered last decides.

    Args:
        mode: `auto`, `reference` or `fused`.

    Raises:
        ValueError: there is no such mode.
    """
    if mode not in MODES:
        raise ValueError(f"kernels {mode!r} is not among {', '.join(MODES)}{did_you_mean(str(mode), MODES)}")
    choice = _Choice(mode)
    _choices.append(choice)
    _settle()
    try:
        yield
    finally:
        _choices.remove(choice)  # not always the last: blocks of several threads end in any order
        _settle()


def _settle() -> None:
    """Let the last choice decide. There is no lock, for `use` may stand in a function that torch.compile compiles."""
    while _mode[0] != (mode := _choices[-1].mode):  # again, if another thread has come between
        _mode[0] = mode


class Status(NamedTuple):
    """What runs under `auto`."""

    op: str
    cpu: str
    """The implementation on the CPU."""
    gpu: str
    """The implementation on a GPU, for the dtypes and shapes that its kernel takes."""
    why: str
    """Why nothing is fused on this machine, if so."""


def status_of(op: Op) -> Status:
    """What runs under `auto`, here and now."""
    plain = "reference" if op.chunked is None else "chunked"
    never = op.never_fused()
    cpu = "fused" if INTERPRETED and not never else plain
    gpu = plain if never else "fused"
    here = INTERPRETED or torch.cuda.is_available()
    return Status(op.name, cpu, gpu, never or ("" if here else "there is no GPU"))
