"""Pickles of numbers, read without running what they say.

A pickle is a program, and Python's own reader runs it. This one knows a handful of names, stands something harmless in
for each, and refuses all others: so a file can give nothing but numbers, text, lists, dicts, arrays and matrices.
"""

import io
import math
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np

from zoo.training.data.arrays import MOST_CELLS

KINDS = "biuf"
"""Of numpy's types: booleans, whole numbers and fractions."""
OPCODES = {kind.code: kind for kind in pickletools.opcodes}


def read_numbers(path: Path) -> Any:
    """What a pickle holds: arrays and CSR matrices as numpy arrays, the latter dense, dicts, lists, numbers and text.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no pickle, or holds something else.
    """
    try:
        raw = path.read_bytes()
        _check_places(raw)
        return _plain(_Reader(io.BytesIO(raw), encoding="latin1").load())
    except _RefusedError as error:
        raise ValueError(
            f"{path}: {error}; only numbers, lists, dicts, numpy arrays and CSR matrices are read"
        ) from None
    except OSError:
        raise
    except Exception as error:  # whatever a damaged program can run into
        raise ValueError(f"{path}: not a pickle of numbers: {type(error).__name__}: {error}") from None


def _check_places(raw: bytes) -> None:
    """Refuse to remember something at a place beyond the length of the file, for all before it would be laid out."""
    file = io.BytesIO(raw)
    while code := file.read(1):
        kind = OPCODES[code.decode("latin1")]
        if kind.name == "STOP":
            return
        if kind.name == "STRING":  # whose reader wants ASCII, as Python 2 did not
            file.readline()
        elif kind.arg is not None:
            argument = kind.arg.reader(file)
            if kind.name.endswith("PUT") and argument > len(raw):
                raise _RefusedError(f"the pickle of {len(raw)} bytes remembers something as number {argument}")


class _RefusedError(Exception):
    """The pickle names something that it may not."""


class _Reader(pickle.Unpickler):
    """Knows the names below and no others; the stand-ins are made anew for each file, which can write into them."""

    def __init__(self, file: io.BytesIO, *, encoding: str) -> None:
        super().__init__(file, encoding=encoding)
        self.known = _stand_ins()

    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return self.known[f"{module}.{name}"]
        except KeyError:
            raise _RefusedError(f"the pickle asks for {module}.{name}, which may run anything") from None


def _kept(what: str) -> type:
    """A class that stands for one of numpy's or scipy's, and only keeps what it is told."""

    class Kept:
        kind = what

        def __init__(self, *given: Any) -> None:
            self.given, self.state = given, None

        def __setstate__(self, state: Any) -> None:
            self.state = state

    return Kept


def _stand_ins() -> dict[str, Any]:
    """Name -> what stands for it, of all that a pickle of numbers calls."""
    array, matrix = _kept("array"), _kept("matrix")

    def empty(*_: Any) -> Any:
        return array()

    def made(kind: Any, *_: Any) -> Any:
        return kind() if kind is matrix else None

    def encoded(text: str, _: str) -> bytes:
        return text.encode("latin1")

    def no_bytes(*_: Any) -> bytes:
        return b""

    def dictionary(*_: Any) -> dict[Any, Any]:
        return {}

    return {
        "numpy.ndarray": array,
        "numpy.dtype": _kept("type"),
        "numpy.core.multiarray._reconstruct": empty,
        "numpy._core.multiarray._reconstruct": empty,
        "scipy.sparse.csr.csr_matrix": matrix,
        "scipy.sparse._csr.csr_matrix": matrix,
        "copy_reg._reconstructor": made,
        "copyreg._reconstructor": made,
        "_codecs.encode": encoded,
        "collections.defaultdict": dictionary,
        "__builtin__.bytes": no_bytes,
        "__builtin__.list": list,
        "builtins.list": list,
        "__builtin__.object": object,
        "builtins.object": object,
    }


def _plain(value: Any) -> Any:
    """The numbers that a stand-in was told of; everything else as it is."""
    kind = getattr(value, "kind", type(value).__name__)
    if kind == "array":
        return _array(value.state)
    if kind == "matrix":
        return _dense(value.state)
    if isinstance(value, dict | list | int | float | str | bytes):
        return value
    raise _RefusedError(f"the pickle holds a {kind}")


def _array(state: Any) -> np.ndarray:
    """From what numpy writes: version, shape, type, whether columns come first, and the bytes."""
    _, shape, kind, columns_first, data = state
    raw = data.encode("latin1") if isinstance(data, str) else data
    (name, *_), (_, order, *_) = kind.given, kind.state
    numbers = np.dtype(str(name)).newbyteorder("=" if order == "|" else order)
    if numbers.kind not in KINDS or not isinstance(raw, bytes) or math.prod(shape) * numbers.itemsize != len(raw):
        raise _RefusedError(f"the pickle holds an array of {numbers} and shape {shape} in {len(raw)} bytes")
    return np.frombuffer(raw, numbers).reshape(shape, order="F" if columns_first else "C")


def _dense(state: Any) -> np.ndarray:
    """A CSR matrix as (rows, columns) float32; its indices are checked."""
    rows, columns = state["_shape"] if "_shape" in state else state["shape"]
    data, indices, start = (_array(state[name].state) for name in ("data", "indices", "indptr"))
    counts = np.diff(start)
    whole = len(start) == rows + 1 and start[0] == 0 and start[-1] == len(indices) == len(data)
    if not whole or (counts < 0).any() or (len(indices) and not 0 <= indices.min() <= indices.max() < columns):
        raise _RefusedError(f"the pickle holds a matrix of {rows} rows and {columns} columns that does not add up")
    if rows * columns > MOST_CELLS:
        raise _RefusedError(f"the pickle holds a matrix of {rows} rows and {columns} columns, which is too large")
    matrix = np.zeros((rows, columns), np.float32)
    with np.errstate(over="ignore"):  # who asks for numbers checks them
        np.add.at(matrix, (np.repeat(np.arange(rows), counts), indices), data)
    return matrix
