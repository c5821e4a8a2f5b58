"""Graphs and their classes: a folder of yours, in the form in which Dortmund University publishes MUTAG, PROTEINS and
many others.

`NAME_A.txt` has the edges, two nodes a line, numbered from 1 over all graphs; `NAME_graph_indicator.txt` says to which
graph each node belongs, and `NAME_graph_labels.txt` of which class each graph is. `NAME_node_labels.txt` and
`NAME_node_attributes.txt` may be there. Nothing is downloaded.

Source: Morris et al., 2020, "TUDataset: a collection of benchmark datasets for learning with graphs", section 4.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import HoldOut, check_fractions, float32, hold_out
from zoo.training.data.files import numbered_lines
from zoo.training.data.graphs import GraphPart
from zoo.training.random import generator

INDICATOR = "_graph_indicator.txt"


@dataclass(frozen=True, kw_only=True)
class TU(HoldOut):
    """Where the files are, and which graphs are the test part."""

    path: str = ""
    """The folder."""
    dataset: str | None = None
    """Such as `MUTAG`, where the folder has the files of several."""
    test_fraction: float = 0.1
    """The share of the graphs that is held out for the test, the same of each class."""
    folds: int | None = None
    """Divide the graphs into so many parts instead, the classes evenly, of which `fold` is the test part."""
    fold: int = 0

    def __post_init__(self) -> None:
        """Refuse shares and folds that are none."""
        super().__post_init__()
        check_fractions(test_fraction=self.test_fraction)
        if self.folds is None and self.fold:
            raise ValueError(f"fold {self.fold} says nothing without folds; set data.folds, such as 10")
        if self.folds is not None and not (self.folds >= 2 and 0 <= self.fold < self.folds):
            raise ValueError(f"folds {self.folds} must be 2 or more, and fold {self.fold} one of them, from 0")


def names(folder: Path) -> list[str]:
    """The data sets in a folder."""
    return sorted(path.name.removesuffix(INDICATOR) for path in folder.glob(f"*{INDICATOR}"))


def load(options: TU) -> Splits:
    """Read a folder.

    A node's features are its attributes, then its label as zeros and a one; without either, a one.

    Raises:
        OSError: a file cannot be read.
        ValueError: it holds something else; the message names file and line.
    """
    folder = Path(options.path)
    if not options.path or not folder.is_dir():
        raise ValueError(f"data.path {options.path!r} is no folder; give the one with NAME{INDICATOR} in it")
    found = names(folder)
    name = options.dataset or (found[0] if len(found) == 1 else "")
    if name not in found:
        raise ValueError(
            f"{folder}: there is {', '.join(found) or f'no NAME{INDICATOR}'}; name a data set by data.dataset"
        )
    classes, target = np.unique(_rows(folder / f"{name}_graph_labels.txt", 1).values[:, 0], return_inverse=True)
    graphs = _graphs(folder, name, target)
    train, test = _divide(target, options)
    stay, held = hold_out(target[train], options.val_fraction, options.subset_seed, "val_fraction")
    spec = Spec(
        keys=("nodes", "edges", "graph", "target"),
        in_features=graphs["nodes"].shape[1],
        num_classes=len(classes),
        labels=tuple(f"class {int(label) if label.is_integer() else label}" for label in classes),
    )
    parts = [GraphPart(**graphs, chosen=chosen) for chosen in (train[stay], train[held], test)]
    return Splits(spec=spec, train=parts[0], val=parts[1] if len(held) else None, test=parts[2] if len(test) else None)


def _divide(target: np.ndarray, options: TU) -> tuple[np.ndarray, np.ndarray]:
    """Which graphs are learnt from, and which are for the test."""
    if options.folds is None:
        return hold_out(target, options.test_fraction, options.subset_seed, "test_fraction")
    mixed = generator(options.subset_seed, "folds").permutation(len(target))
    mixed = mixed[np.argsort(target[mixed], kind="stable")]  # classes one after the other, each in random order
    test = np.sort(mixed[options.fold :: options.folds])
    if not len(test):
        raise ValueError(f"folds {options.folds} of {len(target)} graphs leave fold {options.fold} without any")
    return np.setdiff1d(np.arange(len(target)), test), test


def _graphs(folder: Path, name: str, target: np.ndarray) -> dict:
    """What `GraphPart` needs of all graphs."""
    path = folder / f"{name}{INDICATOR}"
    rows = _rows(path, 1)
    graph = _whole(path, rows)[:, 0] - 1
    if len(wrong := np.flatnonzero((graph < 0) | (graph >= len(target)) | (np.diff(graph, prepend=0) < 0))):
        raise ValueError(
            f"{path}, line {rows.lines[wrong[0]]}: graphs must be numbered from 1 to {len(target)}, and their nodes in "
            f"that order, got {graph[wrong[0]] + 1}"
        )
    path = folder / f"{name}_A.txt"
    rows = _rows(path, 2, may_be_empty=True)
    edges = _whole(path, rows).T - 1
    if (strangers := np.argwhere((edges.T < 0) | (len(graph) <= edges.T))).size:
        row, end = strangers[0]
        raise ValueError(
            f"{path}, line {rows.lines[row]}: {edges[end, row] + 1} is no node; they are numbered from 1 to "
            f"{len(graph)}"
        )
    owner = graph[edges[0]]
    if (strays := np.flatnonzero(owner != graph[edges[1]])).size:
        raise ValueError(f"{path}, line {rows.lines[strays[0]]}: the two nodes are of different graphs")
    order = np.argsort(owner, kind="stable")
    first_node = np.searchsorted(graph, np.arange(len(target) + 1))
    inner = edges[:, order] - first_node[owner[order]]
    return {
        "nodes": torch.from_numpy(_features(folder, name, len(graph))),
        "edges": torch.from_numpy(np.ascontiguousarray(inner)),
        "first_node": first_node,
        "first_edge": np.searchsorted(owner[order], np.arange(len(target) + 1)),
        "target": torch.from_numpy(target),
    }


def _features(folder: Path, name: str, count: int) -> np.ndarray:
    """(nodes, features) float32."""
    parts = []
    for kind in ("attributes", "labels"):
        path = folder / f"{name}_node_{kind}.txt"
        if not path.exists():
            continue
        values = _rows(path, None).values
        if len(values) != count:
            raise ValueError(f"{path}: {len(values)} lines for {count} nodes")
        if kind == "labels":
            values = np.concatenate([column[:, None] == np.unique(column) for column in values.T], axis=1)
        parts.append(float32(path, values))
    return np.concatenate(parts, axis=1) if parts else np.ones((count, 1), np.float32)


class _Rows(NamedTuple):
    """The numbers of a file."""

    values: np.ndarray
    """(rows, columns) float64."""
    lines: list[int]
    """The number of each row's line."""


