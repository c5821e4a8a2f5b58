"""Numeric time series from a CSV or NPZ file, cut into windows whose next values are to be predicted.

The series is split in the order of time: the last part is `test`, what lies before it `val`, so that nothing of the
future is learnt from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_fractions, check_positive
from zoo.training.data.table_file import read_columns


@dataclass(frozen=True, kw_only=True)
class SeriesFile:
    """Which series, and in what pieces."""

    path: str
    """Comma, semicolon or tab separated numbers, a row for each time; or an NPZ file with an array `features`."""
    columns: tuple[str, ...] = ()
    """The variables by their names, or numbers from 0; all that hold numbers when not given."""
    header: bool | None = None
    """Whether the first row holds the names of the columns; when not given: if no cell of it is a number."""
    seq_len: int = 64
    """Times per sample; the one after each is to be predicted."""
    horizon: int = 1
    """How many times ahead."""
    val_fraction: float = 0.1
    test_fraction: float = 0.2

    def __post_init__(self) -> None:
        """Refuse pieces without length and shares that leave nothing."""
        check_positive(self, "seq_len", "horizon")
        check_fractions(val_fraction=self.val_fraction, test_fraction=self.test_fraction)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """One part of a series, normalised."""

    values: np.ndarray
    """(times, variables) float32."""
    seq_len: int
    horizon: int

    def __len__(self) -> int:
        last = len(self.values) - self.seq_len - self.horizon  # where the last window starts
        return 0 if last < 0 else 1 - (-last // self.seq_len)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`features` and, `horizon` times later, `target`, both (batch, seq_len, variables) float32.

        With generators a window starts anywhere within the stretch that its index names; without, where the last one
        ended, but for the last window, which ends with the series.
        """
        starts = np.asarray(indices, dtype=np.int64) * self.seq_len
        if rngs is not None:
            starts = starts + [rng.integers(self.seq_len) for rng in rngs]
        starts = np.minimum(starts, len(self.values) - self.seq_len - self.horizon)
        places = starts[:, None] + np.arange(self.seq_len)
        return {
            "features": torch.from_numpy(self.values[places]),
            "target": torch.from_numpy(self.values[places + self.horizon]),
        }


def load(options: SeriesFile) -> Splits:
    """Read the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else than numbers, or too few times; the message names what.
    """
    values, names = read_columns(options.path, options.columns, options.header)
    test = int(len(values) * options.test_fraction)
    val = int(len(values) * options.val_fraction)
    ends = {"train": (0, len(values) - test - val), "val": (len(values) - test - val, len(values) - test)}
    ends["test"] = (len(values) - test, len(values))
    train = values[slice(*ends["train"])]
    mean, std = (train.mean(0), train.std(0)) if len(train) else (0.0, 1.0)
    if len(train) and not np.all(std > 0):
        constant = [name for name, deviation in zip(names, np.atleast_1d(std), strict=True) if not deviation > 0]
        raise ValueError(f"{options.path}: {constant[0]!r} never changes in the training part; leave it out")
    normalised = ((values - mean) / std).astype(np.float32)

    def part(name: str) -> Windows:
        made = Windows(values=normalised[slice(*ends[name])], seq_len=options.seq_len, horizon=options.horizon)
        if not len(made):
            least = options.seq_len + options.horizon
            raise ValueError(
                f"{options.path}: the {name} part has {len(made.values)} times and needs {least} with data.seq_len "
                f"{options.seq_len} and data.horizon {options.horizon}; give a longer series or smaller numbers"
            )
        return made

    spec = Spec(
        keys=("features", "target"),
        in_features=values.shape[1],
        out_features=values.shape[1],
        columns=names,
        mean=tuple(float(value) for value in np.atleast_1d(mean)),
        std=tuple(float(value) for value in np.atleast_1d(std)),
    )
    return Splits(spec=spec, train=part("train"), val=part("val") if val else None, test=part("test"))


DATA = DataSet(name="series", config=SeriesFile, load=load)
