"""Randomness as a function of what it is for, so that nothing of it needs to be saved.

Every draw is keyed by the run's seed, a name, and either the step or the sample: Philox is a counter-based
generator (Salmon et al., 2011, "Parallel random numbers: as easy as 1, 2, 3"), so a run that resumes at any
step, with any number of workers, microbatches or ranks, draws the same numbers again.
"""

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

MASK = 2**64 - 1


def generator(seed: int, name: str, *counter: int) -> np.random.Generator:
    """The generator for one purpose.

    Args:
        seed: the run's seed.
        name: what is drawn; different names give independent streams.
        counter: at most three integers that say for which step, epoch or sample.
    """
    words = [0, *(value & MASK for value in counter), 0, 0, 0][:4]
    key = np.array([seed & MASK, zlib.crc32(name.encode())], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array(words, dtype=np.uint64)))


def seed_torch(seed: int, name: str, *counter: int) -> None:
    """Set torch's global generators, which dropout and the like draw from, for one step."""
    torch.manual_seed(int(generator(seed, name, *counter).integers(2**63)))


class Rows:
    """Draws for a batch in which row i depends only on the seed, the name and that row's sample."""

    def __init__(self, seed: int, prefix: str, samples: Sequence[tuple[int, int]], device: torch.device) -> None:
        """Keep what the rows are keyed by.

        Args:
            seed: the run's seed.
            prefix: put before every name, so that two phases of a step draw different numbers.
            samples: (epoch, index in the split) of each row.
            device: where the draws are put.
        """
        self.seed, self.prefix, self.samples, self.device = seed, prefix, samples, device

    def normal(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Standard normal numbers, (batch, *shape)."""
        return self._draw(name, shape, lambda rng, out: rng.standard_normal(out=out, dtype=np.float32))

    def uniform(self, name: str, shape: Sequence[int] = ()) -> Tensor:
        """Numbers in [0, 1), (batch, *shape)."""
        return self._draw(name, shape, lambda rng, out: rng.random(out=out, dtype=np.float32))

    def integers(self, name: str, high: int, shape: Sequence[int] = ()) -> Tensor:
        """Whole numbers in [0, high), (batch, *shape), int64."""
        rows = [
            generator(self.seed, self.prefix + name, *sample).integers(high, size=tuple(shape))
            for sample in self.samples
        ]
        return torch.as_tensor(np.array(rows, dtype=np.int64)).to(self.device)

    def _draw(self, name: str, shape: Sequence[int], fill) -> Tensor:
        rows = np.empty((len(self.samples), *shape), dtype=np.float32)
        for row, sample in zip(rows.reshape(len(rows), -1), self.samples, strict=True):
            fill(generator(self.seed, self.prefix + name, *sample), row)
        return torch.from_numpy(rows).to(self.device)
