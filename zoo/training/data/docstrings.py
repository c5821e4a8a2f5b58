"""Pairs of a docstring and its function, from Python's own standard library, which everybody has.

The function comes without its docstring and without its name, which would give the answer away. Both are cut off at a
length. A pair belongs to `test` if the file that it stands in hashes to 0 modulo 10,
to `val` if to 1; a docstring that stands in several files counts once, and where it is held out.
"""

import ast
import functools
import hashlib
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from zoo.tokenizer import ByteTokenizer, Tokenizer, batch, learn_tokenizer, named_tokenizer, tokenizer_files
from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_positive
from zoo.training.data.text import STDLIB_LEAVES_OUT, list_files

NAME = "f"
"""What every function is called here."""


@dataclass(frozen=True, kw_only=True)
class Docstrings:
    """How much of each text is read, and as what."""

    seq_len: int = 128
    """Tokens of a docstring, and of a function, at the most, that which ends it included."""
    ends: bool = True
    """Whether the last token of each text says that it ends, for models that read a text there, as CLIP does; those
    that average over tokens do without."""
    min_length: int = 20
    """Shorter docstrings, in letters, say too little."""
    vocab_size: int | None = None
    """Tokens of a vocabulary that is learnt from the training part, and ends each text; None reads bytes."""
    tokenizer: str | None = None
    """The path of a tokenizer.json, or a model whose tokenizer it shall be, to be used instead; by default that of the
    weights to start from, where they came with one."""
    test_pairs: int | None = None
    """Of `val` and of `test` only so many pairs, those whose docstrings hash lowest: so that what is found among them
    can be compared, whichever Python's library it is. None takes all."""

    def __post_init__(self) -> None:
        """Refuse texts of nothing."""
        check_positive(self, "seq_len", "min_length")
        for name in ("vocab_size", "test_pairs"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        if self.vocab_size is not None and not self.ends:
            raise ValueError(
                f"vocab_size {self.vocab_size} is of a vocabulary that ends each text; leave ends as it is"
            )


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One part."""

    texts: Sequence[tuple[str, str]]
    """Docstring and function."""
    tokenizer: Tokenizer
    seq_len: int
    ends: bool

    def __len__(self) -> int:
        return len(self.texts)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """Docstrings `tokens` with their `mask`, functions `pair_tokens` with their `pair_mask`, all (batch, seq_len).

        Nothing is drawn: a pair is always the same.
        """
        sides = list(zip(*(self.texts[index] for index in indices), strict=True))
        first, second = (
            batch(self.tokenizer, side, max_seq_len=self.seq_len, fill=True, end=self.ends) for side in sides
        )
        return {**first, "pair_tokens": second["tokens"], "pair_mask": second["mask"]}


def load(options: Docstrings) -> Splits:
    """Read the library's sources.

    Raises:
        ValueError: a part has no pair, as where the library has been installed without sources, or fewer than asked
            for; or the vocabulary cannot be as large as asked for.
    """
    parts = _parts(options.min_length)
    reader = _reader(parts["train"], options)
    texts = {name: list(part.items()) for name, part in parts.items()}
    if options.test_pairs is not None:
        texts |= {name: _lowest(name, texts[name], options.test_pairs) for name in ("val", "test")}
    made = {
        name: Pairs(texts=part, tokenizer=reader, seq_len=options.seq_len, ends=options.ends)
        for name, part in texts.items()
    }
    spec = Spec(
        keys=("tokens", "mask", "pair_tokens", "pair_mask"),
        vocab_size=reader.vocab_size,
        max_seq_len=options.seq_len,
        end_token=next(iter(reader.stop_tokens), None) if options.ends else None,
        tokenizer=tokenizer_files(reader),
    )
    return Splits(spec=spec, train=made["train"], val=made["val"], test=made["test"])


@functools.lru_cache(maxsize=1)  # it takes seconds, and the library stays what it is
def _parts(min_length: int) -> Mapping[str, Mapping[str, str]]:
    """From docstrings to functions, for each part."""
    root = Path(sysconfig.get_path("stdlib"))
    parts: dict[str, dict[str, str]] = {"test": {}, "val": {}, "train": {}}
    for name in list_files(root, (".py",), leave_out=STDLIB_LEAVES_OUT):
        side = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
        part = parts[{0: "test", 1: "val"}.get(side, "train")]
        part |= pairs_of((root / name).read_bytes(), min_length) | part
    parts["val"] = {text: code for text, code in parts["val"].items() if text not in parts["test"]}
    held_out = parts["test"].keys() | parts["val"].keys()
    parts["train"] = {text: code for text, code in parts["train"].items() if text not in held_out}
    if not all(parts.values()):
        raise ValueError(f"{root}: too few functions with docstrings; install Python's library with its sources")
    return parts


def _reader(training: Mapping[str, str], options: Docstrings) -> Tokenizer:
    if options.tokenizer is not None:
        return named_tokenizer(options.tokenizer)
    if options.vocab_size is None:
        return ByteTokenizer()
    return learn_tokenizer([text for pair in training.items() for text in pair], options.vocab_size)


def _lowest(name: str, pairs: list[tuple[str, str]], count: int) -> list[tuple[str, str]]:
    if len(pairs) < count:
        raise ValueError(f"test_pairs {count} is more than the {len(pairs)} of {name}; ask for fewer")
    return sorted(pairs, key=lambda pair: hashlib.sha256(pair[0].encode()).hexdigest())[:count]


def pairs_of(source: bytes, min_length: int) -> dict[str, str]:
    """The docstrings of a file's functions, each with what its first function is without it."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # a template, or a file for another version
        return {}
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and len(node.body) > 1:
            docstring = " ".join((ast.get_docstring(node) or "").split())
            if len(docstring) >= min_length:
                node.name, node.body, node.decorator_list = NAME, node.body[1:], []
                found.setdefault(docstring, ast.unparse(node))
    return found


DATA = DataSet(name="docstrings", config=Docstrings, load=load)
