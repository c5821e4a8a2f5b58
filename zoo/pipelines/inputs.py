"""Files as a model's inputs: images, folders of images, arrays and rows of a table, prepared as in training."""

import csv
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.preprocess import Preprocessing
from zoo.storage import DamagedFile
from zoo.training.data.files import read_npz
from zoo.training.data.image_folder import SUFFIXES
from zoo.training.data.photos import open_image

ARRAYS = (".npy", ".npz")
TABLES = (".csv", ".tsv", ".txt")


class Wanted(NamedTuple):
    """What a model takes."""

    key: str
    """`image` or `features`: the argument of forward."""
    shape: tuple[int, ...]
    """Of one sample: (channels, height, width) of images, also where their pixels are features, or (columns,)."""
    any_size: bool
    """Whether arrays may hold images of another height and width."""
    record: Preprocessing
    transform: Callable[[Any], Tensor] | None
    """From a photo to one sample; None where the model takes no images."""

    @property
    def is_image(self) -> bool:
        """Whether samples are pictures, rather than rows of numbers."""
        return len(self.shape) == 3

    def normalised(self, rows: Tensor) -> Tensor:
        """Samples in the units of training, from images in [0, 1] or from rows as they stand in a table."""
        mean, std = rows.new_tensor(self.record.mean), rows.new_tensor(self.record.std)
        if not self.is_image:
            return (rows - mean) / std
        low, high = self.record.value_range
        return (rows * (high - low) + low - mean[:, None, None]) / std[:, None, None]


class Inputs(NamedTuple):
    """Some samples of a file."""

    names: list[str]
    batch: dict[str, Tensor]


