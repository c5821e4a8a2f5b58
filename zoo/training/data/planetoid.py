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
from zoo.training.data.arrays import float32
from zoo.training.data.files import numbered_lines
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
    labelled = np.arange(len(y))
    val = np.arange(len(y), min(len(y) + VAL, known))
    if len(strange := np.flatnonzero((y != ally[: len(y)]).any(axis=1))):
        raise ValueError(f"{folder / f'ind.{name}.y'}: node {strange[0]} has another class than in ind.{name}.ally")
    features, target = np.zeros((num_nodes, allx.shape[1]), np.float32), np.full(num_nodes, IGNORE)
    features[:known] = float32(folder / f"ind.{name}.allx", allx)
    features[order] = float32(folder / f"ind.{name}.tx", tx)
    target[:known] = _classes(folder / f"ind.{name}.ally", ally, np.arange(known), len(y) + len(val))
    target[order] = _classes(folder / f"ind.{name}.ty", ty, order, len(order))
    labels = tuple(f"class {number}" for number in range(y.shape[1]))
    return Papers(features, edges, target, labels, labelled, val, np.sort(order))


def _matrix(path: Path) -> np.ndarray:
    found = read_numbers(path)
    if not isinstance(found, np.ndarray) or found.ndim != 2 or not found.size:
        raise ValueError(f"{path}: a matrix is expected, with a row for each node")
    return found


def _classes(path: Path, rows: np.ndarray, nodes: np.ndarray, needed: int) -> np.ndarray:
    """The class of each node, from rows with a single 1; after the first `needed`, a row of zeros is no class."""
    ones = (rows == 1).sum(axis=1)
    wrong = ((rows != 0) & (rows != 1)).any(axis=1) | (ones > 1)
    wrong[:needed] |= ones[:needed] == 0
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(f"{path}, row {row}: node {nodes[row]} needs one class, a row of zeros and a single 1")
    return np.where(ones == 1, rows.argmax(axis=1), IGNORE)


def _numbers(path: Path) -> np.ndarray:
    lines = [(number, line.strip()) for number, line in numbered_lines(path)]
    if not lines:
        raise ValueError(f"{path}: the file is empty; whole numbers are expected, one in a line")
    for number, line in lines:
        if not (line.isdecimal() and len(line) < 19):
            raise ValueError(f"{path}, line {number}: whole numbers are expected, one in a line, got {line[:40]!r}")
    return np.array([int(line) for _, line in lines], np.int64)


def _links(path: Path) -> tuple[np.ndarray, int]:
    """(2, links), and how many nodes there are."""
    graph: Any = read_numbers(path)
    if not isinstance(graph, dict) or not all(isinstance(others, list) for others in graph.values()):
        raise ValueError(f"{path}: a dict is expected, from each node to the list of its neighbours")
    pairs = [(node, other) for node, others in graph.items() for other in others]
    count = len(graph)
    for node in (*graph, *(other for _, other in pairs)):
        if not isinstance(node, int) or not 0 <= node < count:
            raise ValueError(f"{path}: {_shown(node)!r} is no node; they are numbered from 0 to {count - 1}")
    return np.array(pairs, np.int64).reshape(-1, 2).T, count


def _shown(value: Any) -> str:
    """A value for a message; Python writes no number of thousands of digits, but in base 16."""
    if isinstance(value, int):
        return (str(value) if value.bit_length() <= 64 else f"{value:#x}")[:40]
    return value[:40] if isinstance(value, str) else f"a {type(value).__name__}"
