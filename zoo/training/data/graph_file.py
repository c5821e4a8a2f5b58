"""A graph of yours, in an NPZ file.

It has the arrays `nodes`, (num_nodes, features), `edges`, (2, num_edges), source first, and `target`, (num_nodes,), the
class of each node, numbered from 0, or -100 where it is not known; it is not needed where links are learnt. `train`,
`val` and `test` may be there: the numbers of the nodes that belong to a part. What is missing of them is made of the
other nodes whose class is known: `test` is all of them beside a `train`, and `train` all of them beside a `test`.

An edge goes both ways, is there once, and links two nodes, unless `directed`: repetitions and loops are dropped.
"""

import itertools
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from zoo.training.data import IGNORE, DataSet, Splits
from zoo.training.data.arrays import check_fractions, float32, hold_out
from zoo.training.data.files import read_npz
from zoo.training.data.graphs import Graph, GraphOptions, both_ways, node_splits
from zoo.training.data.links import link_splits

PARTS = "train", "val", "test"
MOST_CLASSES = 100_000
"""A target beyond it is rather a mistake than a class."""


@dataclass(frozen=True, kw_only=True)
class GraphFile(GraphOptions):
    """Where the file is, and how it is divided."""

    path: str = ""
    directed: bool = False
    """Read each edge as it stands there, in its one direction, loops and repetitions too. Otherwise edges go both ways,
    loops are dropped, and an edge that is repeated counts once."""
    test_fraction: float = 0.2
    """Where the file has neither `train` nor `test`: the share of each class's nodes that is held out for the test."""

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
    except (OSError, zipfile.BadZipFile, RuntimeError):
        return False


def load(options: GraphFile) -> Splits:
    """Read the file.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else; the message names the array.
    """
    if not options.path:
        raise ValueError("data.path is missing; give an NPZ file with nodes, edges and target")
    needed = ("nodes", "edges") if options.links else ("nodes", "edges", "target")
    arrays = read_npz(options.path, (*needed, *PARTS))
    if missing := [name for name in needed if name not in arrays]:
        listed = ", ".join(arrays) or "nothing"
        raise ValueError(f"{options.path}: an array named {missing[0]!r} is needed, beside {listed}")
    nodes, edges = arrays["nodes"], arrays["edges"]
    if nodes.ndim != 2 or not nodes.size or edges.ndim != 2 or len(edges) != 2:
        raise ValueError(
            f"{options.path}: nodes {nodes.shape} and edges {edges.shape} are not (num_nodes, features) and (2, "
            "num_edges)"
        )
    _check(options.path, "edges", edges, 0, len(nodes))
    features = torch.from_numpy(float32(f"{options.path}: nodes", nodes))
    ways = torch.from_numpy(edges.astype(np.int64)) if options.directed else both_ways(edges)
    if options.links:
        return link_splits(features, ways, options)
    target = _target(options.path, arrays["target"], len(nodes))
    labels = tuple(f"class {number}" for number in range(int(target.max()) + 1))
    parts = _parts(options, arrays, target)
    graph = Graph(features, ways, torch.from_numpy(target), labels)
    return node_splits(graph, options, parts["train"], val=parts.get("val"), test=parts["test"])


def _target(path: str, target: np.ndarray, count: int) -> np.ndarray:
    """The class of each node, int64."""
    if target.shape != (count,):
        raise ValueError(f"{path}: target {target.shape} is not ({count},), a class for each of the nodes")
    known = target[target != IGNORE]
    _check(path, "target", known, 0, MOST_CLASSES)
    if not len(known):
        raise ValueError(f"{path}: no node has a class, for target is {IGNORE} everywhere; data.links=true needs none")
    return target.astype(np.int64)


def _parts(options: GraphFile, arrays: dict[str, np.ndarray], target: np.ndarray) -> dict[str, np.ndarray]:
    """The nodes of each part: those of the file, and what is missing made of the others whose class is known."""
    known = np.flatnonzero(target != IGNORE)
    parts = {name: _part(options.path, name, arrays[name], known, len(target)) for name in PARTS if name in arrays}
    for first, second in itertools.combinations(parts, 2):
        if len(both := np.intersect1d(parts[first], parts[second])):
            raise ValueError(f"{options.path}: node {both[0]} is in {first} and in {second}; leave it in one of them")
    rest = np.setdiff1d(known, np.concatenate([*parts.values(), known[:0]]))
    if "train" in parts or "test" in parts:
        parts = {"train": rest, "test": rest, **parts}
    else:
        stay, held = hold_out(target[rest], options.test_fraction, options.subset_seed, "test_fraction")
        parts = {**parts, "train": rest[stay], "test": rest[held]}
    for name in ("train", "test"):
        if not len(parts[name]):
            raise ValueError(
                f"{options.path}: no node is left for {name}; set data.test_fraction above 0 and below 1, or give an "
                f"array {name}"
            )
    return parts


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
