"""Neighbour sampling: what a piece of a graph holds, and that nothing else changes."""

import numpy as np
import pytest
import torch
from samples import read, rngs
from small_graphs import Layers, accumulated_gradient, graph_trainer, objective_for
from test_resume import Crash, crash_at, final

import zoo
from zoo.training.data import Spec
from zoo.training.data.neighbours import Incoming, _different
from zoo.training.objectives.graphs import check_sampling

MANY = 10_000


def random_edges(num_nodes=60, count=400, seed=0):
    edges = np.random.default_rng(seed).integers(0, num_nodes, (2, count))
    return np.unique(edges, axis=1)


def degrees(edges, num_nodes):
    return np.bincount(edges[1], minlength=num_nodes)


def test_incoming_edges_are_found_by_the_node_that_they_enter():
    edges = random_edges()
    incoming = Incoming.of(edges, 60)
    for node in range(60):
        found = incoming.source[incoming.start[node] : incoming.start[node + 1]]
        assert sorted(found) == sorted(edges[0][edges[1] == node])


@pytest.mark.parametrize("training", [True, False])
def test_a_piece_has_edges_of_the_graph_only_and_no_edge_twice(training):
    edges = random_edges()
    asked = np.array([5, 7, 5, 59])
    piece = Incoming.of(edges, 60).around(asked, [3, 2], rngs(range(4)) if training else None)
    assert (piece.nodes[piece.asked] == asked).all()
    real = set(map(tuple, edges.T))
    assert all(tuple(edge) in real for edge in piece.nodes[piece.edges].T)
    assert len(np.unique(piece.edges, axis=1).T) == piece.edges.shape[1] > 0


def test_no_node_gets_more_edges_than_the_limit_of_its_hop_and_as_many_as_there_are_below_it():
    edges = random_edges()
    asked = np.arange(60)
    piece = Incoming.of(edges, 60).around(asked, [3, 2], rngs(range(60)))
    whole, taken = degrees(edges, 60), degrees(piece.edges, len(piece.nodes))
    assert (taken[piece.asked] == np.minimum(whole, 3)).all()
    others = np.setdiff1d(np.arange(len(piece.nodes)), piece.asked)
    assert taken[others].max() == 2
    assert all(taken[i] in (0, min(2, whole[piece.nodes[i]])) for i in others)


def test_every_edge_that_enters_a_node_is_equally_probable():
    star = np.stack([np.arange(1, 8), np.zeros(7, np.int64)])
    piece = Incoming.of(star, 8).around(np.zeros(6000, np.int64), [3], rngs(range(6000)))
    counts = np.bincount(piece.nodes[piece.edges[0]], minlength=8)[1:]
    assert counts.sum() == 18_000
    assert np.abs(counts / 6000 - 3 / 7).max() < 0.03  # five standard deviations


def test_numbers_are_different_and_every_set_of_them_comes():
    draws = np.random.default_rng(0).random((5000, 3))
    chosen = np.sort(_different(draws, np.full(5000, 5)), axis=1)
    assert (np.diff(chosen, axis=1) > 0).all()
    sets, counts = np.unique(chosen, axis=0, return_counts=True)
    assert len(sets) == 10
    assert np.abs(counts - 500).max() < 110  # five standard deviations


def test_a_node_without_incoming_edges_is_a_piece_of_its_own():
    edges = np.array([[0], [1]])
    for training in (True, False):
        piece = Incoming.of(edges, 3).around(np.array([2, 0]), [4, 4], rngs(range(2)) if training else None)
        assert piece.edges.shape == (2, 0)
        assert piece.nodes[piece.asked].tolist() == [2, 0]


def test_a_sample_s_piece_depends_on_its_own_generator_alone():
    edges = random_edges()
    incoming, asked, generators = Incoming.of(edges, 60), np.array([4, 9, 4]), rngs([11, 12, 13])
    together = incoming.around(asked, [3, 3], generators)
    for place, sample in enumerate([11, 12, 13]):
        alone = incoming.around(asked[[place]], [3, 3], rngs([sample]))
        nodes = together.nodes
        own = np.flatnonzero(np.isin(np.arange(len(nodes)), _reached(together.edges, together.asked[place])))
        found = {tuple(edge) for edge in nodes[together.edges[:, np.isin(together.edges[1], own)]].T}
        assert found == {tuple(edge) for edge in alone.nodes[alone.edges].T}
    other = incoming.around(asked, [3, 3], rngs([11, 12, 14]))
    assert not np.array_equal(other.nodes[other.edges], together.nodes[together.edges])


class MadeWhenAskedFor:
    """As the loader gives generators: each look-up makes it anew."""

    def __len__(self):
        return 5

    def __getitem__(self, row):
        return rngs([row])[0]


def test_a_generator_goes_on_from_hop_to_hop():
    incoming, asked = Incoming.of(random_edges(), 60), np.arange(5)
    kept, made = (incoming.around(asked, [3, 3], generators) for generators in (rngs(range(5)), MadeWhenAskedFor()))
    assert np.array_equal(kept.nodes, made.nodes)
    assert np.array_equal(kept.edges, made.edges)


def _reached(edges, node):
    """The nodes from which a path leads to `node`."""
    found = {int(node)}
    while True:
        more = {int(a) for a, b in edges.T if int(b) in found} | found
        if more == found:
            return sorted(found)
        found = more


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("training", [True, False])
def test_enough_neighbours_are_the_whole_graph(depth, training):
    whole = read("block_model", community_size=20, labelled=0.5)
    sampled = read("block_model", community_size=20, labelled=0.5, neighbours=[MANY] * depth)
    model = Layers(80, 4, depth)
    indices = [3, 1, 4, 1, 5]
    batches = [data.train.fetch(indices, rngs(indices) if training else None) for data in (whole, sampled)]
    first, second = (model(batch["nodes"], batch["edges"])[batch["asked"]] for batch in batches)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    assert torch.equal(batches[0]["target"], batches[1]["target"])


