"""Gradient checkpointing (Chen et al., 2016), https://arxiv.org/abs/1604.06174: memory for time.

Of every block only the input is kept; the backward pass computes the rest once more, with the same dropout.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputing(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Let the blocks of these networks recompute while this lasts; they are what `stages` and `blocks` hold."""
    units: list[Any] = [unit for network in networks for unit in _units(network)]
    for unit in units:
        contexts = partial(_contexts, [module for module in unit.modules() if isinstance(module, _BatchNorm)])
        unit.forward = partial(checkpoint, unit.forward, use_reentrant=False, context_fn=contexts)
    try:
        yield
    finally:
        for unit in units:
            del unit.forward  # the class's own comes to light again


def _units(network: nn.Module) -> Iterator[nn.Module]:
    """Blocks, or whole stages where a stage is a row of bare layers, of which one may overwrite its input."""
    for name in ("stages", "blocks"):
        for stage in getattr(network, name, nn.Sequential()).children():
            inner = list(stage.children())
            blocks = name == "stages" and inner and all(next(block.children(), None) is not None for block in inner)
            yield from inner if blocks else [stage]


def _contexts(norms: list[_BatchNorm]) -> tuple[Any, Any]:
    """What surrounds the first computation and the second, which must not count the batch once more."""
    return nullcontext(), _without_statistics(norms)


@contextmanager
def _without_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """The running statistics stay; they are still passed along, for both computations must save the same tensors."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
