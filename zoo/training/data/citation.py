"""Papers that cite each other, and their subjects: a folder of yours, in either form in which Cora, Citeseer and Pubmed
are published.

`ind.cora.x` and seven more files with other endings (see `planetoid.py`) come with the division that figures are
usually given for: 20 papers of each class to learn from, 500 for validation, 1,000 for the test. The pickles among them
are read without running anything (`number_pickles.py`). Of `cora.content`, lines of a paper's name, its words as 0 or
1, and its subject, and `cora.cites`, lines of two names, the division is drawn. Nothing is downloaded.

A citation is an edge in both directions.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from zoo.training.data import DataSet, Splits
from zoo.training.data.arrays import check_positive, few_of_each, float32
from zoo.training.data.files import numbered_lines
from zoo.training.data.graphs import Graph, GraphOptions, both_ways, node_splits
from zoo.training.data.planetoid import Papers, read_planetoid
from zoo.training.random import generator

DANGLING = 0.01
"""So large a share of citations may name papers that are not in the file; Citeseer's own file has some."""


@dataclass(frozen=True, kw_only=True)
class Citation(GraphOptions):
    """Where the files are."""

    path: str = ""
    """The folder."""
    dataset: str | None = None
    """Such as `cora`, where the folder has the files of several."""
    normalize: bool = True
    """Divide each paper's features, which may not be negative, by their sum."""
    per_class: int = 20
    """Papers of each class to learn from, where the files come without a division; likewise the next two."""
    val_nodes: int = 500
    test_nodes: int = 1000

    def __post_init__(self) -> None:
        """Refuse parts of nothing."""
        super().__post_init__()
        check_positive(self, "per_class", "val_nodes", "test_nodes")


def names(folder: Path) -> dict[str, str]:
    """Data set -> the file that it is known by, for each one in a folder."""
    planetoid = {path.name.split(".")[1]: path.name for path in folder.glob("ind.*.graph")}
    return {**{path.stem: path.name for path in folder.glob("*.content")}, **planetoid}


def load(options: Citation) -> Splits:
    """Read a folder.

    Raises:
        OSError: a file cannot be read.
        ValueError: it holds something else; the message names file and line.
    """
    folder = Path(options.path)
    if not options.path or not folder.is_dir():
        raise ValueError(f"data.path {options.path!r} is no folder; give the one with ind.cora.x or cora.content in it")
    found = names(folder)
    name = options.dataset or (next(iter(found)) if len(found) == 1 else "")
    if name not in found:
        listed = ", ".join(sorted(found)) or "no ind.NAME.graph and no NAME.content"
        raise ValueError(f"{folder}: there is {listed}; name one by data.dataset")
    divided = found[name].startswith("ind.")
    papers = read_planetoid(folder, name) if divided else _read_linqs(folder, name, options)
    nodes = torch.from_numpy(papers.features)
    if options.normalize:
        if (nodes < 0).any():
            raise ValueError(f"{folder / name}: a feature is negative, so a sum says little; set data.normalize=false")
        sums = nodes.sum(1, keepdim=True)
        nodes = torch.where(sums == 0, nodes, nodes / sums)
    graph = Graph(nodes, both_ways(papers.edges), torch.from_numpy(papers.target), papers.labels)
    return node_splits(graph, options, papers.labelled, val=papers.val, test=papers.test)


def _read_linqs(folder: Path, name: str, options: Citation) -> Papers:
    """Read `NAME.content` and `NAME.cites`, and draw a division."""
    path = folder / f"{name}.content"
    numbered = [(number, line.split()) for number, line in numbered_lines(path)]
    lines = [line for _, line in numbered]
    if not lines or len(lines[0]) < 3:
        raise ValueError(f"{path}, line 1: a paper's name, its features and its class are expected")
    for number, line in numbered:
        if len(line) != len(lines[0]):
            raise ValueError(
                f"{path}, line {number}: {len(line)} words where line {numbered[0][0]} has {len(lines[0])}"
            )
    if twice := [paper for paper, count in Counter(line[0] for line in lines).items() if count > 1]:
        raise ValueError(f"{path}: paper {twice[0]!r} stands there twice")
    features = np.stack([_features(path, number, line[1:-1]) for number, line in numbered])
    labels = tuple(sorted({line[-1] for line in lines}))
    target = np.array([labels.index(line[-1]) for line in lines])
    edges = _citations(folder / f"{name}.cites", {line[0]: place for place, line in enumerate(lines)})
    labelled = few_of_each(target, options.per_class, options.subset_seed)
    rest = np.setdiff1d(np.arange(len(target)), labelled)
    if len(rest) <= options.val_nodes:
        raise ValueError(
            f"{path}: of {len(target)} papers, {len(labelled)} to learn from and val_nodes {options.val_nodes} leave "
            "none for the test; lower per_class or val_nodes"
        )
    drawn = generator(options.subset_seed, "citation").permutation(rest)
    val, test = drawn[: options.val_nodes], drawn[options.val_nodes :][: options.test_nodes]
    return Papers(features, edges, target, labels, labelled, np.sort(val), np.sort(test))


def _features(path: Path, number: int, words: list[str]) -> np.ndarray:
    try:
        values = np.array(words, np.float64)
    except ValueError:
        raise ValueError(f"{path}, line {number}: features must be finite numbers") from None
    return float32(f"{path}, line {number}", values)


def _citations(path: Path, place: dict[str, int]) -> np.ndarray:
    """(2, citations), of the papers that are there."""
    pairs = []
    for number, line in numbered_lines(path):
        pairs.append(line.split())
        if len(pairs[-1]) != 2:
            raise ValueError(f"{path}, line {number}: two papers' names are expected, not {len(pairs[-1])} words")
    known = [(place[a], place[b]) for a, b in pairs if a in place and b in place]
    missing = [paper for pair in pairs for paper in pair if paper not in place]
    if len(pairs) - len(known) > DANGLING * len(pairs):
        raise ValueError(
            f"{path}: {len(pairs) - len(known)} of {len(pairs)} citations name papers that the other file does not "
            f"have, such as {missing[0]!r}"
        )
    return np.array(known, np.int64).reshape(-1, 2).T


DATA = DataSet(name="citation", config=Citation, load=load)