def test_one_hop_less_is_not_the_whole_graph():
    whole, sampled = (read("block_model", labelled=0.5, neighbours=n) for n in ([], [MANY]))
    model = Layers(400, 4, depth=2)
    first, second = (
        model(batch["nodes"], batch["edges"])[batch["asked"]]
        for batch in (data.train.fetch([0, 1], None) for data in (whole, sampled))
    )
    assert (first - second).abs().max() > 1e-3


def test_evaluation_takes_all_neighbours_and_so_gives_the_whole_graph_s_metrics():
    whole, sampled = (read("block_model", neighbours=n) for n in ([], [2, 2]))
    first, second = (graph_trainer(data, batch_size=37).evaluate() for data in (whole, sampled))
    assert first == pytest.approx(second, rel=1e-5)


def test_a_batch_s_gradient_is_the_sum_of_its_samples_also_when_neighbours_are_sampled():
    data = read("block_model", labelled=0.5, neighbours=[3, 2])
    model, objective = Layers(400, 4), objective_for(data.spec)
    samples = [(0, 3), (0, 50), (0, 7), (1, 3), (0, 8), (0, 9)]
    one = accumulated_gradient(data.train, objective, model, [samples])
    cut = accumulated_gradient(data.train, objective, model, [samples[:1], samples[1:4], samples[4:]])
    torch.testing.assert_close(one, cut, rtol=1e-5, atol=1e-6)
    other = accumulated_gradient(data.train, objective, model, [[(epoch + 1, i) for epoch, i in samples]])
    assert (one - other).abs().max() > 1e-4


@pytest.mark.parametrize("mix", ["sum", "gcn"])
def test_a_model_that_counts_neighbours_is_refused(mix):
    data = read("block_model", neighbours=[5, 5])
    with pytest.raises(ValueError, match=r"tells 4 neighbours from 8 .*set data.neighbours=\[\]"):
        graph_trainer(data, Layers(400, 4, mix=mix)).fit()
    whole = read("block_model")
    assert graph_trainer(whole, Layers(400, 4, mix=mix), steps=1).fit().steps == 1


def test_a_model_that_looks_further_than_the_hops_is_refused():
    data = read("block_model", neighbours=[5, 5])
    with pytest.raises(ValueError, match="looks further than the 2 hops"):
        graph_trainer(data, Layers(400, 4, depth=3)).fit()
    for depth in (1, 2):
        check_sampling(Layers(400, 4, depth=depth), data.spec)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_a_sum_is_refused_whatever_weights_were_drawn(depth):
    for seed in range(40):
        torch.manual_seed(seed)
        model = zoo.create("gin", in_features=5, dim=8, depth=depth, num_classes=3)
        hops = 1 + seed % depth
        with pytest.raises(ValueError, match="tells 4 neighbours from 8"):
            check_sampling(model, Spec(keys=(), in_features=5, neighbours=(5,) * hops))


@pytest.mark.parametrize(
    ("name", "depth", "config"),
    [
        ("gat", 10, {}),
        ("graphsage", 8, {"aggregation": "max"}),
        ("graphsage", 10, {"normalize": True}),
        ("graphsage", 2, {"aggregation": "mean"}),
    ],
    ids=str,
)
def test_a_hop_too_few_is_refused_at_any_depth_and_enough_are_not(name, depth, config):
    for seed in range(5):
        torch.manual_seed(seed)
        model = zoo.create(name, in_features=16, depth=depth, num_classes=3, **config)
        check_sampling(model, Spec(keys=(), in_features=16, neighbours=(5,) * depth))
        with pytest.raises(ValueError, match=f"looks further than the {depth - 1} hops"):
            check_sampling(model, Spec(keys=(), in_features=16, neighbours=(5,) * (depth - 1)))


def test_a_gcn_is_refused_for_its_degrees():
    with pytest.raises(ValueError, match="tells 4 neighbours from 8"):
        check_sampling(zoo.create("gcn", in_features=16, num_classes=3), Spec(keys=(), in_features=16, neighbours=(5,)))


def test_trying_a_model_out_leaves_it_as_it_was():
    data = read("block_model", neighbours=[5, 5])
    model = Layers(400, 4, dropout=0.5)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_sampling(model, data.spec)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(("options", "step"), [({}, 5), ({"links": True}, 7)], ids=["nodes", "links"])
def test_a_resumed_run_with_sampled_neighbours_is_the_run_that_never_stopped(tmp_path, options, step):
    data = read("block_model", community_size=20, labelled=0.5, neighbours=[3, 2], **options)
    given = {"steps": 13, "checkpoint_every": 1, "ema": 0.9}

    def run(name, workers=0):
        width = data.spec.num_classes or 6
        model = Layers(80, width, dropout=0.3)
        return graph_trainer(data, model, tmp_path / name, batch_size=6, workers=workers, **given)

    run("whole").fit()
    with pytest.raises(Crash):
        crash_at(run("cut", workers=2), step).fit()
    run("cut").fit(resume=True)
    whole, cut = final(tmp_path / "whole"), final(tmp_path / "cut")
    assert {name for name in whole if not torch.equal(whole[name], cut[name])} == set()
