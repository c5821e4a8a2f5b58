"""Products with a single row, which are nearly all that writing one text takes.

On a CPU such a product takes as long as reading the weights. Where they are bfloat16, PyTorch leaves it to oneDNN,
which reads them at 10 GB/s (one core of a Zen 4, torch 2.15); with oneDNN switched off it takes a loop of its own,
which reads them at 18. With four rows oneDNN is the faster one.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def fast_single_row(tokens: Tensor, weight: Tensor | None) -> Iterator[None]:
    """Compute without oneDNN where that is faster: a single token, bfloat16 weights, a CPU.

    The switch is the process's, so for that moment it holds for other threads as well.

    Args:
        tokens: what the model reads.
        weight: any of the model's, for its dtype and device.
    """
    if (
        tokens.numel() != 1
        or weight is None
        or weight.dtype != torch.bfloat16
        or weight.device.type != "cpu"
        or torch.backends.flags_frozen()
    ):
        yield
        return
    _SWITCH.off()
    try:
        yield
    finally:
        _SWITCH.restore()


class _Switch:
    """oneDNN's, which the first of several threads turns off, and the last one back."""

    def __init__(self) -> None:
        self._lock, self._threads, self._before = threading.Lock(), 0, True

    def off(self) -> None:
        with self._lock:
            if self._threads == 0:
                self._before = torch.backends.mkldnn.enabled
                torch.backends.mkldnn.enabled = False
            self._threads += 1

    def restore(self) -> None:
        with self._lock:
            self._threads -= 1
            if self._threads == 0:
                torch.backends.mkldnn.enabled = self._before


_SWITCH = _Switch()
