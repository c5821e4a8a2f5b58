"""Text as bytes or tokens: a file, a folder, or the sources of Python's own standard library, which everybody has.

Files of a folder stand in the order of their paths, each followed by a newline and a zero byte, so that a zero byte
is where a text ends; of tokens, each ends in the tokenizer's own end of a text. About a tenth is held out as
`test`: of a folder every file whose path hashes to 0 modulo 10, so that a file stays on its side when others come and
go; of a single file, or of fewer than 100, the last tenth.
"""

import hashlib
import os
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.tokenizer import Tokenizer, named_tokenizer, tokenizer_files
from zoo.training.data import IGNORE, DataSet, Spec, Splits
from zoo.training.data.corpus import END, Corpus, Part

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
    """Bytes or tokens per sample."""
    documents: bool = False
    """No sample reaches from one file into the next; behind a short one nothing is asked for, and the samples have a
    `mask`."""
    tokenizer: str | None = None
    """A tokenizer.json, or a model whose tokenizer it is; by default that of the weights to start from, and where they
    have none, the bytes are the tokens."""
    val_fraction: float = 0.0
    """Share of the training bytes, their end, that becomes `val`."""

    def __post_init__(self) -> None:
        """Refuse pieces without length and shares that leave nothing."""
        if self.seq_len < 1:
            raise ValueError(f"seq_len {self.seq_len} is below 1")
        if not 0 <= self.val_fraction < 1:
            raise ValueError(f"val_fraction {self.val_fraction} is not in [0, 1)")


class Windows:
    """A text cut into windows of `seq_len` tokens, each token but a document's first the target of one position."""

    def __init__(self, data: np.ndarray | Corpus | Part, seq_len: int, bounds: np.ndarray | None = None) -> None:
        """Keep the text.

        Args:
            data: (tokens,), unsigned.
            seq_len: positions per window.
            bounds: where each document begins, and where the last one ends; by default there is one, and no mask.
        """
        self.data, self.seq_len, self.masked = data, seq_len, bounds is not None
        self.bounds = np.array([0, len(data)]) if bounds is None else bounds
        counts = -(-(np.diff(self.bounds) - 1).clip(min=0) // seq_len)
        self._before = np.concatenate([[0], np.cumsum(counts)])  # windows before each document

    def __len__(self) -> int:
        return int(self._before[-1])

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`tokens` and those that follow them, `target`, both (batch, seq_len) int64.

        With generators a window starts anywhere within the stretch that its index names. Without, it starts
        where the last one ended. Positions past the end of the document have the target -100; where there are several
        documents, `mask`, (batch, seq_len) bool, is True for tokens that there are.
        """
        index = np.asarray(indices, dtype=np.int64)
        document = np.searchsorted(self._before, index, side="right") - 1
        begin, end = self.bounds[document], self.bounds[document + 1]
        starts = begin + (index - self._before[document]) * self.seq_len
        if rngs is not None:
            starts = starts + [rng.integers(self.seq_len) for rng in rngs]
            starts = np.maximum(np.minimum(starts, end - 1 - self.seq_len), begin)
        window = np.zeros((len(index), self.seq_len + 1), dtype=np.int64)
        lengths = np.minimum(end - starts, self.seq_len + 1)
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            window[row, :length] = self.data[int(start) : int(start + length)]
        past_end = torch.from_numpy(np.arange(1, self.seq_len + 1) >= lengths[:, None])
        both = torch.from_numpy(window)
        batch = {"tokens": both[:, :-1].contiguous(), "target": both[:, 1:].masked_fill(past_end, IGNORE)}
        return {**batch, "mask": torch.from_numpy(np.arange(self.seq_len) < lengths[:, None])} if self.masked else batch


class Text(NamedTuple):
    """A text, and where its documents begin and the last one ends."""

    data: np.ndarray | Corpus
    bounds: np.ndarray

    def part(self, start: int, stop: int) -> "Text":
        """What lies between two places, with the ends of the documents that are cut."""
        inside = self.bounds[(self.bounds > start) & (self.bounds < stop)] - start
        whole = self.data
        return Text(Part(whole, start, stop), np.concatenate([[0], inside, [stop - start]]))  # pyright: ignore[reportArgumentType] - sliced alike


def load(config: TextConfig) -> Splits:
    """Open the text; bytes are read when they are needed, tokens are made now.

    Raises:
        FileNotFoundError: there is nothing at the path.
        ValueError: the text is too short, the folder has no such files, or there is no such tokenizer.
    """
    reader = None if config.tokenizer is None else named_tokenizer(config.tokenizer)
    train, test = _read(config, reader)
    cut = len(train.data) - int(len(train.data) * config.val_fraction)

    def part(name: str, text: Text, least: int) -> Windows:
        windows = Windows(text.data, config.seq_len, text.bounds if config.documents else None)
        if len(text.data) < least or not len(windows):
            unit = "bytes" if reader is None else "tokens"
            raise ValueError(
                f"{config.path or 'standard library'}: the {name} part has {len(text.data)} {unit} and needs {least} "
                f"with data.seq_len {config.seq_len}; give more text or a smaller data.seq_len"
            )
        return windows

    least = 2 if config.documents else config.seq_len + 1
    return Splits(
        spec=Spec(
            keys=("tokens", "target", "mask") if config.documents else ("tokens", "target"),
            vocab_size=256 if reader is None else reader.vocab_size,
            max_seq_len=config.seq_len,
            tokenizer=tokenizer_files(reader),
        ),
        train=part("training", train.part(0, cut), least),
        val=part("validation", train.part(cut, len(train.data)), 2) if config.val_fraction else None,
        test=part("test", test, 2),
    )


def _read(config: TextConfig, reader: Tokenizer | None) -> tuple[Text, Text]:
    """The text to train on and that held out."""
    path = Path(config.path or sysconfig.get_path("stdlib")).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"data.path {config.path!r} does not exist; give a text file or a folder of them")
    if path.is_file():
        return _split(_open([path], reader, end=b""))
    suffixes = config.suffixes if config.path else (".py",)
    files = list_files(path, suffixes, leave_out=() if config.path else STDLIB_LEAVES_OUT)
    if not files:
        raise ValueError(f"{path}: no file ends in {', '.join(suffixes)}; name other endings by data.suffixes")
    if len(files) < FEWEST_FILES:
        return _split(_open([path / name for name in files], reader))
    held_out = [int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0 for name in files]
    train, test = ([path / name for name, held in zip(files, held_out, strict=True) if held == side] for side in (0, 1))
    return _open(train, reader), _open(test, reader)


def _open(files: Sequence[Path], reader: Tokenizer | None, end: bytes = END) -> Text:
    if reader is None:
        corpus = Corpus(files, end)
        return Text(corpus, corpus.starts)
    kind = np.uint16 if reader.vocab_size <= 2**16 else np.uint32
    behind = list(reader.stop_tokens[:1]) if end else []
    documents = []
    for path in files:
        tokens, _ = reader.encode(path.read_text(encoding="utf-8", errors="replace"))
        ended = bool(tokens) and tokens[-1] in reader.stop_tokens  # as T5's tokenizer leaves it
        documents.append(np.array(tokens if ended else tokens + behind, dtype=kind))
    bounds = np.concatenate([[0], np.cumsum([len(document) for document in documents], dtype=np.int64)])
    return Text(np.concatenate(documents), bounds)


def _split(text: Text) -> tuple[Text, Text]:
    """All but the last tenth, and that."""
    cut = len(text.data) - len(text.data) // 10
    return text.part(0, cut), text.part(cut, len(text.data))


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


DATA = DataSet(name="text", config=TextConfig, load=load)
