"""Data of graphs: what a batch is, how parts are divided, and that nothing held out leaks."""

import functools
import operator

import networkx
import numpy as np
import pytest
import torch
from samples import read, rngs, whole

from zoo.config import ConfigError
from zoo.training.data import DATA_SETS
from zoo.training.data.degree_classes import regular
from zoo.training.data.graphs import GraphPart, side_by_side
from zoo.training.data.links import Strangers


def edge_set(edges):
    return {tuple(edge) for edge in edges.T.tolist()}


def test_the_karate_club_is_the_one_that_networkx_has():
    club, data = networkx.karate_club_graph(), read("karate_club")
    batch = whole(data.test)
    assert edge_set(batch["edges"]) == {*club.edges, *((b, a) for a, b in club.edges)}
    assert len(club.edges) == 78
    sides = [club.nodes[member]["club"] for member in batch["asked"].tolist()]
    assert [data.spec.labels[target] for target in batch["target"]] == [
        {"Mr. Hi": "teacher", "Officer": "president"}[side] for side in sides
    ]
    assert torch.equal(batch["nodes"], torch.eye(34))


def test_of_the_karate_club_two_members_are_told_and_all_others_tested():
    data = read("karate_club")
    assert whole(data.train)["asked"].tolist() == [0, 33]
    assert whole(data.train)["target"].tolist() == [0, 1]
    assert whole(data.test)["asked"].tolist() == list(range(1, 33))
    assert data.val is None
    assert whole(read("karate_club", labelled=[5, 2, 30]).train)["asked"].tolist() == [2, 5, 30]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labelled": [0, 34]}, "34 is no member"),
        ({"labelled": [0, 1]}, "one side only"),
        ({"labelled": list(range(34))}, "no node is left for the test"),
        ({"val_fraction": 0.5}, "holds out none"),
        ({"neighbours": [0]}, "below 1"),
        ({"test_links": 0.0}, "not between 0 and 1"),
        ({"links": True, "test_links": 0.999}, "78 links between 34 nodes cannot be divided"),
    ],
    ids=str,
)
def test_karate_clubs_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        read("karate_club", **options)


def test_a_block_model_has_as_many_edges_as_its_probabilities_say():
    data = read("block_model")
    edges = whole(data.train)["edges"].numpy()
    same = (edges[0] // 100) == (edges[1] // 100)
    pairs_inside, pairs_outside = 4 * 100 * 99, 400 * 399 - 4 * 100 * 99
    for count, pairs, probability in ((same.sum(), pairs_inside, 0.1), ((~same).sum(), pairs_outside, 0.01)):
        spread = (2 * pairs * probability * (1 - probability)) ** 0.5  # an undirected edge counts twice
        assert abs(count - pairs * probability) < 4 * spread
    assert edge_set(edges) == edge_set(edges[::-1])
    assert (edges[0] != edges[1]).all()


def test_a_block_model_labels_its_share_of_each_community_and_tests_the_others():
    data = read("block_model", labelled=0.1, val_fraction=0.2)
    assert np.bincount(whole(data.train)["target"]).tolist() == [8] * 4
    assert np.bincount(whole(data.val)["target"]).tolist() == [2] * 4
    assert np.bincount(whole(data.test)["target"]).tolist() == [90] * 4
    asked = [whole(part)["asked"].tolist() for part in (data.train, data.val, data.test)]
    assert sorted(functools.reduce(operator.iadd, asked, [])) == list(range(400))


def test_a_block_model_s_two_seeds_draw_the_graph_and_the_labels_apart():
    first, labels, graph = (read("block_model", **o) for o in ({}, {"subset_seed": 1}, {"graph_seed": 1}))
    same = [torch.equal(whole(first.train)[key], whole(labels.train)[key]) for key in ("edges", "asked")]
    other = [torch.equal(whole(first.train)[key], whole(graph.train)[key]) for key in ("edges", "asked")]
    assert (same, other) == ([True, False], [False, True])
    random = whole(read("block_model", features="random", in_features=5).train)["nodes"]
    assert random.shape == (400, 5)
    assert abs(float(random.mean())) < 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"communities": 1}, "nothing to find"),
        ({"inside": 1.5}, "inside 1.5 is no probability"),
        ({"labelled": 0.001}, "must be one or more"),
        ({"labelled": 1.0}, "not all of them"),
        ({"community_size": 0}, "below 1"),
        ({"community_size": 12_000}, "of 48000 nodes take 9,216,000,000 bytes; set data.features=random"),
    ],
    ids=str,
)
def test_block_models_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        read("block_model", **options)


