"""Rows of symbols to be remembered and repeated: a task whose answer is known, for what holds a memory.

A row has `num_symbols` symbols among blanks, then a sign for each of them at which it is to be repeated, in order. In
plain copying the symbols stand in a row at the start, which a fixed delay solves. In selective copying they stand
anywhere before the signs, so that a model must choose what it remembers.

Source: Arjovsky, Shah and Bengio, 2016, "Unitary evolution recurrent neural networks", section 5.1; selective: Gu and
Dao, 2023, "Mamba", section 4.1.1.

Tokens 0 and 1 are blank and sign; symbol n is token n + 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import IGNORE, DataSet, Spec, Splits
from zoo.training.data.arrays import check_positive
from zoo.training.data.drawn import Drawn, drawn

BLANK, SIGN, FIRST = range(3)
"""The tokens with a meaning of their own, and the first that is a symbol."""


@dataclass(frozen=True, kw_only=True)
class Copying(Drawn):
    """How long the rows are, and of what."""

    selective: bool = False
    """The symbols stand anywhere before the signs."""
    num_symbols: int = 8
    """Symbols in a row."""
    alphabet: int = 14
    """Different symbols."""
    gap: int = 48
    """Blanks in a row."""

    def __post_init__(self) -> None:
        """Refuse rows that cannot be."""
        super().__post_init__()
        check_positive(self, "num_symbols", "alphabet")
        if self.gap < 0:
            raise ValueError(f"gap {self.gap} is negative")


def rows(options: Copying, _: str, rngs: Sequence[np.random.Generator]) -> dict[str, Tensor]:
    """Rows, and what is to be repeated.

    Returns:
        `tokens` and `target`, (batch, gap + 2 * num_symbols) int64; the target is -100 but for the signs.
    """
    count, before = options.num_symbols, options.gap + options.num_symbols
    tokens = np.full((len(rngs), before + count), BLANK)
    tokens[:, before:] = SIGN
    target = np.full_like(tokens, IGNORE)
    for row, wanted, rng in zip(tokens, target, rngs, strict=True):
        symbols = rng.integers(0, options.alphabet, count) + FIRST
        places = np.sort(rng.permutation(before)[:count]) if options.selective else np.arange(count)
        row[places], wanted[before:] = symbols, symbols
    return {"tokens": torch.from_numpy(tokens), "target": torch.from_numpy(target)}


def load(options: Copying) -> Splits:
    """The three parts; two rows are hardly ever alike, there being alphabet ** num_symbols of them."""
    spec = Spec(
        keys=("tokens", "target"),
        vocab_size=options.alphabet + FIRST,
        max_seq_len=options.gap + 2 * options.num_symbols,
    )
    return drawn("copying", options, spec, rows)


DATA = DataSet(name="copying", config=Copying, load=load)
