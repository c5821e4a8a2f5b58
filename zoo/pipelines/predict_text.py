"""Texts of a file as a model's inputs, read by its tokenizer and cut short as in training."""

import inspect
from collections.abc import Iterator
from pathlib import Path

from torch import nn

from zoo.pipelines.inputs import Inputs
from zoo.preprocess import preprocessing
from zoo.tokenizer import batch, tokenizer
from zoo.training.data.labelled_text import read_lines, read_rows, text_column
from zoo.weights import provenance_of

ROWS, LINES = (".csv", ".tsv", ".jsonl"), ".txt"
COLUMN = "text"


def judges_texts(model: nn.Module) -> bool:
    """Whether a model answers a text by a class or a quantity, and does not write one."""
    config = getattr(model, "config", None)
    return getattr(config, "vocab_size", None) is not None and getattr(config, "num_classes", None) is not None


def read_texts(model: nn.Module, path: Path, batch_size: int = 64) -> Iterator[Inputs]:
    """Read the texts at a path, batch by batch; each is its own name.

    Args:
        model: for which `judges_texts`.
        path: as `texts_of` takes.
        batch_size: texts at once.

    Raises:
        OSError: the file cannot be read.
        ValueError: it holds no such texts, or the model came without a tokenizer.
    """
    texts, reader = texts_of(path), tokenizer(model)
    known = None if provenance_of(model).preprocessing is None else preprocessing(model).max_seq_len
    longest = known or getattr(model.config, "max_seq_len", None)
    takes_mask = "mask" in inspect.signature(model.forward).parameters
    for start in range(0, len(texts), batch_size):
        part = texts[start : start + batch_size]
        inputs = batch(reader, part, max_seq_len=longest)
        yield Inputs(part, inputs if takes_mask else {"tokens": inputs["tokens"]})


def texts_of(path: Path) -> list[str]:
    """The texts of a file: the column `text`, or the only one, of a .csv, .tsv or .jsonl; each line of a .txt.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is another file, or holds no text; the message names file and line.
    """
    suffix = path.suffix.lower()
    if suffix == LINES:
        texts = [line for line in read_lines(path) if line.strip()]
    elif suffix in ROWS:
        rows = read_rows(str(path))
        names = list(rows[0][1]) if rows else [COLUMN]
        if COLUMN not in names and len(names) > 1:
            raise ValueError(f"{path}: none of the columns {', '.join(names)} is called {COLUMN!r}; rename the texts'")
        texts = text_column(str(path), rows, COLUMN if COLUMN in names else names[0], COLUMN)
    else:
        path.stat()  # what is not there is said first
        raise ValueError(
            f"{path}: this model reads texts; give a .csv, .tsv or .jsonl file with a column {COLUMN!r}, or a .txt "
            "file with a text in each line"
        )
    if not texts:
        raise ValueError(f"{path}: the file holds no text")
    return texts