@pytest.mark.parametrize(("count", "degree"), [(4, 1), (12, 2), (12, 5), (24, 5), (30, 3), (4, 3), (60, 30)])
def test_every_node_of_a_regular_graph_has_the_same_number_of_neighbours(count, degree):
    for seed in range(5):
        edges = regular(np.random.default_rng(seed), count, degree)
        assert len(edge_set(edges)) == edges.shape[1] == count * degree
        assert (np.bincount(edges[0], minlength=count) == degree).all()
        assert edge_set(edges) == edge_set(edges[::-1])
        assert (edges[0] != edges[1]).all()


def test_every_regular_graph_is_equally_probable():
    draws = [regular(np.random.default_rng(seed), 6, 2) for seed in range(2000)]
    found = {}
    for edges in draws:
        found[tuple(map(tuple, edges))] = found.get(tuple(map(tuple, edges)), 0) + 1
    assert len(found) == 70  # 60 rings and 10 pairs of triangles
    expected = 2000 / 70
    assert sum((count - expected) ** 2 / expected for count in found.values()) < 69 + 5 * (2 * 69) ** 0.5
    triangles = sum(count for edges, count in found.items() if _is_two_triangles(edges))
    assert abs(triangles - 2000 / 7) < 5 * (2000 * 6 / 49) ** 0.5


def _is_two_triangles(edges):
    graph = networkx.Graph(list(zip(*edges, strict=True)))
    return networkx.number_connected_components(graph) == 2


def test_degrees_may_be_large():
    data = read("degree_classes", degrees=[2, 30], min_nodes=60, max_nodes=60, samples=8, held_out=8)
    batch = whole(data.test)
    assert set(torch.bincount(batch["edges"][1]).tolist()) == {2, 30}


def test_degree_classes_are_the_degrees_and_nothing_else_tells():
    data = read("degree_classes", samples=64, held_out=64)
    batch = whole(data.test)
    assert (batch["nodes"] == 1).all()
    for number, target in enumerate(batch["target"].tolist()):
        mine = batch["graph"] == number
        degrees = torch.bincount(batch["edges"][1], minlength=len(mine))[mine]
        assert (degrees == int(data.spec.labels[target].removeprefix("degree "))).all()
        assert 12 <= int(mine.sum()) <= 24
    assert set(batch["target"].tolist()) == {0, 1, 2, 3}


def test_drawn_graphs_depend_on_their_own_generator_alone():
    part = read("degree_classes", samples=8, held_out=8).train
    together, alone = part.fetch([1, 2], rngs([1, 2])), part.fetch([2], rngs([2]))
    second = together["graph"] == 1
    offset = int((~second).sum())
    inner = together["edges"][:, second[together["edges"][0]]] - offset
    assert torch.equal(inner, alone["edges"])
    assert not torch.equal(part.fetch([2], rngs([2], epoch=1))["edges"], alone["edges"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"degrees": [3]}, "two or more different"),
        ({"degrees": [3, 3]}, "two or more different"),
        ({"min_nodes": 13}, "must be even"),
        ({"min_nodes": 4}, "min_nodes 4 is too few for 5 neighbours, .* set min_nodes=6 or more"),
        ({"degrees": [2, 30]}, "set min_nodes=32 or more"),
    ],
    ids=str,
)
def test_degree_classes_that_cannot_be_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        read("degree_classes", **options)


def test_graphs_side_by_side_are_not_linked_and_may_be_empty():
    nodes = [torch.ones(2, 1), torch.empty(0, 1), torch.full((3, 1), 2.0), torch.empty(0, 1)]
    edges = [torch.tensor([[0, 1], [1, 0]]), torch.empty(2, 0, dtype=torch.int64), torch.tensor([[2], [0]])]
    batch = side_by_side(nodes, [*edges, edges[1]])
    assert batch["nodes"].flatten().tolist() == [1, 1, 2, 2, 2]
    assert batch["edges"].tolist() == [[0, 1, 4], [1, 0, 2]]
    assert batch["graph"].tolist() == [0, 0, 2, 2, 2]


