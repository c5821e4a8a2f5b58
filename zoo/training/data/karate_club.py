"""A karate club that broke in two: 34 members, who is a friend of whom, and on which side each one came down.

Zachary, 1977, "An information flow model for conflict and fission in small groups", figures 1 and 3. Member 0 taught
karate, member 33 presided; told only on which side these two were, a model finds that of the others.
"""

from dataclasses import dataclass

import numpy as np
import torch

from zoo.training.data import DataSet, Splits
from zoo.training.data.graphs import Graph, GraphOptions, both_ways, node_splits

FRIENDS = {
    0: (1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 17, 19, 21, 31),
    1: (2, 3, 7, 13, 17, 19, 21, 30),
    2: (3, 7, 8, 9, 13, 27, 28, 32),
    3: (7, 12, 13),
    4: (6, 10),
    5: (6, 10, 16),
    6: (16,),
    8: (30, 32, 33),
    9: (33,),
    13: (33,),
    14: (32, 33),
    15: (32, 33),
    18: (32, 33),
    19: (33,),
    20: (32, 33),
    22: (32, 33),
    23: (25, 27, 29, 32, 33),
    24: (25, 27, 31),
    25: (31,),
    26: (29, 33),
    27: (33,),
    28: (31, 33),
    29: (32, 33),
    30: (32, 33),
    31: (32, 33),
    32: (33,),
}
"""For each member, the friends with higher numbers."""
TEACHERS_SIDE = (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 16, 17, 19, 21)
MEMBERS = 34


@dataclass(frozen=True, kw_only=True)
class KarateClub(GraphOptions):
    """Whose sides are told."""

    labelled: tuple[int, ...] = (0, 33)
    """The members whose sides are learnt from; all others are the test part."""

    def __post_init__(self) -> None:
        """Refuse members that the club does not have, and one side alone."""
        super().__post_init__()
        if unknown := [member for member in self.labelled if not 0 <= member < MEMBERS]:
            raise ValueError(f"labelled {unknown[0]} is no member; they are numbered from 0 to {MEMBERS - 1}")
        if len({member in TEACHERS_SIDE for member in self.labelled}) < 2:
            raise ValueError(
                f"labelled {list(self.labelled)} tells of one side only; name members of both, as 0 and 33"
            )


def load(options: KarateClub) -> Splits:
    """The members, each known by its number alone: the features are the rows of the identity matrix."""
    target = torch.ones(MEMBERS, dtype=torch.int64)
    target[list(TEACHERS_SIDE)] = 0
    friends = np.array([(member, friend) for member, friends in FRIENDS.items() for friend in friends])
    graph = Graph(torch.eye(MEMBERS), both_ways(friends.T), target, ("teacher", "president"))
    return node_splits(graph, options, np.unique(options.labelled))


DATA = DataSet(name="karate_club", config=KarateClub, load=load)
