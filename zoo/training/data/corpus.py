"""Many documents as one long array, of which only what is asked for is read."""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

END = b"\n\0"
"""Follows each file of a folder."""


class Corpus:
    """Files in a row, each followed by `end`, as an array of bytes that can be sliced; they are mapped, not loaded."""

    def __init__(self, files: Sequence[Path], end: bytes = END) -> None:
        """Note how long they are."""
        self.files, self.end = tuple(files), np.frombuffer(end, dtype=np.uint8)
        sizes = [path.stat().st_size + len(end) for path in self.files]
        self.starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        """Where each file begins, and where the last one ends."""

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(len(self))
        first, last = np.searchsorted(self.starts, [start, stop - 1], side="right") - 1
        pieces = [self._piece(int(file), start, stop) for file in range(first, last + 1)] if start < stop else []
        return np.concatenate(pieces) if pieces else np.empty(0, dtype=np.uint8)

    def _piece(self, file: int, start: int, stop: int) -> np.ndarray:
        """What of one file, or of the end behind it, lies between two places."""
        begin, end = (int(place) for place in self.starts[file : file + 2])
        content = _mapped(self.files[file])
        if len(content) + len(self.end) != end - begin:
            raise ValueError(f"{self.files[file]} has changed its size since the data were opened; begin the run again")
        body = content[max(start - begin, 0) : max(stop - begin, 0)]
        behind = self.end[max(start - begin - len(content), 0) : max(stop - begin - len(content), 0)]
        return np.concatenate([body, behind]) if len(behind) else np.asarray(body)


@functools.lru_cache(maxsize=256)
def _mapped(path: Path) -> np.ndarray:
    return np.memmap(path, dtype=np.uint8, mode="r") if path.stat().st_size else np.empty(0, dtype=np.uint8)


class Part:
    """A stretch of an array or corpus, which can be sliced as it can."""

    def __init__(self, whole: "Corpus | np.ndarray", start: int, stop: int) -> None:
        """Keep where it lies."""
        self.whole, self.start, self.stop = whole, start, stop

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, span: slice) -> np.ndarray:
        start, stop, _ = span.indices(len(self))
        return self.whole[self.start + start : self.start + max(start, stop)]
