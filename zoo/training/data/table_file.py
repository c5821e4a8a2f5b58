"""Reading a table of numbers from a CSV or NPZ file, with errors that name the cell."""

import contextlib
import csv
import math
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.training.data.files import read_npz

LONGEST_CELL = 2**31 - 1
"""Characters; the csv module's own limit, 131,072, is less than some texts have."""
_LIMIT = threading.Lock()


class Table(NamedTuple):
    """What a file holds."""

    features: np.ndarray
    """(rows, columns), float64 and finite."""
    target: np.ndarray
    """(rows,): float64, or text where a cell is no number."""
    columns: tuple[str, ...] = ()
    """The names of the features, where the file has some."""


def read_table(path: str, target: str, header: bool | None) -> Table:
    """Read `*.npz` with arrays `features` and `target`, anything else as delimited text.

    Args:
        path: the file.
        target: the name of the target's column, or its number from 0; empty for the last one.
        header: whether the first row holds names; None: when no cell of it is a number.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds something else than numbers; the message names file, row and column.
    """
    return _read_npz(path) if Path(path).suffix.lower() == ".npz" else _read_text(path, target, header)


def read_columns(
    path: str, columns: Sequence[str] = (), header: bool | None = None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Columns of numbers and their names, from `*.npz` with an array `features`, or from delimited text.

    Args:
        path: the file.
        columns: which, by name or number from 0; all that hold numbers when not given.
        header: whether the first row of text holds names; None: when no cell of it is a number.

    Returns:
        (rows, columns), float64 and finite; and the columns' names, or their numbers where they have none.

    Raises:
        OSError: the file cannot be read.
        ValueError: a column is missing, or a cell of it is no number; the message names file, row and column.
    """
    names, values, lines = _npz_numbers(path) if Path(path).suffix.lower() == ".npz" else _text_numbers(path, header)
    holes = np.isnan(values)
    # one number is enough, or a single empty cell would make a column of words of it
    chosen = [_column(path, column, names) for column in columns] or np.flatnonzero(~holes.all(axis=0)).tolist()
    for place in chosen:
        if holes[:, place].any():
            line = lines[int(holes[:, place].argmax())]
            raise ValueError(
                f"{path}, line {line}, column {names[place]!r}: not a finite number; fill it in, or name the columns "
                "to read by data.columns"
            )
    if not chosen:
        raise ValueError(f"{path}: no column holds numbers; a series is numbers, a row of them for each time")
    return values[:, chosen], tuple(names[place] for place in chosen)


def _column(path: str, column: str, names: Sequence[str]) -> int:
    if column in names:
        return names.index(column)
    if column.isdecimal() and int(column) < len(names):
        return int(column)
    raise ValueError(
        f"{path}: there is no column {column!r} for data.columns; it has {', '.join(names)}; set data.header=true if "
        "the first row holds names that are numbers"
    )


def _text_numbers(path: str, header: bool | None) -> tuple[list[str], np.ndarray, list[int]]:
    """The columns' names, their cells, NaN where one is no finite number, and the lines that the rows end in."""
    numbered = read_cells(path)
    names, named = _names(path, numbered[0][1], header)
    for line, row in numbered:
        check_width(path, line, row, names)
    values = [[math.nan if (value := _number(cell)) is None else value for cell in row] for _, row in numbered[named:]]
    lines = [line for line, _ in numbered[named:]]
    return names, np.array(values, dtype=np.float64).reshape(-1, len(names)), lines


def _npz_numbers(path: str) -> tuple[list[str], np.ndarray, list[int]]:
    arrays = read_npz(path, ("features",))
    if "features" not in arrays:
        raise ValueError(f"{path}: an array named 'features' is needed")
    values = _float64(path, arrays["features"])
    if values.ndim != 2 or not values.size:
        raise ValueError(f"{path}: features have shape {values.shape}, not (times, variables)")
    values = np.where(np.isfinite(values), values, math.nan)
    return [str(place) for place in range(values.shape[1])], values, list(range(1, len(values) + 1))


def _read_npz(path: str) -> Table:
    arrays = read_npz(path, ("features", "target"))
    if len(arrays) < 2:
        raise ValueError(f"{path}: arrays named 'features' and 'target' are needed")
    features, target = _float64(path, arrays["features"]), arrays["target"]
    if features.ndim != 2 or target.shape != features.shape[:1] or not features.size:
        raise ValueError(
            f"{path}: features have shape {features.shape} and target {target.shape}, not (rows, columns) and (rows,)"
        )
    if target.dtype.kind in "iufb":
        target = target.astype(np.float64)
    for name, values in (("features", features), ("target", target)):
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            place = ", ".join(map(str, np.argwhere(~np.isfinite(values))[0]))
            raise ValueError(f"{path}: {name}[{place}] is not finite; fill it in or leave the row out")
    return Table(features, target)


def _float64(path: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{path}: not an NPZ file of numbers: features are {values.dtype}")
    return values.astype(np.float64)


def _read_text(path: str, target: str, header: bool | None) -> Table:
    rows = read_cells(path)
    names, named = _names(path, rows[0][1], header)
    rows = rows[named:]
    if not rows or len(names) < 2:
        raise ValueError(f"{path}: {len(rows)} rows of {len(names)} columns; at least one row of two is needed")
    column = _target_column(path, target, names)
    features = np.empty((len(rows), len(names) - 1))
    for i, (line, row) in enumerate(rows):
        check_width(path, line, row, names)
        values = [_number(cell) for cell in row]
        for j, value in enumerate(values):
            if j != column and value is None:
                raise ValueError(
                    f"{path}, line {line}, column {names[j]!r}: {row[j]!r} is not a finite number; "
                    "encode it, fill it in or leave it out; texts are read by data.name=labelled_text"
                )
        features[i] = [value for j, value in enumerate(values) if j != column]
    values = _target([row[column].strip() for _, row in rows], f"{path}, column {names[column]!r}")
    return Table(features, values, tuple(name for j, name in enumerate(names) if j != column) if named else ())


def read_cells(path: str) -> list[tuple[int, list[str]]]:
    """The rows of delimited text that are not blank, each with the line in which it ends.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such file, or holds no rows.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="") as file, _long_cells():
            first = file.readline()
            file.seek(0)
            delimiter = max(",;\t", key=first.count)
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            numbered = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None
    except csv.Error as error:
        raise ValueError(f"{path}: not a CSV file: {error}") from None
    if not numbered:
        raise ValueError(f"{path}: the file holds no rows")
    return numbered


@contextlib.contextmanager
def _long_cells() -> Iterator[None]:
    """Let the csv module, whose limit is one for the whole process, read cells of any length meanwhile."""
    with _LIMIT:
        before = csv.field_size_limit(LONGEST_CELL)
        try:
            yield
        finally:
            csv.field_size_limit(before)


def column_names(path: str, header: Sequence[str]) -> list[str]:
    """The names in a header, of which none may stand twice; columns may be without one.

    Raises:
        ValueError: one stands twice.
    """
    names = [cell.strip() for cell in header]
    for name, count in Counter(names).items():
        if name and count > 1:
            raise ValueError(f"{path}: {count} columns are called {name!r}; rename all but one")
    return names


def _names(path: str, first: list[str], header: bool | None) -> tuple[list[str], bool]:
    """The columns' names, numbers from 0 where the first row holds none, and whether it does."""
    named = all(_number(cell) is None for cell in first) if header is None else header
    return (column_names(path, first) if named else [str(place) for place in range(len(first))]), named


def check_width(path: str, line: int, row: Sequence[str], names: Sequence[str]) -> None:
    """Refuse a row with more or fewer cells than there are columns."""
    if len(row) != len(names):
        raise ValueError(f"{path}, line {line}: {len(row)} cells where {len(names)} are expected")


def _target_column(path: str, target: str, names: list[str]) -> int:
    if target in names:
        return names.index(target)
    if not target:
        return len(names) - 1
    if target.isdecimal() and int(target) < len(names):
        return int(target)
    raise ValueError(f"{path}: there is no column {target!r} for data.target; it has {', '.join(names)}")


def _target(cells: list[str], where: str) -> np.ndarray:
    if not all(cells):
        raise ValueError(f"{where}: an empty cell; every row needs a target")
    values: list[Any] = [_number(cell) for cell in cells]
    return np.array(cells) if None in values else np.array(values, np.float64)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
