"""Text as bytes: a file, a folder, or the sources of Python's own standard library, which everybody has.

Files of a folder are joined in the order of their paths, each followed by a newline and a zero byte, so that
a zero byte is where a text ends. About a tenth is held out as `test`: of a folder every file whose path hashes
to 0 modulo 10, so that a file stays on its side when others come and go; of a single file, or of fewer than
100, the last tenth of the bytes.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import DataSet, Spec, Splits

END = b"\n\0"
"""Follows each file of a folder."""

IGNORE = -100
"""The target of positions past the end, which PyTorch's cross_entropy skips by default."""

FEWEST_FILES = 100
"""Below, a hash does not split files near enough to nine to one."""

STDLIB_LEAVES_OUT = frozenset(
    ("test", "tests", "idlelib", "lib2to3", "site-packages", "turtledemo", "ensurepip", "pydoc_data")
)


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """Which text, and in what pieces."""

    path: str | None = None
    """A file or a folder; by default the sources of Python's standard library, whose bytes depend on its version."""
    suffixes: tuple[str, ...] = (".txt", ".md", ".py")
    """Which files of a folder are read; hidden folders are not entered."""
    seq_len: int = 128
    """Bytes per sample."""
    val_fraction: float = 0.0
    """Share of the training bytes, their end, that becomes `val`."""

    def __post_init__(self) -> None:
        """Refuse pieces without length and shares that leave nothing."""
        if self.seq_len < 1:
            raise ValueError(f"seq_len {self.seq_len} is below 1")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"val_fraction {self.val_fraction} is not in [0, 1)")


class Windows:
    """A text cut into windows of `seq_len` bytes, each byte but the first being the target of one position."""

    def __init__(self, data: np.ndarray, seq_len: int) -> None:
        """Keep the text.

        Args:
            data: (bytes,) uint8, at least seq_len + 1 of them where windows are to start at random.
            seq_len: positions per window.
        """
        self.data, self.seq_len = data, seq_len

    def __len__(self) -> int:
        return -(-(len(self.data) - 1) // self.seq_len)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`tokens` and the bytes that follow them, `target`, both (batch, seq_len) int64.

        With generators a window starts anywhere within the stretch that its index names. Without, it starts
        where the last one ended, and positions past the end of the text have the target -100.
        """
        starts = np.asarray(indices, dtype=np.int64) * self.seq_len
        if rngs is not None:
            starts = starts + [rng.integers(self.seq_len) for rng in rngs]
            starts = np.minimum(starts, len(self.data) - 1 - self.seq_len)
        positions = starts[:, None] + np.arange(self.seq_len + 1)
        inside = positions < len(self.data)
        window = torch.from_numpy(self.data[np.where(inside, positions, 0)].astype(np.int64))
        past_end = torch.from_numpy(~inside[:, 1:])
        return {"tokens": window[:, :-1].contiguous(), "target": window[:, 1:].masked_fill(past_end, IGNORE)}


def load(config: TextConfig) -> Splits:
    """Read the text.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: the text is too short, or the folder has no such files; the message names it.
    """
    train, test = _read(config)
    cut = len(train) - int(len(train) * config.val_fraction)

    def part(name: str, data: np.ndarray, least: int) -> Windows:
        if len(data) < least:
            raise ValueError(
                f"{config.path or 'standard library'}: the {name} part has {len(data)} bytes and needs {least} "
                f"with data.seq_len {config.seq_len}; give more text or a smaller data.seq_len"
            )
        return Windows(data, config.seq_len)

    return Splits(
        spec=Spec(keys=("tokens", "target"), vocab_size=256, max_seq_len=config.seq_len),
        train=part("training", train[:cut], config.seq_len + 1),
        val=part("validation", train[cut:], 2) if config.val_fraction else None,
        test=part("test", test, 2),
    )


def _read(config: TextConfig) -> tuple[np.ndarray, np.ndarray]:
    """The bytes to train on and those held out."""
    path = Path(config.path or sysconfig.get_path("stdlib")).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"data.path {config.path!r} does not exist; give a text file or a folder of them")
    if path.is_file():
        return _split_bytes(np.fromfile(path, dtype=np.uint8))
    suffixes = config.suffixes if config.path else (".py",)
    files = list_files(path, suffixes, leave_out=() if config.path else STDLIB_LEAVES_OUT)
    if not files:
        raise ValueError(f"{path}: no file ends in {', '.join(suffixes)}; name other endings by data.suffixes")
    if len(files) < FEWEST_FILES:
        return _split_bytes(_join(path, files))
    held_out = [int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0 for name in files]
    return (
        _join(path, [name for name, held in zip(files, held_out, strict=True) if not held]),
        _join(path, [name for name, held in zip(files, held_out, strict=True) if held]),
    )


def list_files(root: Path, suffixes: Sequence[str], leave_out: Iterable[str] = ()) -> list[str]:
    """Files below a folder, as paths relative to it with forward slashes, in an order that is the same everywhere.

    Args:
        root: the folder.
        suffixes: endings of the files that count.
        leave_out: names of folders that are not entered, besides hidden ones and CPython's `config-*`, which hold
            what belongs to one machine.
    """
    barred, found = frozenset(leave_out), []
    for folder, subfolders, files in os.walk(root):
        # assigned in place: that is how os.walk is told where to go next
        subfolders[:] = sorted(s for s in subfolders if s not in barred and not s.startswith((".", "config-")))
        relative = Path(folder).relative_to(root)
        found += [(relative / name).as_posix() for name in sorted(files) if name.endswith(tuple(suffixes))]
    return found


def _join(root: Path, files: Sequence[str]) -> np.ndarray:
    return np.frombuffer(b"".join((root / name).read_bytes() + END for name in files), dtype=np.uint8)


def _split_bytes(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    cut = len(data) - len(data) // 10
    return data[:cut], data[cut:]


DATA = DataSet(name="text", config=TextConfig, load=load)
