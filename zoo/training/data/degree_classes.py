"""Graphs whose nodes all have the same number of neighbours, and that number is the class.

All nodes have the same features, so only counting tells the graphs apart: a mean over neighbours is the same in all
classes. Xu et al., 2018, "How powerful are graph neural networks?", section 5.2, says which networks can count.

A graph is a union of random pairings that have no pair in common, which is as good as drawing among all regular graphs;
Wormald, 1999, "Models of random regular graphs", section 4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.drawn import Drawn, drawn
from zoo.training.data.graphs import side_by_side


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
        if self.min_nodes < 2 * max(self.degrees):
            raise ValueError(
                f"min_nodes {self.min_nodes} is below {2 * max(self.degrees)}, twice the largest of degrees, and then "
                "such a graph is hard to draw; raise it"
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
    linked = np.eye(count, dtype=bool)
    for _ in range(degree):
        while True:
            first, second = rng.permutation(count).reshape(2, -1)
            if not linked[first, second].any():
                break
        linked[first, second] = linked[second, first] = True
    return np.stack(np.nonzero(linked & ~np.eye(count, dtype=bool)))


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
