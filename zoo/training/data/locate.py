"""From what a user says after `--data` to the data section of a run's config."""

import csv
import json
import re
from pathlib import Path
from typing import Any

from zoo.registry import did_you_mean, normalise
from zoo.training.data import DATA_SETS, citation, graph_file, tu
from zoo.training.data.caption_files import CAPTION_COLUMNS, IMAGE_COLUMNS, has_captions_beside
from zoo.training.data.image_folder import SUFFIXES
from zoo.training.data.image_text import folders_read, shards_in
from zoo.training.data.web_shards import RANGE, is_shard

TABLES = frozenset({".csv", ".tsv", ".npz"})
NAMED = frozenset({".jsonl", ".csv", ".tsv"})
SHARD = ".tar"
LOOKED_AT = 1000  # entries of a folder, or letters of a header, that are enough to know what kind of files it is
FIRST_ROWS = 2**16  # letters of a table, among which its first row ends


def locate(what: str) -> dict[str, Any]:
    """The data section that `what` stands for.

    Args:
        what: a registered data set; else an existing path: images with captions (a .jsonl, .csv or .tsv that names
            both, a folder with a .txt beside an image, or .tar shards, of which a name may stand for several by
            `{000..009}`), labelled texts (.jsonl, or .csv and .tsv with a column `text`), a table of numbers (.csv,
            .tsv, .npz), a graph (.npz with `edges`), a folder with folders of images, a folder of graphs (`citation`,
            `tu`), or any other file or folder as text; else `torchvision:Name`.

    Raises:
        ValueError: it is none of these; the message gives the nearest names.
    """
    record = DATA_SETS.owner(what)
    if record is not None:
        return {"name": record.name}
    path = Path(what)
    if what and (path.exists() or (path.suffix == SHARD and RANGE.search(what))):
        return {"name": _kind(path), "path": what}
    library, colon, name = what.partition(":")
    if colon and library == "torchvision":
        return {"name": "torchvision", "dataset": name}
    if colon and library == "hf-hub":
        raise ValueError(f"data {what!r}: the Hub's data sets are not read directly; download it and give its path")
    known = DATA_SETS.records()
    hint = did_you_mean(normalise(what), known) or f"; registered: {', '.join(known)}"
    raise ValueError(f"data {what!r} is neither registered, nor an existing path, nor torchvision:Name{hint}")


def _kind(path: Path) -> str:
    """Which data set reads a path."""
    suffix = path.suffix.lower()
    if path.is_dir():
        return _kind_of_folder(path)
    if suffix == SHARD or (suffix in NAMED and _has_captions(path)):
        return "image_text"
    if suffix == ".npz" and graph_file.is_graph(path):
        return "graph_file"
    if suffix == ".jsonl" or (suffix in (".csv", ".tsv") and _has_texts(path)):
        return "labelled_text"
    return "tabular" if suffix in TABLES else "text"


def _kind_of_folder(path: Path) -> str:
    for name, known in (("citation", citation), ("tu", tu)):
        if known.names(path):
            return name
    parts = folders_read(path)
    if all(map(has_captions_beside, parts)):
        return "image_text"
    some = [file for _, file in zip(range(LOOKED_AT), path.glob("**/*"), strict=False)]
    if any(file.suffix.lower() in SUFFIXES and file.parent != path for file in some):
        return "image_folder"
    return "image_text" if all(any(map(is_shard, shards_in(part))) for part in parts) else "text"


def _has_captions(path: Path) -> bool:
    """Whether a table's first row names an image in one of the columns that are usually called so, and its caption."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        lines = file.read(FIRST_ROWS).split("\n")
    try:
        if path.suffix.lower() == ".jsonl":
            row = json.loads(next(line for line in lines if line.strip()))
        else:
            row = next(csv.DictReader(lines, delimiter=max(",;\t", key=lines[0].count)))
    except (ValueError, RecursionError, csv.Error, StopIteration):
        return False
    values = [row.get(name) for name in IMAGE_COLUMNS] if isinstance(row, dict) else []
    image = next((value for value in values if isinstance(value, str)), "")
    return Path(image).suffix.lower() in SUFFIXES and any(name in row for name in CAPTION_COLUMNS)


def _has_texts(path: Path) -> bool:
    """Whether a table's header names a column `text`, which no table of numbers has."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline(LOOKED_AT)
    return "text" in [name.strip().strip('"') for name in re.split("[,;\t]", header)]