def read_inputs(path: Path, wanted: Wanted, batch_size: int = 64) -> Iterator[Inputs]:
    """Read what lies at a path, batch by batch.

    Args:
        path: an image, a folder of images, a .npy or .npz array, or a table of numbers (.csv, .tsv).
        wanted: what the model takes.
        batch_size: samples at once.

    Raises:
        FileNotFoundError: nothing lies there.
        OSError: a file cannot be read, or is damaged.
        ValueError: it holds something that this model does not take.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    suffix = path.suffix.lower()
    if suffix in ARRAYS or suffix in TABLES:
        rows = _from_array(path, wanted) if suffix in ARRAYS else _from_table(path, wanted)
        names = [str(path)] if len(rows) == 1 else [f"{path}[{i}]" for i in range(len(rows))]
        for start in range(0, len(rows), batch_size):
            part = slice(start, start + batch_size)
            yield Inputs(names[part], _batch(wanted.normalised(rows[part]), wanted))
        return
    if not wanted.is_image:
        raise ValueError(f"{path}: this model takes rows of {wanted.shape[0]} numbers; give a .csv or .npy file")
    files = _images(path)
    for start in range(0, len(files), batch_size):
        part = files[start : start + batch_size]
        yield Inputs([str(file) for file in part], _batch(torch.stack([_photo(file, wanted) for file in part]), wanted))


def _batch(samples: Tensor, wanted: Wanted) -> dict[str, Tensor]:
    return {wanted.key: samples.flatten(1) if wanted.key == "features" else samples}


def _images(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not found:
        raise ValueError(f"{path}: no image lies in this folder; known are {', '.join(sorted(SUFFIXES))}")
    return found


def _photo(path: Path, wanted: Wanted) -> Tensor:
    """(channels, size, size), as in training."""
    if wanted.transform is None or wanted.shape[0] not in (1, 3):
        raise ValueError(f"{path}: photos have 1 or 3 channels, but this model takes {wanted.shape}; give a .npy array")
    return wanted.transform(open_image(path).convert("L" if wanted.shape[0] == 1 else "RGB"))


def _from_array(path: Path, wanted: Wanted) -> Tensor:
    """(samples, *wanted.shape): one sample or several, images in [0, 1]."""
    values = _load(path, wanted.key)
    if values.dtype.kind not in "buif":
        raise ValueError(f"{path}: holds {values.dtype}, not numbers")
    white = 255.0 if wanted.is_image and values.dtype == np.uint8 else 1.0
    rows = torch.from_numpy(np.asarray(values / np.float32(white), dtype=np.float32))
    fitted = _with_samples(rows, wanted)
    if fitted is None or not len(fitted):
        form = "(samples, channels, height, width)" if wanted.is_image else "(samples, columns)"
        raise ValueError(
            f"{path}: has shape {tuple(values.shape)}, but this model takes {wanted.shape}, or many as {form}"
        )
    if not fitted.isfinite().all():
        raise ValueError(f"{path}: holds NaN or infinity; this model takes finite numbers")
    if wanted.is_image and (fitted.min() < 0 or fitted.max() > 1):
        low, high = float(fitted.min()), float(fitted.max())
        raise ValueError(f"{path}: pixels from {low:g} to {high:g}; give floats in [0, 1], or uint8 from 0 to 255")
    return fitted


def _load(path: Path, key: str) -> np.ndarray:
    try:
        loaded: Any = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            names = loaded.files
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        if "allow_pickle" in str(error):  # numpy's word for objects, and for bytes that are no array at all
            raise ValueError(f"{path}: holds no array of numbers; write it by numpy.save") from None
        raise DamagedFile(f"{path}: not a whole array ({error}); use another copy") from None
    found = read_npz(path, names if len(names) == 1 else (key,))
    if not found:
        raise ValueError(f"{path}: has arrays {', '.join(names) or 'none'}; call the one to use {key!r}")
    return next(iter(found.values()))


def _with_samples(rows: Tensor, wanted: Wanted) -> Tensor | None:
    """The array with an axis of samples and one of channels, or None where its shape does not fit."""
    if wanted.is_image:
        channels = wanted.shape[0]
        if rows.ndim == 2 and rows.shape == wanted.shape[1:] and channels == 1:
            rows = rows[None, None]
        elif rows.ndim == 3:
            rows = rows[None] if rows.shape[0] == channels else rows[:, None]
        fits = rows.ndim == 4 and rows.shape[1] == channels and (wanted.any_size or rows.shape[1:] == wanted.shape)
    else:
        rows = rows[None] if rows.ndim == 1 else rows
        fits = rows.ndim == 2 and rows.shape[1:] == wanted.shape
    return rows if fits else None


def _from_table(path: Path, wanted: Wanted) -> Tensor:
    """(rows, columns) of a delimited text; columns are found by their names where both it and the model have names."""
    if wanted.is_image:
        raise ValueError(f"{path}: this model takes images of {wanted.shape}; give an image, a folder, or a .npy array")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file in UTF-8") from None
    first = text.partition("\n")[0]
    cells = [row for row in csv.reader(text.splitlines(), delimiter=max(",;\t", key=first.count)) if any(row)]
    known = wanted.record.columns
    names = [cell.strip() for cell in cells[0]] if cells else []
    if names and (set(known) & set(names) or all(_number(cell) is None for cell in names)):
        cells = [_chosen(path, number, row, names, known) for number, row in enumerate(cells[1:], start=1)]
    if not cells:
        raise ValueError(f"{path}: holds no row of numbers")
    return torch.tensor([_row(path, number, row, wanted.shape[0]) for number, row in enumerate(cells, start=1)])


def _chosen(path: Path, number: int, row: list[str], names: list[str], known: Sequence[str]) -> list[str]:
    """The cells of a row in the order of the columns that the model was trained on; others are left aside."""
    missing = [name for name in known if name not in names]
    if missing:
        raise ValueError(
            f"{path}: there is no column {missing[0]!r}; this model reads {', '.join(known)}; rename it, or leave the "
            "header out"
        )
    if len(row) != len(names):
        raise ValueError(f"{path}, row {number}: {len(row)} cells where the header has {len(names)}")
    return [row[names.index(name)] for name in known] if known else row


def _row(path: Path, number: int, row: Sequence[str], columns: int) -> list[float]:
    values = [_number(cell) for cell in row]
    if len(values) != columns:
        raise ValueError(
            f"{path}, row {number}: {len(values)} cells, but this model takes {columns} columns, no target"
        )
    finite = [value for value in values if value is not None]
    if len(finite) < len(values):
        raise ValueError(f"{path}, row {number}: {row[values.index(None)]!r} is not a finite number")
    return finite


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
