"""Reading NPZ files and lines of text, with errors that name the file, and the line."""

import lzma
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from zoo.storage import DamagedFile

DAMAGE = zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError
UNREADABLE = ValueError, TypeError, OverflowError, MemoryError, RuntimeError
"""Of headers that are none, and of files that are encrypted or compressed in an unknown way."""


def read_npz(path: str | Path, names: Collection[str]) -> dict[str, np.ndarray]:
    """The arrays of an NPZ file with these names, of those that it has; objects are not read.

    Raises:
        OSError: the file cannot be read; `DamagedFile`: its bytes are not what was written.
        ValueError: it is no NPZ file, or holds something else than arrays of numbers and text.
    """
    with open(path, "rb") as file:
        try:
            loaded: Any = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                raise ValueError("it is one array without a name; numpy.savez gives names")
            with loaded as arrays:
                return {name: arrays[name] for name in arrays.files if name in names}
        except DAMAGE as error:
            raise DamagedFile(f"{path}: a damaged NPZ file ({error}); use another copy") from None
        except UNREADABLE as error:
            raise ValueError(f"{path}: not an NPZ file of numbers: {' '.join(str(error).split())[:200]}") from None


def numbered_lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a text that are not blank, with their numbers from 1.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no text in UTF-8.
    """
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not a text in UTF-8") from None
    return [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
