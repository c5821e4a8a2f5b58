"""Communities drawn at random: nodes of one are linked more often than those of two, and which is which is to be found.

Source: Holland, Laskey and Leinhardt, 1983, "Stochastic blockmodels: first steps".
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from zoo.training.data import DataSet, Splits
from zoo.training.data.arrays import MOST_CELLS, check_positive, few_of_each
from zoo.training.data.graphs import Graph, GraphOptions, both_ways, node_splits
from zoo.training.random import generator


@dataclass(frozen=True, kw_only=True)
class BlockModel(GraphOptions):
    """What is drawn."""

    communities: int = 4
    community_size: int = 100
    """Nodes in each."""
    inside: float = 0.1
    """The probability that two nodes of one community are linked."""
    outside: float = 0.01
    """The probability that two nodes of different communities are."""
    labelled: float = 0.05
    """The share of each community's nodes whose community is told; all others are the test part."""
    features: Literal["identity", "random"] = "identity"
    """`identity`: a node is known by its number alone; `random`: by numbers that say nothing."""
    in_features: int = 16
    """How many numbers, where they are random."""
    graph_seed: int = 0
    """Draws the links, and random features; `subset_seed` draws which nodes are labelled."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        super().__post_init__()
        check_positive(self, "community_size", "in_features")
        if self.communities < 2:
            raise ValueError(f"communities {self.communities} is below 2, so there is nothing to find")
        for name in ("inside", "outside"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is no probability; give a number in [0, 1]")
        if not 0 < self.labelled < 1 or not 1 <= self.told < self.community_size:
            raise ValueError(
                f"labelled {self.labelled} of {self.community_size} nodes must be one or more, and not all of them"
            )

        if self.features == "identity" and self.num_nodes**2 > MOST_CELLS:
            raise ValueError(
                f"features identity of {self.num_nodes} nodes take {4 * self.num_nodes**2:,} bytes; set "
                "data.features=random, or lower communities or community_size"
            )

    @property
    def num_nodes(self) -> int:
        """Of all communities."""
        return self.communities * self.community_size

    @property
    def told(self) -> int:
        """How many nodes of each community are labelled."""
        return round(self.labelled * self.community_size)


def load(options: BlockModel) -> Splits:
    """The graph that `graph_seed` draws."""
    target = np.repeat(np.arange(options.communities), options.community_size)
    rng = generator(options.graph_seed, "block_model")
    rows = []
    for node in range(len(target)):  # a row at a time, for all pairs may not fit into memory
        likely = np.where(target[node + 1 :] == target[node], options.inside, options.outside)
        others = node + 1 + np.flatnonzero(rng.random(len(likely)) < likely)
        rows.append(np.stack([np.full(len(others), node), others]))
    shape = (len(target), options.in_features)
    nodes = (
        torch.eye(len(target))
        if options.features == "identity"
        else torch.from_numpy(
            generator(options.graph_seed, "block_model/features").standard_normal(shape, dtype=np.float32)
        )
    )
    labels = tuple(f"community {number}" for number in range(options.communities))
    graph = Graph(nodes, both_ways(np.concatenate(rows, axis=1)), torch.from_numpy(target), labels)
    return node_splits(graph, options, few_of_each(target, options.told, options.subset_seed))


DATA = DataSet(name="block_model", config=BlockModel, load=load)
