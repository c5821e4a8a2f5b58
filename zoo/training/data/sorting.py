"""Rows of symbols to be put in order: pairs of source and target whose right answer is known, and no two alike in
training and test.

Symbols are numbers; the text to be written has those of the source, in ascending order, as often as they occur. A
row's sum modulo 10 says which part it belongs to: 0 test, 1 validation, all others training. So the parts have no row
in common, nor two rows with the same answer.

Tokens 0, 1 and 2 are padding, start and stop, as `TransformerConfig` has them by default; symbol n is token n + 3.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import IGNORE, DataSet, Spec, Splits
from zoo.training.data.drawn import Drawn, drawn

PAD, START, STOP, FIRST = range(4)
"""The tokens with a meaning of their own, and the first that is a symbol."""
PARTS = {"train": range(2, 10), "val": range(1, 2), "test": range(1)}
"""The sums of symbols, modulo 10, that a part has."""


@dataclass(frozen=True, kw_only=True)
class Sorting(Drawn):
    """How long the rows are, and of what."""

    num_symbols: int = 64
    min_length: int = 4
    """The fewest symbols in a row; all lengths are equally frequent."""
    max_length: int = 16

    def __post_init__(self) -> None:
        """Refuse rows that cannot be."""
        super().__post_init__()
        if self.num_symbols < 10:
            raise ValueError(f"num_symbols {self.num_symbols} is below 10, and then not all parts have rows")
        if not 1 <= self.min_length <= self.max_length:
            raise ValueError(f"min_length {self.min_length} is not in [1, {self.max_length}], the max_length")


def rows(options: Sorting, part: str, rngs: Sequence[np.random.Generator]) -> dict[str, Tensor]:
    """Rows and their order.

    Returns:
        `source` (batch, max_length) and `source_mask`, True where it has a symbol; `tokens`, the start token and
        the symbols in order, and `target`, what follows each, the stop token being last, both
        (batch, max_length + 1), padded by 0 and by -100.
    """
    made = [_draw(rng, options, PARTS[part]) + FIRST for rng in rngs]
    longest = options.max_length
    return {
        "source": _stack(made, longest, PAD),
        "source_mask": torch.arange(longest) < torch.tensor([len(row) for row in made])[:, None],
        "tokens": _stack([np.append(START, np.sort(row)) for row in made], longest + 1, PAD),
        "target": _stack([np.append(np.sort(row), STOP) for row in made], longest + 1, IGNORE),
    }


def _draw(rng: np.random.Generator, options: Sorting, part: Collection[int]) -> np.ndarray:
    """The first of a generator's rows that belongs to the part."""
    length = rng.integers(options.min_length, options.max_length, endpoint=True)
    while True:
        row = rng.integers(0, options.num_symbols, length)
        if row.sum() % 10 in part:
            return row


def _stack(rows: Sequence[np.ndarray], longest: int, fill: int) -> Tensor:
    """(rows, longest) int64."""
    stacked = np.full((len(rows), longest), fill)
    for place, row in zip(stacked, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(stacked)


def load(options: Sorting) -> Splits:
    """The three parts; see `Sorting`."""
    spec = Spec(
        keys=("source", "source_mask", "tokens", "target"),
        vocab_size=options.num_symbols + FIRST,
        max_seq_len=options.max_length + 1,
    )
    return drawn("sorting", options, spec, rows)


DATA = DataSet(name="sorting", config=Sorting, load=load)