def test_a_batch_of_graphs_has_those_asked_for_in_their_order():
    part = GraphPart(
        nodes=torch.arange(6.0)[:, None],
        edges=torch.tensor([[0, 1, 0], [1, 0, 1]]),
        first_node=np.array([0, 2, 2, 6]),
        first_edge=np.array([0, 2, 2, 3]),
        target=torch.tensor([5, 6, 7]),
        chosen=np.array([2, 1, 0]),
    )
    batch = part.fetch([0, 1, 2, 0], None)
    assert batch["target"].tolist() == [7, 6, 5, 7]
    assert batch["nodes"].flatten().tolist() == [2, 3, 4, 5, 0, 1, 2, 3, 4, 5]
    assert batch["graph"].tolist() == [0] * 4 + [2] * 2 + [3] * 4
    assert batch["edges"].tolist() == [[0, 4, 5, 6], [1, 5, 4, 7]]


def test_strangers_are_all_pairs_without_an_edge_each_once():
    edges = np.random.default_rng(0).integers(0, 9, (2, 30))
    strangers = Strangers.of(edges, 9)
    found = edge_set(strangers.pairs(np.arange(len(strangers))))
    expected = {(a, b) for a in range(9) for b in range(9) if a != b} - edge_set(edges)
    assert found == expected
    assert len(strangers) == len(expected)


@pytest.mark.parametrize("neighbours", [[], [4, 4]], ids=["whole", "sampled"])
def test_no_link_that_is_asked_for_is_shown_while_training_and_none_held_out_ever(neighbours):
    data = read("block_model", community_size=20, links=True, val_fraction=0.2, test_links=0.2, neighbours=neighbours)
    held_out = edge_set(data.val.links) | edge_set(data.test.links)
    held_out |= {(b, a) for a, b in held_out}
    all_edges = edge_set(whole(read("block_model", community_size=20).train)["edges"])
    for part, generators in ((data.train, rngs(range(15))), (data.val, None), (data.test, None)):
        indices = range(15)
        batch = part.fetch(indices, generators)
        number = {tuple(row.tolist()): i for i, row in enumerate(torch.eye(80))}
        nodes = torch.tensor([number[tuple(row.tolist())] for row in batch["nodes"]])
        shown, pairs = edge_set(nodes[batch["edges"]]), nodes[batch["pairs"]]
        assert shown
        assert shown <= all_edges - held_out
        assert edge_set(pairs[:, :15]) == {tuple(part.links[:, i].tolist()) for i in indices}
        assert not edge_set(pairs[:, 15:]) & all_edges
        assert (pairs[0] != pairs[1]).all()
        assert batch["target"].tolist() == [1] * 15 + [0] * 15
        if generators is not None:
            assert not shown & (edge_set(pairs) | edge_set(pairs.flip(0)))


def test_links_are_divided_without_overlap():
    data = read("block_model", links=True, val_fraction=0.1, test_links=0.2)
    parts = [edge_set(part.links) for part in (data.train, data.val, data.test)]
    edges = edge_set(whole(read("block_model").train)["edges"])
    assert set.union(*parts) == {(a, b) for a, b in edges if a < b}
    assert sum(map(len, parts)) == len(edges) // 2
    assert [len(part) / len(edges) * 2 for part in parts] == pytest.approx([0.7, 0.1, 0.2], abs=0.001)


def test_strangers_of_a_sample_depend_on_its_own_generator_and_are_fixed_in_evaluation():
    data = read("block_model", links=True)
    together, alone = data.train.fetch([3, 7], rngs([3, 7])), data.train.fetch([7], rngs([7]))
    assert torch.equal(together["pairs"][:, 3], alone["pairs"][:, 1])
    assert not torch.equal(data.train.fetch([7], rngs([7], epoch=1))["pairs"], alone["pairs"])
    first, again = data.test.fetch([3, 7], None), data.test.fetch([7], None)
    assert torch.equal(first["pairs"][:, 3], again["pairs"][:, 1])
    other = read("block_model", links=True, subset_seed=1).test.fetch([3, 7], None)
    assert not torch.equal(other["pairs"], first["pairs"])


@pytest.mark.parametrize("name", ["karate_club", "block_model", "degree_classes"])
def test_a_batch_has_the_keys_of_the_spec(name):
    for options in ({},) if name == "degree_classes" else ({}, {"links": True}, {"neighbours": [3]}):
        data = read(name, **options)
        batch = data.train.fetch([0, 1], rngs([0, 1]))
        assert set(batch) == set(data.spec.keys)
        assert batch["nodes"].shape[1] == data.spec.in_features
        assert batch["edges"].dtype == torch.int64
    assert name in DATA_SETS.records()