def _whole(path: Path, rows: _Rows) -> np.ndarray:
    wrong = ((rows.values != np.floor(rows.values)) | (np.abs(rows.values) > 2**53)).any(axis=1)
    if wrong.any():
        raise ValueError(f"{path}, line {rows.lines[int(wrong.argmax())]}: whole numbers are expected")
    return rows.values.astype(np.int64)


def _rows(path: Path, width: int | None, *, may_be_empty: bool = False) -> _Rows:
    """The numbers of a file, separated by commas; of width None, as many in each line as in the first."""
    rows, lines = [], []
    for number, line in numbered_lines(path):
        try:
            row = [float(cell) for cell in line.split(",")]
        except ValueError:
            raise ValueError(f"{path}, line {number}: numbers are expected, got {line[:40]!r}") from None
        width = len(row) if width is None else width
        if len(row) != width or not np.isfinite(row).all():
            raise ValueError(f"{path}, line {number}: {width} finite numbers are expected, got {line[:40]!r}")
        rows.append(row)
        lines.append(number)
    if not rows and not may_be_empty:
        raise ValueError(f"{path}: the file is empty; give a line of numbers for each node, or each graph")
    return _Rows(np.array(rows, np.float64).reshape(len(rows), width or 0), lines)


DATA = DataSet(name="tu", config=TU, load=load)
