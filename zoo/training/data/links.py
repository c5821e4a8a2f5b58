"""Which nodes are linked: the splits of data about pairs of nodes.

Some links are held out. The model sees the graph without them and, while training, without those that the batch asks
about, or it would learn to look the answer up. Each link comes with one pair of nodes that are not linked.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import Spec, Splits
from zoo.training.data.neighbours import Incoming
from zoo.training.random import generator


@dataclass(frozen=True)
class Strangers:
    """The pairs of different nodes that no edge of the whole graph links, in their order."""

    num_nodes: int
    linked: np.ndarray
    """(pairs,): source * num_nodes + target of all edges and of each node with itself, sorted."""

    @classmethod
    def of(cls, edges: np.ndarray, num_nodes: int) -> "Strangers":
        """From (2, num_edges)."""
        loops = np.arange(num_nodes) * (num_nodes + 1)
        return cls(num_nodes, np.union1d(edges[0] * num_nodes + edges[1], loops))

    def __len__(self) -> int:
        return self.num_nodes**2 - len(self.linked)

    def pairs(self, which: np.ndarray) -> np.ndarray:
        """The pairs with these numbers, below `len`: (2, pairs)."""
        before = self.linked - np.arange(len(self.linked))  # how many strangers come before each linked pair
        return np.stack(np.divmod(which + np.searchsorted(before, which, side="right"), self.num_nodes))


@dataclass(frozen=True, kw_only=True)
class LinkPart:
    """Some links of an undirected graph; a sample is a link, and a pair of nodes without one."""

    name: str
    nodes: Tensor
    """(num_nodes, in_features) float."""
    edges: Tensor
    """(2, num_edges): the links to learn from, in both directions."""
    links: np.ndarray
    """(2, samples): those asked for."""
    strangers: Strangers
    seed: int
    """Draws the pairs that are evaluated."""
    neighbours: tuple[int, ...] = ()
    incoming: Incoming | None = None
    """Of `edges`; needed for neighbour sampling only."""

    def __len__(self) -> int:
        return self.links.shape[1]

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`nodes` and `edges` to learn from, without the batch's own links while training; `pairs` and `target`.

        `pairs` (2, 2 * batch) are the links asked for, then as many pairs of strangers; `target` (2 * batch,) int64 is
        1 for the former and 0 for the latter.
        """
        links = self.links[:, np.asarray(indices, np.int64)]
        draws = (
            [generator(self.seed, f"links/{self.name}", int(index)) for index in indices]
            if rngs is None
            else [rngs[row] for row in range(len(rngs))]
        )
        which = np.array([rng.integers(len(self.strangers)) for rng in draws], np.int64)
        pairs = np.concatenate([links, self.strangers.pairs(which)], axis=1)
        target = torch.arange(2).repeat_interleave(links.shape[1]).flip(0)
        hidden = links if rngs is not None else links[:, :0]
        if self.incoming is None:
            edges = self.edges[:, torch.from_numpy(~self._among(self.edges.numpy(), hidden))]
            return {"nodes": self.nodes, "edges": edges, "pairs": torch.from_numpy(pairs), "target": target}
        # A link and its strangers, four nodes in all, draw from one generator.
        piece = self.incoming.around(pairs.ravel(), self.neighbours, None if rngs is None else draws * 4)
        keep = ~self._among(piece.nodes[piece.edges], hidden)
        return {
            "nodes": self.nodes[torch.from_numpy(piece.nodes)],
            "edges": torch.from_numpy(piece.edges[:, keep]),
            "pairs": torch.from_numpy(piece.asked.reshape(2, -1)),
            "target": target,
        }

    def _among(self, edges: np.ndarray, links: np.ndarray) -> np.ndarray:
        """Which of the edges are among the links, in either direction."""
        many = len(self.nodes)
        both = np.concatenate([links, links[::-1]], axis=1)
        return np.isin(edges[0] * many + edges[1], both[0] * many + both[1])


def link_splits(nodes: Tensor, edges: Tensor, options: Any) -> Splits:
    """A data set of the links of one graph.

    Args:
        nodes: (num_nodes, in_features) float.
        edges: (2, num_edges), each link in both directions.
        options: `test_links` and `val_fraction` are the shares that are held out; `subset_seed` draws which.

    Raises:
        ValueError: there are too few links to hold some out, or no nodes without one.
    """
    array, num_nodes = edges.numpy(), len(nodes)
    links = array[:, array[0] < array[1]]
    strangers = Strangers.of(array, num_nodes)
    counts = {"test": round(options.test_links * links.shape[1]), "val": round(options.val_fraction * links.shape[1])}
    if not counts["test"] or sum(counts.values()) >= links.shape[1] or not len(strangers):
        raise ValueError(
            f"{links.shape[1]} links between {num_nodes} nodes cannot be divided: {counts['test']} for the test, "
            f"{counts['val']} for validation, the rest to learn from, and {len(strangers)} pairs without a link to "
            "tell them from; change test_links or val_fraction"
        )
    order = generator(options.subset_seed, "links").permutation(links.shape[1])
    test, val, train = np.split(order, [counts["test"], sum(counts.values())])
    known = links[:, np.sort(train)]
    message = np.concatenate([known, known[::-1]], axis=1)
    incoming = Incoming.of(message, num_nodes) if options.neighbours else None
    parts = {
        name: LinkPart(
            name=name, nodes=nodes, edges=torch.from_numpy(message), links=links[:, np.sort(chosen)],
            strangers=strangers, seed=options.subset_seed, neighbours=options.neighbours, incoming=incoming,
        )
        for name, chosen in (("train", train), ("val", val), ("test", test))
    }  # fmt: skip
    spec = Spec(keys=("nodes", "edges", "pairs", "target"), in_features=nodes.shape[1], neighbours=options.neighbours)
    return Splits(spec=spec, train=parts["train"], val=parts["val"] if counts["val"] else None, test=parts["test"])
