"""Rows of brackets that are balanced or not: a language that needs a stack, and a question whose answer is known.

Half of the rows are balanced. The others are so too, but for one bracket that was replaced by another one, so that
they are as long and their brackets nearly as frequent. Every row with brackets of two kinds in it has all depths
that its length allows.

Source of the language: Chomsky and Schützenberger, 1963; as a test of recurrent networks: Gers and Schmidhuber, 2001,
"LSTM recurrent networks learn simple context-free and context-sensitive languages".

Tokens: 0 is padding; 1 and 2 open and close the first kind, 3 and 4 the second, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_positive
from zoo.training.data.drawn import Drawn, drawn

PAD = 0


@dataclass(frozen=True, kw_only=True)
class Brackets(Drawn):
    """How long the rows are, and of what."""

    kinds: int = 2
    """Kinds of brackets."""
    min_pairs: int = 2
    """The fewest pairs in a row; all numbers are equally frequent."""
    max_pairs: int = 12

    def __post_init__(self) -> None:
        """Refuse rows that cannot be."""
        super().__post_init__()
        check_positive(self, "kinds")
        if not 1 <= self.min_pairs <= self.max_pairs:
            raise ValueError(f"min_pairs {self.min_pairs} is not in [1, {self.max_pairs}], the max_pairs")


def rows(options: Brackets, _: str, rngs: Sequence[np.random.Generator]) -> dict[str, Tensor]:
    """Rows, and whether they are balanced.

    Returns:
        `tokens` (batch, 2 * max_pairs) int64, padded by 0; `mask`, False there; `target` (batch,) int64, 1 for
        balanced ones.
    """
    tokens = np.full((len(rngs), 2 * options.max_pairs), PAD)
    target = np.empty(len(rngs), dtype=np.int64)
    for place, (row, rng) in enumerate(zip(tokens, rngs, strict=True)):
        pairs = int(rng.integers(options.min_pairs, options.max_pairs, endpoint=True))
        row[: 2 * pairs] = balanced(rng, pairs, options.kinds)
        target[place] = rng.integers(2)
        if not target[place]:
            where = rng.integers(2 * pairs)
            row[where] = (row[where] - 1 + rng.integers(1, 2 * options.kinds)) % (2 * options.kinds) + 1
    return {
        "tokens": torch.from_numpy(tokens),
        "mask": torch.from_numpy(tokens != PAD),
        "target": torch.from_numpy(target),
    }


def balanced(rng: np.random.Generator, pairs: int, kinds: int) -> list[int]:
    """A balanced row: at every place a bracket opens or the last one closes, as a fair coin says where both can be."""
    row: list[int] = []
    open_kinds: list[int] = []
    left = pairs
    while left or open_kinds:
        if left and (not open_kinds or rng.random() < 0.5):
            open_kinds.append(int(rng.integers(kinds)))
            row.append(2 * open_kinds[-1] + 1)
            left -= 1
        else:
            row.append(2 * open_kinds.pop() + 2)
    return row


def load(options: Brackets) -> Splits:
    """The three parts; short rows may occur in several of them, being few."""
    spec = Spec(
        keys=("tokens", "mask", "target"),
        num_classes=2,
        vocab_size=2 * options.kinds + 1,
        max_seq_len=2 * options.max_pairs,
        labels=("broken", "balanced"),
    )
    return drawn("brackets", options, spec, rows)


DATA = DataSet(name="brackets", config=Brackets, load=load)
