"""A graph of yours, in an NPZ file.

It has the arrays `nodes`, (num_nodes, features), `edges`, (2, num_edges), source first, and `target`, (num_nodes,), the
class of each node, numbered from 0, or -100 where it is not known. `train`, `val` and `test` may be there: the numbers
of the nodes that belong to a part.
"""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from zoo.training.data import IGNORE, DataSet, Splits
from zoo.training.data.arrays import check_fractions, hold_out
from zoo.training.data.graphs import Graph, GraphOptions, both_ways, node_splits

NEEDED, PARTS = ("nodes", "edges", "target"), ("train", "val", "test")
MOST_CLASSES = 100_000
"""A target beyond it is rather a mistake than a class."""


@dataclass(frozen=True, kw_only=True)
class GraphFile(GraphOptions):
    """Where the file is, and how it is divided."""

    path: str = ""
    directed: bool = False
    """Read each edge in its one direction; otherwise it goes both ways."""
    test_fraction: float = 0.2
    """Where the file has no `train`: the share of each class's nodes that is held out for the test."""

    def __post_init__(self) -> None:
        """Refuse shares that are none, and links with a direction."""
        super().__post_init__()
        check_fractions(test_fraction=self.test_fraction)
        if self.links and self.directed:
            raise ValueError("links are learnt of graphs without directions; set data.directed=false")


def is_graph(path: Path) -> bool:
    """Whether an NPZ file has edges, as no table has."""
    try:
        with zipfile.ZipFile(path) as file:
            return "edges.npy" in file.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def load(options: GraphFile) -> Splits:
    """Read the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else; the message names the array.
    """
    if not options.path:
        raise ValueError("data.path is missing; give an NPZ file with nodes, edges and target")
    arrays = _arrays(options.path)
    nodes, edges, target = (arrays[name] for name in NEEDED)
    count = len(nodes)
    shaped = nodes.ndim == 2 and nodes.size and edges.shape == (2, edges.size // 2) and target.shape == (count,)
    if not shaped:
        raise ValueError(
            f"{options.path}: nodes {nodes.shape}, edges {edges.shape} and target {target.shape} are not (num_nodes, "
            "features), (2, num_edges) and (num_nodes,)"
        )
    if nodes.dtype.kind not in "biuf" or not np.isfinite(nodes).all():
        raise ValueError(f"{options.path}: nodes has values that are no finite numbers")
    _check(options.path, "edges", edges, 0, count)
    _check(options.path, "target", target[target != IGNORE], 0, MOST_CLASSES)
    known = np.flatnonzero(target != IGNORE)
    parts = {name: _part(options.path, name, arrays[name], known, count) for name in PARTS if name in arrays}
    if "train" not in parts:
        stay, held = hold_out(target[known], options.test_fraction, options.subset_seed, "test_fraction")
        parts = {"train": known[stay], "test": known[held]}
    classes = int(target.max()) + 1
    graph = Graph(
        torch.from_numpy(nodes.astype(np.float32)),
        torch.from_numpy(edges.astype(np.int64)) if options.directed else both_ways(edges),
        torch.from_numpy(target.astype(np.int64)),
        tuple(f"class {number}" for number in range(max(classes, 0))),
    )
    test = parts.get("test", np.setdiff1d(known, np.concatenate(list(parts.values()))))
    return node_splits(graph, options, parts["train"], val=parts.get("val"), test=test)


def _arrays(path: str) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*NEEDED, *PARTS) if name in file}
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not an NPZ file of numbers: {error}") from None
    if missing := [name for name in NEEDED if name not in arrays]:
        raise ValueError(f"{path}: an array named {missing[0]!r} is needed, beside {', '.join(arrays) or 'nothing'}")
    return arrays


def _check(path: str, name: str, values: np.ndarray, low: int, high: int) -> None:
    """Refuse what is no whole number in [low, high)."""
    if values.dtype.kind not in "iu" or (values.size and not low <= int(values.min()) <= int(values.max()) < high):
        found = f"{values.min()} to {values.max()}" if values.size and values.dtype.kind in "iu" else str(values.dtype)
        raise ValueError(f"{path}: {name} must be whole numbers from {low} to {high - 1}, got {found}")


def _part(path: str, name: str, nodes: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:
    if nodes.ndim != 1 or nodes.dtype.kind == "b":
        raise ValueError(f"{path}: {name} must be the numbers of its nodes; np.flatnonzero makes them of a mask")
    _check(path, name, nodes, 0, count)
    if len(strange := np.setdiff1d(nodes, known)):
        raise ValueError(f"{path}: {name} has node {strange[0]}, whose target is {IGNORE}; leave it out")
    return np.unique(nodes).astype(np.int64)


DATA = DataSet(name="graph_file", config=GraphFile, load=load)
