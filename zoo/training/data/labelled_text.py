"""Texts with a class, a quantity or a partner, from a CSV or JSONL file.

A file of named columns: one holds the text, another what is asked of it. With `pair`, a second text belongs to each:
together with a label the two are read as one (as for entailment), without one they are partners to be found.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.tokenizer import ByteTokenizer, Tokenizer, batch, named_tokenizer, tokenizer_files
from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import HoldOut, check_fractions, check_positive, hold_out
from zoo.training.data.table_file import check_width, column_names, read_cells
from zoo.training.random import generator


@dataclass(frozen=True, kw_only=True)
class LabelledText(HoldOut):
    """Which file, and which of its columns."""

    path: str
    """Comma, semicolon or tab separated text with names in its first row, or .jsonl with an object in each line."""
    text: str = "text"
    """The column of the texts."""
    label: str | None = "label"
    """The column of what is asked; without a name nothing is, and there must be pairs."""
    pair: str | None = ""
    """The column of a second text, where there is one."""
    task: Literal["classification", "regression"] = "classification"
    """Whether the label names one of several classes, or is a quantity."""
    seq_len: int = 128
    """Bytes or tokens that are read of a text at the most."""
    tokenizer: str | None = None
    """A tokenizer.json, or a model whose tokenizer it is; by default that of the weights to start from, and where they
    have none, the bytes are the tokens."""
    test_fraction: float = 0.2
    """Share of all rows to test on."""

    def __post_init__(self) -> None:
        """Refuse what leaves nothing to read or to learn."""
        super().__post_init__()
        check_fractions(test_fraction=self.test_fraction)
        check_positive(self, "seq_len")
        if not self.label and not self.pair:
            raise ValueError("label and pair are both empty, so nothing is to be learnt; name a column")


@dataclass(frozen=True, kw_only=True)
class Texts:
    """One part; texts become tokens when they are fetched."""

    texts: Sequence[str]
    pairs: Sequence[str] | None
    target: Tensor | None
    """What is asked; None where partners are to be found."""
    reader: Tokenizer
    seq_len: int

    def __len__(self) -> int:
        return len(self.texts)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`tokens` and `mask`, (batch, seq_len), with `segments` where two texts are one.

        Besides them `target`, (batch,) int64 classes or (batch, 1) float32 quantities; or for partners `pair_tokens`
        and `pair_mask`.
        """
        texts = [self.texts[index] for index in indices]
        pairs = None if self.pairs is None else [self.pairs[index] for index in indices]
        if self.target is None:
            second = self._batch(pairs or [], None)
            named = {f"pair_{key}": value for key, value in second.items()}
            return self._batch(texts, None) | named
        return self._batch(texts, pairs) | {"target": self.target[torch.as_tensor(indices)]}

    def _batch(self, texts: Sequence[str], pairs: Sequence[str] | None) -> dict[str, Tensor]:
        return batch(self.reader, texts, pairs, max_seq_len=self.seq_len, fill=True)


def load(options: LabelledText) -> Splits:
    """Read the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no such file, or a row lacks something; the message names file, line and column.
    """
    rows = read_rows(options.path)
    if not rows:
        raise ValueError(f"{options.path}: the file holds no rows of text")
    texts = text_column(options.path, rows, options.text, "text")
    pairs = text_column(options.path, rows, options.pair, "pair") if options.pair else None
    answers = _labels(options.path, rows, options.label) if options.label else None
    target, labels, strata = _targets(options, answers, len(rows))
    order = generator(options.subset_seed, "test_fraction").permutation(len(rows))
    cut = round(options.test_fraction * len(order))
    rest, test = np.sort(order[cut:]), np.sort(order[:cut])
    kept, held = hold_out(strata[rest], options.val_fraction, options.subset_seed, "val_fraction")
    reader = ByteTokenizer() if options.tokenizer is None else named_tokenizer(options.tokenizer)

    def part(members: np.ndarray) -> Texts | None:
        if not len(members):
            return None
        chosen = [texts[row] for row in members], None if pairs is None else [pairs[row] for row in members]
        answer = None if target is None else target[torch.from_numpy(members)]
        return Texts(texts=chosen[0], pairs=chosen[1], target=answer, reader=reader, seq_len=options.seq_len)

    train = part(rest[kept])
    if train is None:
        raise ValueError(f"{options.path}: {len(rows)} rows leave none to train on; give more")
    quantity = target is not None and options.task == "regression"
    numbers = target[torch.from_numpy(rest[kept])] if quantity and target is not None else torch.zeros(1, 1)
    spec = Spec(
        keys=tuple(train.fetch([0], None)),
        num_classes=1 if quantity else len(labels) or None,
        vocab_size=reader.vocab_size,
        max_seq_len=options.seq_len,
        labels=labels,
        target_mean=(float(numbers.mean()),) if quantity else (),
        target_std=(float(numbers.std(correction=0).clamp(min=1e-12)),) if quantity else (),
        tokenizer=tokenizer_files(reader),
    )
    return Splits(spec=spec, train=train, val=part(rest[held]), test=part(test))


