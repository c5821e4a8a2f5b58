"""Graphs whose nodes all have the same number of neighbours, and that number is the class.

All nodes have the same features, so only counting tells the graphs apart: a mean over neighbours is the same in all
classes. Xu et al., 2018, "How powerful are graph neural networks?", section 5.2, says which networks can count.

A graph begins as a ring in which each node is linked to the nearest ones, and then pairs of its edges, drawn at random,
swap their ends many times; Milo et al., 2003, "On the uniform generation of random graphs with prescribed degree
sequences", the switching method.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.drawn import Drawn, drawn
from zoo.training.data.graphs import side_by_side

SWAPS = 10
"""For each edge."""


@dataclass(frozen=True, kw_only=True)
class DegreeClasses(Drawn):
    """Which graphs."""

    samples: int = 2_048
    held_out: int = 512
    degrees: tuple[int, ...] = (2, 3, 4, 5)
    """The number of neighbours of each class."""
    min_nodes: int = 12
    """The fewest nodes of a graph; all even sizes are equally frequent."""
    max_nodes: int = 24

    def __post_init__(self) -> None:
        """Refuse graphs that cannot be."""
        super().__post_init__()
        if len(set(self.degrees)) < max(2, len(self.degrees)) or min(self.degrees) < 1:
            raise ValueError(f"degrees {list(self.degrees)} must be two or more different numbers, none below 1")
        if self.min_nodes % 2 or self.max_nodes % 2 or self.max_nodes < self.min_nodes:
            raise ValueError(f"min_nodes {self.min_nodes} and max_nodes {self.max_nodes} must be even, and in order")
        if self.min_nodes <= max(self.degrees):
            raise ValueError(
                f"min_nodes {self.min_nodes} is too few for {max(self.degrees)} neighbours, the most of degrees; set "
                f"min_nodes={max(self.degrees) // 2 * 2 + 2} or more"
            )


def graphs(options: DegreeClasses, _: str, rngs: Sequence[np.random.Generator]) -> dict[str, Tensor]:
    """Graphs side by side: `nodes`, all 1, `edges`, `graph`, and `target`, (batch,)."""
    nodes, edges, target = [], [], []
    for rng in rngs:
        label = int(rng.integers(len(options.degrees)))
        count = 2 * int(rng.integers(options.min_nodes // 2, options.max_nodes // 2, endpoint=True))
        nodes.append(torch.ones(count, 1))
        edges.append(torch.from_numpy(regular(rng, count, options.degrees[label])))
        target.append(label)
    return {**side_by_side(nodes, edges), "target": torch.tensor(target)}


def regular(rng: np.random.Generator, count: int, degree: int) -> np.ndarray:
    """The edges of a graph in which each of `count` nodes has `degree` neighbours, (2, count * degree)."""
    steps = [*range(1, degree // 2 + 1), *([count // 2] if degree % 2 else [])]
    edges = [(i, (i + step) % count) for step in steps for i in range(count // 2 if 2 * step == count else count)]
    linked = {(a, b) for edge in edges for a, b in (edge, edge[::-1])}
    draws = rng.integers((len(edges), len(edges), 2), size=(SWAPS * len(edges), 3)).tolist()
    for first, second, turned in draws:
        (a, b), (c, d) = edges[first], edges[second][:: -1 if turned else 1]
        if a != d and b != c and (a, d) not in linked and (c, b) not in linked:
            linked -= {(a, b), (b, a), (c, d), (d, c)}
            linked |= {(a, d), (d, a), (c, b), (b, c)}
            edges[first], edges[second] = (a, d), (c, b)
    return np.array(sorted(linked), np.int64).T


def load(options: DegreeClasses) -> Splits:
    """The three parts; see `DegreeClasses`."""
    spec = Spec(
        keys=("nodes", "edges", "graph", "target"),
        in_features=1,
        num_classes=len(options.degrees),
        labels=tuple(f"degree {degree}" for degree in options.degrees),
    )
    return drawn("degree_classes", options, spec, graphs)


DATA = DataSet(name="degree_classes", config=DegreeClasses, load=load)
