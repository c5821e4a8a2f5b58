"""Neighbour sampling: the part of a graph that some nodes' answers depend on, so that a step need not take all of it.

While training, each node that is asked about gets a tree-like piece of its own: at most so many of the edges that enter
it, drawn at random, then of those that enter their sources, and so on. Pieces share nothing, also where they hold the
same nodes: so a sample's piece, and with it its answer and gradient, depends on that sample's generator alone, and not
on the others of the batch. When evaluating, all neighbours are taken, and pieces are shared.

Source: Hamilton, Ying and Leskovec, 2017, "Inductive representation learning on large graphs" (GraphSAGE), algorithm 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Piece(NamedTuple):
    """A part of a graph, its nodes numbered anew."""

    nodes: np.ndarray
    """(piece's nodes,): the number of each in the whole graph; in pieces that share nothing, one may stand twice."""
    edges: np.ndarray
    """(2, piece's edges), source first, in the new numbers."""
    asked: np.ndarray
    """(asked,): the new numbers of the nodes that were asked for, in their order."""


@dataclass(frozen=True)
class Incoming:
    """The edges of a graph, sorted by the node that they enter."""

    start: np.ndarray
    """(num_nodes + 1,): where the edges begin that enter a node; the next entry says where they end."""
    source: np.ndarray
    """(num_edges,): where each comes from."""

    @classmethod
    def of(cls, edges: np.ndarray, num_nodes: int) -> "Incoming":
        """From (2, num_edges), source first."""
        order = np.argsort(edges[1], kind="stable")
        counts = np.bincount(edges[1], minlength=num_nodes)
        return cls(np.append(0, np.cumsum(counts)), edges[0][order])

    def around(self, asked: np.ndarray, limits: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> Piece:
        """The part of the graph around some nodes.

        Args:
            asked: (asked,), the nodes; one may stand there twice.
            limits: for each hop, away from the nodes, at most how many edges that enter a node are taken.
            rngs: a generator for each node asked for, which then has a piece of its own; None: there is one piece for
                all, with all edges.
        """
        many = len(self.start) - 1
        rngs = None if rngs is None else [rngs[row] for row in range(len(rngs))]  # which go on from hop to hop
        owner = np.zeros(len(asked), np.int64) if rngs is None else np.arange(len(asked))
        wanted = owner * many + asked  # a node of a piece, as one number
        seen = frontier = np.unique(wanted)
        ends = [np.empty((2, 0), np.int64)]
        for limit in limits:
            owner, node = np.divmod(frontier, many)
            row, place = self._all(node) if rngs is None else self._some(owner, node, limit, rngs)
            source = owner[row] * many + self.source[place]
            ends.append(np.stack([source, frontier[row]]))
            frontier = np.setdiff1d(source, seen)
            seen = np.union1d(seen, frontier)
        edges = np.concatenate(ends, axis=1)
        return Piece(seen % many, np.searchsorted(seen, edges), np.searchsorted(seen, wanted))

    def _all(self, node: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every edge that enters the nodes: for each, the position of its node and its own place."""
        degree = self.start[node + 1] - self.start[node]
        row = np.repeat(np.arange(len(node)), degree)
        within = np.arange(len(row)) - np.repeat(np.cumsum(degree) - degree, degree)
        return row, self.start[node][row] + within

    def _some(
        self, owner: np.ndarray, node: np.ndarray, limit: int, rngs: Sequence[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """At most `limit` different edges that enter each node, all equally probable."""
        degree = self.start[node + 1] - self.start[node]
        crowded = degree > limit
        row, place = self._all(node[~crowded])
        rows = np.flatnonzero(~crowded)[row]
        if not crowded.any():
            return rows, place
        many, (owners, counts) = np.flatnonzero(crowded), np.unique(owner[crowded], return_counts=True)
        draws = np.concatenate([rngs[int(o)].random((count, limit)) for o, count in zip(owners, counts, strict=True)])
        chosen = _different(draws, degree[many])  # (crowded, limit)
        places = self.start[node[many]][:, None] + chosen
        return np.concatenate([rows, np.repeat(many, limit)]), np.concatenate([place, places.ravel()])


def _different(draws: np.ndarray, below: np.ndarray) -> np.ndarray:
    """In each row different whole numbers from 0 to `below`, every choice equally probable.

    Args:
        draws: (rows, numbers), uniform in [0, 1).
        below: (rows,), each above the count of numbers.

    Source: Floyd's algorithm; Bentley and Floyd, 1987, "A sample of brilliance".
    """
    chosen = np.empty(draws.shape, np.int64)
    limit = draws.shape[1]
    for i in range(limit):
        last = below - limit + i  # the largest number that may be chosen now
        number = (draws[:, i] * (last + 1)).astype(np.int64)
        again = (chosen[:, :i] == number[:, None]).any(axis=1)
        chosen[:, i] = np.where(again, last, number)
    return chosen