def _targets(
    options: LabelledText, answers: list[str] | None, count: int
) -> tuple[Tensor | None, tuple[str, ...], np.ndarray]:
    """What is asked of each row, the names of the classes, and by what rows are told apart when some are held out."""
    if answers is None:
        return None, (), np.zeros(count, dtype=np.int64)
    if options.task == "classification":
        names, classes = np.unique(answers, return_inverse=True)
        if not 2 <= len(names) <= max(2, count // 2):
            raise ValueError(
                f"{options.path}: {len(names)} different labels in {count} rows are no classes; "
                "set data.task=regression, or data.label to another column"
            )
        return torch.from_numpy(classes), tuple(map(str, names)), classes
    try:
        numbers = torch.tensor([[float(answer)] for answer in answers])
    except ValueError as error:
        raise ValueError(f"{options.path}, column {options.label!r}: {error}; set data.task=classification") from None
    if not numbers.isfinite().all():
        raise ValueError(f"{options.path}, column {options.label!r}: a number is not finite; fill it in")
    return numbers, (), np.zeros(count, dtype=np.int64)


def read_rows(path: str) -> list[tuple[int, Mapping[str, Any]]]:
    """The rows of a CSV or JSONL file by the names of their columns, each with its line."""
    if Path(path).suffix.lower() == ".jsonl":
        return _json_rows(path)
    (_, header), *rows = read_cells(path)
    names = column_names(path, header)
    for line, row in rows:
        check_width(path, line, row, names)
    return [(line, dict(zip(names, row, strict=True))) for line, row in rows]


def read_lines(path: str | Path) -> list[str]:
    """The lines of a text file, blank ones too.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no text in UTF-8.
    """
    try:
        return Path(path).read_text("utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 (byte {error.start})") from None


def _json_rows(path: str) -> list[tuple[int, Mapping[str, Any]]]:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    for line, written in enumerate(read_lines(path), start=1):
        if written.strip():
            try:
                row = json.loads(written)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {line}: not JSON: {error}") from None
            if not isinstance(row, dict):
                raise ValueError(f"{path}, line {line}: expected an object, got {type(row).__name__}")
            rows.append((line, row))
    return rows


def text_column(path: str, rows: list[tuple[int, Mapping[str, Any]]], name: str, option: str) -> list[str]:
    """The texts of a column; numbers are texts too.

    Args:
        path: the file, for errors.
        rows: as from `read_rows`.
        name: of the column.
        option: the setting that gave the name.

    Raises:
        ValueError: a row has none; the message names its line.
    """
    return [str(value) for value in _column(path, rows, name, option)]


def _labels(path: str, rows: list[tuple[int, Mapping[str, Any]]], name: str) -> list[str]:
    """The labels of a column: 1 and 1.0 are the same one, and truth is none among numbers."""
    values = _column(path, rows, name, "label")
    truths = [isinstance(value, bool) for value in values]
    if any(truths) and not all(truths):
        line = rows[truths.index(not truths[0])][0]
        raise ValueError(f"{path}, line {line}: {name!r} is true or false in some rows, in others not; write all alike")
    return [str(int(value)) if isinstance(value, float) and value.is_integer() else str(value) for value in values]


def _column(path: str, rows: list[tuple[int, Mapping[str, Any]]], name: str, option: str) -> list[str | int | float]:
    values: list[str | int | float] = []
    for line, row in rows:
        value = row.get(name)
        if not isinstance(value, str | int | float) or value == "":
            known = ", ".join(row)
            raise ValueError(
                f"{path}, line {line}: no {name!r} for data.{option}, in {known}; fill it in or name another"
            )
        values.append(value)
    return values


DATA = DataSet(name="labelled_text", config=LabelledText, load=load)
