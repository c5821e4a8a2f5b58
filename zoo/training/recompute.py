"""Gradient checkpointing (Chen et al., 2016), https://arxiv.org/abs/1604.06174: memory for time.

Of every block only the input is kept; the backward pass computes the rest once more, with the same dropout.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputing(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Let the blocks of these networks recompute while this lasts.

    They are what `stages` and `blocks` hold, in a network or in its `towers`.
    """
    units: list[Any] = [unit for network in networks for unit in _units(network)]
    for unit in units:
        contexts = partial(_contexts, _statistics(unit))
        unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, context_fn=contexts)
    try:
        yield
    finally:
        for unit in units:
            del unit.forward  # the class's own comes to light again


def _units(network: nn.Module) -> Iterator[nn.Module]:
    """Blocks, or whole stages where a stage is a row of bare layers, of which one may overwrite its input."""
    towers = [getattr(network, name) for name in getattr(network, "towers", ())]
    for part, name in itertools.product([network, *towers], ("stages", "blocks")):
        for stage in getattr(part, name, nn.Sequential()).children():
            inner = list(stage.children())
            blocks = name == "stages" and inner and all(next(block.children(), None) is not None for block in inner)
            yield from inner if blocks else [stage]


def _statistics(unit: nn.Module) -> list[Tensor]:
    """What a forward pass may move: the buffers that are saved, for tables are not."""
    saved = unit.state_dict().keys()
    return [buffer for name, buffer in unit.named_buffers() if name in saved]


def _contexts(statistics: list[Tensor]) -> tuple[Any, Any]:
    """What surrounds the first computation and the later ones, which must not count the batch once more."""
    return nullcontext(), _Again(statistics)


class _Again:
    """A computation that begins with the statistics that the first one began with, and leaves today's as they are.

    It may come twice, when a gradient is differentiated.
    """

    def __init__(self, statistics: list[Tensor]) -> None:
        self.statistics, self.first = statistics, [buffer.clone() for buffer in statistics]
        self.today: list[Tensor] = []

    def __enter__(self) -> None:
        self.today = [buffer.clone() for buffer in self.statistics]
        self._put(self.first)

    def __exit__(self, *_: object) -> None:
        self._put(self.today)

    def _put(self, values: list[Tensor]) -> None:
        for buffer, value in zip(self.statistics, values, strict=True):
            buffer.data.copy_(value)  # by .data, for autograd would take it for a change of what it has saved
