"""How a graph is a batch: the splits of data about nodes, about pairs of nodes, and about whole graphs.

Edges are (2, num_edges) int64, source first; an undirected edge stands there in both directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.training.data import Spec, Splits
from zoo.training.data.arrays import HoldOut, hold_out
from zoo.training.data.links import link_splits
from zoo.training.data.neighbours import Incoming


class Graph(NamedTuple):
    """One graph and what is known of its nodes."""

    nodes: Tensor
    """(num_nodes, in_features) float."""
    edges: Tensor
    """(2, num_edges) int64."""
    target: Tensor
    """(num_nodes,) int64, the class of each."""
    labels: tuple[str, ...]
    """The name of each class."""


@dataclass(frozen=True, kw_only=True)
class GraphOptions(HoldOut):
    """How all data sets of one graph are read."""

    links: bool = False
    """Learn which nodes are linked, instead of the nodes' classes; see `objective.name=link_prediction`."""
    test_links: float = 0.1
    """The share of links that are held out for the test, if links are learnt; `val_fraction` is one of them too."""
    neighbours: tuple[int, ...] = ()
    """Neighbour sampling, a number for each layer of the model: while training, a step takes at most so many of the
    edges that enter each node, drawn anew each time, outwards from the nodes it asks about; when evaluating, all that
    are as near. Empty: every step takes the whole graph."""

    def __post_init__(self) -> None:
        """Refuse shares that are none, and samples of nothing."""
        super().__post_init__()
        if not 0 < self.test_links < 1:
            raise ValueError(f"test_links {self.test_links} is not between 0 and 1; give a share of the links")
        if any(limit < 1 for limit in self.neighbours):
            raise ValueError(f"neighbours {list(self.neighbours)} has a number below 1; a hop takes one edge or more")


@dataclass(frozen=True, kw_only=True)
class NodePart:
    """Some nodes of a graph whose classes are asked for; a sample is a node, a batch has the graph around it."""

    graph: Graph
    asked: np.ndarray
    """(samples,), the nodes."""
    neighbours: tuple[int, ...] = ()
    incoming: Incoming | None = None
    """Needed for neighbour sampling only."""

    def __len__(self) -> int:
        return len(self.asked)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`nodes` and `edges` of the graph, or of what was sampled of it; `asked` and `target`, (batch,) each.

        `asked` says which of `nodes` each sample is about.
        """
        nodes, edges, target, _ = self.graph
        wanted = self.asked[np.asarray(indices, np.int64)]
        asked = torch.from_numpy(wanted)
        batch = {"target": target[asked]}
        if self.incoming is None:
            return {"nodes": nodes, "edges": edges, "asked": asked, **batch}
        piece = self.incoming.around(wanted, self.neighbours, rngs)
        return {
            "nodes": nodes[torch.from_numpy(piece.nodes)],
            "edges": torch.from_numpy(piece.edges),
            "asked": torch.from_numpy(piece.asked),
            **batch,
        }


def node_splits(
    graph: Graph,
    options: GraphOptions,
    labelled: np.ndarray,
    *,
    val: np.ndarray | None = None,
    test: np.ndarray | None = None,
) -> Splits:
    """A data set of one graph, as the options want it: its nodes' classes, or its links.

    Args:
        graph: the graph, undirected where links are wanted.
        options: what is wanted.
        labelled: the nodes whose classes may be learnt from; `options.val_fraction` of them are held out.
        val: nodes for validation that come with the data.
        test: nodes for the test; all others when not given.

    Raises:
        ValueError: there are no labelled nodes or links to learn from, or none to be tested on.
    """
    if options.links:
        return link_splits(graph.nodes, graph.edges, options)
    stay, held = hold_out(graph.target.numpy()[labelled], options.val_fraction, options.subset_seed, "val_fraction")
    held_out = np.concatenate([labelled[held], np.empty(0, np.int64) if val is None else val])
    if test is None:
        test = np.setdiff1d(np.arange(len(graph.nodes)), np.concatenate([labelled, held_out]))
    if not len(test):
        raise ValueError("no node is left for the test; label fewer")
    incoming = Incoming.of(graph.edges.numpy(), len(graph.nodes)) if options.neighbours else None
    train, valid, tested = (
        NodePart(graph=graph, asked=asked, neighbours=options.neighbours, incoming=incoming)
        for asked in (labelled[stay], held_out, test)
    )
    spec = Spec(
        keys=("nodes", "edges", "asked", "target"),
        num_classes=len(graph.labels),
        in_features=graph.nodes.shape[1],
        labels=graph.labels,
        neighbours=options.neighbours,
    )
    return Splits(spec=spec, train=train, val=valid if len(valid) else None, test=tested)


@dataclass(frozen=True, kw_only=True)
class GraphPart:
    """Graphs whose classes are asked for; a sample is a graph, a batch has several side by side."""

    nodes: Tensor
    """(nodes of all graphs, in_features) float."""
    edges: Tensor
    """(2, edges of all graphs), numbered within each graph."""
    first_node: np.ndarray
    """(graphs + 1,): where the nodes of each graph begin."""
    first_edge: np.ndarray
    """(graphs + 1,): where its edges begin."""
    target: Tensor
    """(graphs,) int64."""
    chosen: np.ndarray
    """(samples,): which graphs belong to the part."""

    def __len__(self) -> int:
        return len(self.chosen)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`nodes`, `edges` and `graph` of all the graphs, numbered one after the other, and `target`, (batch,)."""
        members = self.chosen[np.asarray(indices, np.int64)]
        nodes = [self.nodes[self.first_node[i] : self.first_node[i + 1]] for i in members]
        edges = [self.edges[:, self.first_edge[i] : self.first_edge[i + 1]] for i in members]
        return {**side_by_side(nodes, edges), "target": self.target[torch.from_numpy(members)]}


def side_by_side(nodes: Sequence[Tensor], edges: Sequence[Tensor]) -> dict[str, Tensor]:
    """Graphs as one whose parts are not linked.

    Args:
        nodes: of each graph (its nodes, in_features); a graph may have none.
        edges: of each graph (2, its edges).

    Returns:
        `nodes`, `edges`, and `graph`, (nodes,) int64, which says to which graph each node belongs.
    """
    sizes = torch.tensor([len(each) for each in nodes])
    offsets = (sizes.cumsum(0) - sizes).tolist()
    moved = [each + offset for each, offset in zip(edges, offsets, strict=True)]
    graph = torch.arange(len(nodes)).repeat_interleave(sizes)
    return {"nodes": torch.cat(list(nodes)), "edges": torch.cat(moved, dim=1), "graph": graph}


def both_ways(edges: Any) -> Tensor:
    """Each edge in both directions and once, without loops, sorted by source.

    Args:
        edges: (2, num_edges) or what makes such an array.
    """
    edges = np.asarray(edges, np.int64).reshape(2, -1)
    edges = edges[:, edges[0] != edges[1]]
    return torch.from_numpy(np.unique(np.concatenate([edges, edges[::-1]], axis=1), axis=1))
