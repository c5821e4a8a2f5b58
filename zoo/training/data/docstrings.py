"""Pairs of a docstring and its function, from Python's own standard library, which everybody has.

The function comes without its docstring and without its name, which would give the answer away. Both are bytes, cut
off at a length. A pair belongs to `test` if the file that it stands in hashes to 0 modulo 10, to `val` if to 1; a
docstring that stands in several files counts once, and where it is held out.
"""

import ast
import hashlib
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from zoo.tokenizer import ByteTokenizer, batch
from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_positive
from zoo.training.data.text import STDLIB_LEAVES_OUT, list_files

NAME = "f"
"""What every function is called here."""


@dataclass(frozen=True, kw_only=True)
class Docstrings:
    """How much of each text is read."""

    seq_len: int = 128
    """Bytes of a docstring, and of a function, at the most."""
    min_length: int = 20
    """Shorter docstrings say too little."""

    def __post_init__(self) -> None:
        """Refuse texts of nothing."""
        check_positive(self, "seq_len", "min_length")


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """One part."""

    texts: Sequence[tuple[str, str]]
    """Docstring and function."""
    seq_len: int

    def __len__(self) -> int:
        return len(self.texts)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """Docstrings `tokens` with their `mask`, functions `pair_tokens` with their `pair_mask`, all (batch, seq_len).

        Nothing is drawn: a pair is always the same.
        """
        sides = list(zip(*(self.texts[index] for index in indices), strict=True))
        first, second = (batch(ByteTokenizer(), side, max_seq_len=self.seq_len, fill=True) for side in sides)
        return {**first, "pair_tokens": second["tokens"], "pair_mask": second["mask"]}


def load(options: Docstrings) -> Splits:
    """Read the library's sources.

    Raises:
        ValueError: a part has no pair, as where the library has been installed without sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    parts: dict[str, dict[str, str]] = {"test": {}, "val": {}, "train": {}}
    for name in list_files(root, (".py",), leave_out=STDLIB_LEAVES_OUT):
        side = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10
        part = parts[{0: "test", 1: "val"}.get(side, "train")]
        part |= pairs_of((root / name).read_bytes(), options.min_length) | part
    parts["val"] = {text: code for text, code in parts["val"].items() if text not in parts["test"]}
    held_out = parts["test"].keys() | parts["val"].keys()
    parts["train"] = {text: code for text, code in parts["train"].items() if text not in held_out}
    if not all(parts.values()):
        raise ValueError(f"{root}: too few functions with docstrings; install Python's library with its sources")
    made = {name: Pairs(texts=list(texts.items()), seq_len=options.seq_len) for name, texts in parts.items()}
    spec = Spec(keys=("tokens", "mask", "pair_tokens", "pair_mask"), vocab_size=256, max_seq_len=options.seq_len)
    return Splits(spec=spec, train=made["train"], val=made["val"], test=made["test"])


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
