"""What graph networks can tell apart and what they cannot, by theorem: "How Powerful are Graph Neural Networks?".

Nodes have constant features, so that all there is to see is how they are connected.
"""

import itertools

import pytest
import torch
from laws import perturbed

import zoo
from zoo.registry import ARCHITECTURES

MEANS = {
    "gcn": {},
    "gat": {"num_heads": 2, "head_heads": 2},
    "graphsage": {"aggregation": "mean"},
}
"""Networks in which a node takes some mean of its neighbours."""
SUM = {"gin": {"norm": None}}
MAX = {"graphsage": {"aggregation": "pool"}}


def network(name, in_features=1, seed=0, **options):
    """In double precision, so that what differs does so by far more than rounding."""
    sizes = {"in_features": in_features, "dim": 16, "depth": 3, "num_classes": 4, "readout": "mean"}
    torch.manual_seed(seed)
    return perturbed(ARCHITECTURES.records()[name], zoo.config(name, **{**sizes, **options})).double()


def undirected(pairs):
    """Edges both ways."""
    edges = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2).T
    return torch.cat([edges, edges.flip(0)], 1)


def cycle(*nodes):
    return list(itertools.pairwise([*nodes, nodes[0]]))


TRIANGLE, HEXAGON, TRIANGLES = cycle(0, 1, 2), cycle(0, 1, 2, 3, 4, 5), cycle(0, 1, 2) + cycle(3, 4, 5)
COMPLETE = list(itertools.combinations(range(4), 2))
"""Every node has two neighbours in the first three, and three in this one."""


@torch.no_grad()
def answer(model, size, pairs):
    """The logits of a graph whose nodes are all alike."""
    nodes = torch.ones(size, 1, dtype=torch.float64)
    return model(nodes, undirected(pairs), torch.zeros(size, dtype=torch.int64))


def apart(first, second):
    return (first - second).abs().max().item() > 1e-6


@pytest.mark.parametrize("name", MEANS)
def test_a_mean_over_equal_neighbours_is_one_of_them_so_all_regular_graphs_look_alike(name):
    model = network(name, **MEANS[name])
    assert not apart(answer(model, 3, TRIANGLE), answer(model, 4, COMPLETE))
    assert not apart(answer(model, 3, TRIANGLE), answer(model, 6, HEXAGON))


def test_the_largest_of_equal_neighbours_is_one_of_them_too():
    model = network("graphsage", **MAX["graphsage"])
    assert not apart(answer(model, 3, TRIANGLE), answer(model, 4, COMPLETE))


def test_a_sum_over_equal_neighbours_counts_them_so_regular_graphs_of_two_degrees_differ():
    model = network("gin", **SUM["gin"])
    assert apart(answer(model, 3, TRIANGLE), answer(model, 4, COMPLETE))
    assert not apart(answer(model, 3, TRIANGLE), answer(model, 6, HEXAGON)), "in both a node has two neighbours"


@pytest.mark.parametrize("name", [*MEANS, *SUM])
def test_no_network_of_messages_tells_two_triangles_from_a_hexagon(name):
    """Every node sees two neighbours, who see two neighbours, and so on; it does not see that they close a ring."""
    model = network(name, **MEANS.get(name, SUM.get(name)), readout="sum")
    assert not apart(answer(model, 6, TRIANGLES), answer(model, 6, HEXAGON))


@torch.no_grad()
def centre(model, *neighbours):
    """What becomes of a node whose neighbours are of kind 0 or 1; one layer, so that nothing else is seen."""
    nodes = torch.eye(3, dtype=torch.float64)[[2, *neighbours]]
    edges = torch.tensor([range(1, len(nodes)), [0] * len(neighbours)])
    return model(nodes, edges)[0]


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("gin", {"norm": None}, {"another ratio", "twice as many"}),
        ("graphsage", {"aggregation": "mean"}, {"another ratio"}),
        ("graphsage", {"aggregation": "pool"}, set()),
        ("graphsage", {"aggregation": "max"}, set()),
    ],
    ids=["sum", "mean", "pool", "max"],
)
def test_a_sum_sees_a_multiset_a_mean_its_ratios_and_a_maximum_its_members(name, options, told):
    """Figure 3 of the paper: neighbours ab, against aabb, which has the same ratio, and aab, which has not."""
    model = network(name, in_features=3, depth=1, **options)
    seen = {"twice as many": (0, 0, 1, 1), "another ratio": (0, 0, 1), "other members": (0, 0)}
    before = centre(model, 0, 1)
    assert {what for what, kinds in seen.items() if apart(centre(model, *kinds), before)} == told | {"other members"}


def colours(size, pairs, rounds):
    """The Weisfeiler-Lehman test: how often each colour occurs after so many rounds of looking at one's neighbours."""
    colour = dict.fromkeys(range(size), ())
    for _ in range(rounds):
        around = {node: [colour[b] for a, b in [*pairs, *((b, a) for a, b in pairs)] if a == node] for node in colour}
        colour = {node: (colour[node], tuple(sorted(around[node]))) for node in colour}
    return sorted(colour.values())


def test_a_network_of_sums_tells_apart_just_what_the_test_tells_apart():
    """Theorem 3, for all graphs of five nodes: as many rounds as layers, and a sum over nodes at the end."""
    model = network("gin", norm=None, readout="sum", dim=32)
    places = list(itertools.combinations(range(5), 2))
    graphs = [[pair for pair, there in zip(places, chosen, strict=True) if there]
              for chosen in itertools.product([False, True], repeat=len(places))][::7]  # fmt: skip
    found = torch.cat([answer(model, 5, pairs) for pairs in graphs])
    differ = (found[:, None] - found).abs().amax(-1) > 1e-6 * found.abs().max()
    histograms = [colours(5, pairs, 3) for pairs in graphs]
    expected = torch.tensor([[first != second for second in histograms] for first in histograms])
    assert torch.equal(differ, expected)
    assert len({str(histogram) for histogram in histograms}) > 20, "there is something to tell apart"
