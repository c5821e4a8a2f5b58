"""From what a user says after `--data` to the data section of a run's config."""

import re
from pathlib import Path
from typing import Any

from zoo.registry import did_you_mean, normalise
from zoo.training.data import DATA_SETS, citation, graph_file, tu
from zoo.training.data.image_folder import SUFFIXES

TABLES = frozenset({".csv", ".tsv", ".npz"})
LOOKED_AT = 1000  # entries of a folder, or letters of a header, that are enough to know what kind of files it is


def locate(what: str) -> dict[str, Any]:
    """The data section that `what` stands for.

    Args:
        what: a registered data set; else an existing path: labelled texts (.jsonl, or .csv and .tsv with a column
            `text`), a table of numbers (.csv, .tsv, .npz), a graph (.npz with `edges`), a folder with folders of
            images, a folder of graphs (`citation`, `tu`), or any other file or folder as text; else `torchvision:Name`.

    Raises:
        ValueError: it is none of these; the message gives the nearest names.
    """
    record = DATA_SETS.owner(what)
    if record is not None:
        return {"name": record.name}
    path = Path(what)
    if what and path.exists():
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
    if path.is_dir():
        for name, known in (("citation", citation), ("tu", tu)):
            if known.names(path):
                return name
        files = (file for _, file in zip(range(LOOKED_AT), path.glob("*/**/*"), strict=False))
        return "image_folder" if any(file.suffix.lower() in SUFFIXES for file in files) else "text"
    suffix = path.suffix.lower()
    if suffix == ".npz" and graph_file.is_graph(path):
        return "graph_file"
    if suffix == ".jsonl" or (suffix in (".csv", ".tsv") and _has_texts(path)):
        return "labelled_text"
    return "tabular" if suffix in TABLES else "text"


def _has_texts(path: Path) -> bool:
    """Whether a table's header names a column `text`, which no table of numbers has."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline(LOOKED_AT)
    return "text" in [name.strip().strip('"') for name in re.split("[,;\t]", header)]
