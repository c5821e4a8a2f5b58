"""Which samples make up which step, computed instead of remembered.

The training samples are one endless row: the epochs, each in its own random order, one after the other. Step s
of a run with a global batch of G takes the places s*G to (s+1)*G of it. So every sample is seen once an epoch,
no batch is short, and a run can begin at any step, with any number of workers, as if it had never stopped.
"""

import functools
import signal
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from zoo.training.data import Split
from zoo.training.random import generator

Sample = tuple[int, int]
"""(epoch, index in the split)."""


class Microbatch(NamedTuple):
    """What one forward pass takes."""

    samples: list[Sample]
    batch: dict[str, Tensor]


@dataclass(frozen=True)
class Order:
    """The endless row of training samples."""

    length: int
    seed: int

    def samples(self, start: int, count: int) -> list[Sample]:
        """The samples at the places start to start + count."""
        taken: list[Sample] = []
        while len(taken) < count:
            epoch, offset = divmod(start + len(taken), self.length)
            indices = _permutation(self.seed, epoch, self.length)[offset : offset + count - len(taken)]
            taken += [(epoch, int(index)) for index in indices]
        return taken


@functools.lru_cache(maxsize=2)  # a step may straddle two epochs
def _permutation(seed: int, epoch: int, length: int) -> np.ndarray:
    return generator(seed, "order", epoch).permutation(length)


@dataclass(frozen=True)
class Plan:
    """The microbatches of one rank, in the order of use."""

    order: Order
    batch_size: int
    accumulate: int
    rank: int
    ranks: int
    start: int
    stop: int

    @property
    def global_batch(self) -> int:
        """Samples per step, over microbatches and ranks."""
        return self.batch_size * self.accumulate * self.ranks

    def __iter__(self) -> Iterator[list[Sample]]:
        """Microbatch m of rank r takes the (m * ranks + r)-th slice of the step's samples."""
        for step in range(self.start, self.stop):
            samples = self.order.samples(step * self.global_batch, self.global_batch)
            for part in range(self.accumulate):
                begin = (part * self.ranks + self.rank) * self.batch_size
                yield samples[begin : begin + self.batch_size]

    def __len__(self) -> int:
        """How many microbatches there are."""
        return (self.stop - self.start) * self.accumulate


@dataclass(frozen=True)
class _Generators(Sequence[np.random.Generator]):
    """The augmentation's generator of each sample, made when asked for."""

    seed: int
    samples: list[Sample]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> np.random.Generator:  # pyright: ignore[reportIncompatibleMethodOverride]
        return generator(self.seed, "augment", *self.samples[row])


@dataclass(frozen=True)
class _Fetcher:
    """A split as DataLoader wants it, a whole microbatch at a time.

    An error travels as a value: raised in a worker, it would arrive as the text of a traceback.
    """

    split: Split
    seed: int

    def __getitems__(self, samples: list[Sample]) -> Microbatch | Exception:
        try:
            return Microbatch(samples, self.split.fetch(_indices(samples), _Generators(self.seed, samples)))
        except Exception as error:
            return error


def _indices(samples: list[Sample]) -> list[int]:
    return [index for _, index in samples]


def _unchanged(fetched: Microbatch | Exception) -> Microbatch | Exception:
    return fetched


def _leave_signals_to_the_parent(_: int) -> None:
    """A SIGTERM reaches the whole process group; the workers must outlive it until the checkpoint is written."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def training_batches(split: Split, plan: Plan, seed: int, workers: int, pin: bool) -> Generator[Microbatch]:
    """This rank's microbatches, prepared ahead by `workers` processes, or in this one when there are none."""
    loader = DataLoader(
        _Fetcher(split, seed),  # pyright: ignore[reportArgumentType]
        batch_sampler=plan,  # pyright: ignore[reportArgumentType]
        num_workers=workers,
        collate_fn=_unchanged,  # pyright: ignore[reportArgumentType] - a whole microbatch, not a list of samples
        worker_init_fn=_leave_signals_to_the_parent,
        generator=torch.Generator(),  # its base seed must not come from the generator that dropout uses
        pin_memory=pin,
    )
    batches = iter(loader)
    try:
        for fetched in batches:
            if isinstance(fetched, Exception):
                raise fetched
            yield fetched
    finally:
        if workers:  # they ignore SIGTERM, by which multiprocessing would end them when an error ends the run
            batches._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]


def evaluation_batches(split: Split, batch_size: int, rank: int, ranks: int) -> Iterator[Microbatch]:
    """Every sample of a split exactly once over all ranks, in order and without augmentation."""
    mine = range(rank, len(split), ranks)
    for begin in range(0, len(mine), batch_size):
        samples = [(-1, index) for index in mine[begin : begin + batch_size]]
        yield Microbatch(samples, split.fetch(_indices(samples), None))


def select(batch: Mapping[str, Tensor], keys: Collection[str], device: torch.device) -> dict[str, Tensor]:
    """The values of a batch that somebody reads, on the device."""
    return {key: value.to(device, non_blocking=True) for key, value in batch.items() if key in keys}
