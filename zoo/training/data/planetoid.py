"""Reading the files `ind.NAME.x`, `.y`, `.tx`, `.ty`, `.allx`, `.ally`, `.graph` and `.test.index`.

In them, the nodes that may be learnt from come first, then all others but the test nodes, then the test nodes in the
order of `test.index`. A number between the first and the last of these that is not there is a node without links,
features or class, as Citeseer has some.

Source: Yang, Cohen and Salakhutdinov, 2016, "Revisiting semi-supervised learning with graph embeddings", and the files
that the authors published.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from zoo.training.data import IGNORE
from zoo.training.data.number_pickles import read_numbers

VAL = 500
"""So many nodes after the labelled ones are for validation."""


class Papers(NamedTuple):
    """A citation graph as it was read."""

    features: np.ndarray
    """(papers, words) float32."""
    edges: np.ndarray
    """(2, citations) int64."""
    target: np.ndarray
    """(papers,) int64; -100 where a paper has no class."""
    labels: tuple[str, ...]
    labelled: np.ndarray
    val: np.ndarray
    test: np.ndarray


def read_planetoid(folder: Path, name: str) -> Papers:
    """Read the files of one data set and its standard division.

    Raises:
        OSError: one cannot be read.
        ValueError: one holds something else; the message names it.
    """
    y, allx, ally, tx, ty = (_matrix(folder / f"ind.{name}.{part}") for part in ("y", "allx", "ally", "tx", "ty"))
    order = _numbers(folder / f"ind.{name}.test.index")
    edges, num_nodes = _links(folder / f"ind.{name}.graph")
    known = len(allx)
    fits = len(ally) == known and len(tx) == len(ty) == len(order) and len(y) <= known
    if not fits or allx.shape[1] != tx.shape[1] or not y.shape[1] == ally.shape[1] == ty.shape[1]:
        raise ValueError(
            f"{folder}: the files of {name} do not belong together: allx {allx.shape}, ally {ally.shape}, "
            f"tx {tx.shape}, ty {ty.shape}, y {y.shape}, {len(order)} lines in test.index"
        )
    if order.min() < known or order.max() >= num_nodes or len(np.unique(order)) < len(order):
        raise ValueError(
            f"{folder / f'ind.{name}.test.index'}: the test nodes must be different, from {known}, after the others, "
            f"to {num_nodes - 1}, the last in ind.{name}.graph; they go from {order.min()} to {order.max()}"
        )
    features, classes = np.zeros((num_nodes, allx.shape[1]), np.float32), np.zeros((num_nodes, y.shape[1]))
    features[:known], classes[:known] = allx, ally
    features[order], classes[order] = tx, ty
    target = np.where(classes.any(axis=1), classes.argmax(axis=1), IGNORE)
    labelled = np.arange(len(y))
    val = np.arange(len(y), min(len(y) + VAL, known))
    labels = tuple(f"class {number}" for number in range(y.shape[1]))
    return Papers(features, edges, target, labels, labelled, val, np.sort(order))


def _matrix(path: Path) -> np.ndarray:
    found = read_numbers(path)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or not found.size:
        raise ValueError(f"{path}: a matrix is expected, with a row for each node")
    return found


def _numbers(path: Path) -> np.ndarray:
    lines = path.read_text(encoding="utf-8").split()
    if not lines or not all(line.isdecimal() and len(line) < 19 for line in lines):
        raise ValueError(f"{path}: whole numbers are expected, one in a line")
    return np.array([int(line) for line in lines], np.int64)


def _links(path: Path) -> tuple[np.ndarray, int]:
    """(2, links), and how many nodes there are."""
    graph: Any = read_numbers(path)
    if not isinstance(graph, dict) or not all(isinstance(others, list) for others in graph.values()):
        raise ValueError(f"{path}: a dict is expected, from each node to the list of its neighbours")
    pairs = [(node, other) for node, others in graph.items() for other in others]
    count = len(graph)
    for node in (*graph, *(other for _, other in pairs)):
        if not isinstance(node, int) or not 0 <= node < count:
            raise ValueError(f"{path}: {str(node)[:40]!r} is no node; they are numbered from 0 to {count - 1}")
    return np.array(pairs, np.int64).reshape(-1, 2).T, count
