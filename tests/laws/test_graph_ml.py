"""Laws of graph networks: nodes and edges in, logits of nodes or of whole graphs out."""

import dataclasses
import re

import pytest
import torch

from laws import architectures, differ, each, perturbed, run

MODELS = architectures("graph-ml")
each_model = each(MODELS)
each_readout = pytest.mark.parametrize("readout", ["sum", "mean", "max"])


def small(architecture, **options):
    """The tiny model in eval mode, with other options, and nothing in it zero."""
    return perturbed(architecture, dataclasses.replace(architecture.tiny, **options))


def batch(sizes, in_features=5, seed=0):
    """Graphs of these sizes one by one, and side by side: lists of nodes and edges, and the whole."""
    generator = torch.Generator().manual_seed(seed)
    nodes = [torch.randn(size, in_features, generator=generator) for size in sizes]
    edges = [torch.randint(max(size, 1), (2, 3 * size), generator=generator) for size in sizes]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    graph = torch.cat([torch.full((size,), i) for i, size in enumerate(sizes)])
    whole = torch.cat([e + start for e, start in zip(edges, starts, strict=True)], 1)
    return nodes, edges, (torch.cat(nodes), whole, graph)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@each_model
@torch.no_grad()
def test_nodes_keep_their_answers_under_other_numbers(architecture):
    model = small(architecture)
    _, _, (nodes, edges, _) = batch([9, 12])
    order = torch.randperm(21)
    found = model(nodes[order], order.argsort()[edges])
    close(found, model(nodes, edges)[order])
    assert differ(found, model(nodes, edges)), "the order does something to begin with"


@each_model
@torch.no_grad()
def test_the_order_of_edges_says_nothing(architecture):
    model = small(architecture)
    _, _, (nodes, edges, _) = batch([9, 12])
    close(model(nodes, edges[:, torch.randperm(edges.shape[1])]), model(nodes, edges))


@each_model
@each_readout
@torch.no_grad()
def test_a_graph_s_answer_does_not_depend_on_the_order_of_nodes_and_edges(architecture, readout):
    model = small(architecture, readout=readout)
    _, _, (nodes, edges, graph) = batch([9, 12])
    order, others = torch.randperm(21), torch.randperm(edges.shape[1])
    found = model(nodes[order], order.argsort()[edges[:, others]], graph[order])
    close(found, model(nodes, edges, graph))


@each_model
@torch.no_grad()
def test_messages_flow_from_source_to_target_alone(architecture):
    model = small(architecture, depth=2)
    nodes, edges = torch.randn(4, 5), torch.tensor([[0, 1], [1, 2]])
    before = model(nodes, edges)
    nodes[0] += 1
    moved = [differ(*pair) for pair in zip(model(nodes, edges), before, strict=True)]
    assert moved == [True, True, True, False], "two layers carry it two edges far, and not to the lonely node"
    moved = [differ(*pair) for pair in zip(model(nodes, edges.flip(0)), before, strict=True)]
    assert moved[2], "the other direction is another graph"
    first = model(nodes, edges.flip(0))
    nodes[0] -= 1
    moved = [differ(*pair) for pair in zip(model(nodes, edges.flip(0)), first, strict=True)]
    assert moved == [True, False, False, False]


@each_model
@torch.no_grad()
def test_layers_carry_a_message_an_edge_each(architecture):
    for depth in (1, 2, 3):
        model = small(architecture, depth=depth)
        nodes = torch.randn(6, 5)
        path = torch.stack((torch.arange(5), torch.arange(1, 6)))
        before = model(nodes, path)
        nodes[0] += 1
        moved = [differ(*pair) for pair in zip(model(nodes, path), before, strict=True)]
        assert moved == [True] * (depth + 1) + [False] * (5 - depth)


@each_model
@torch.no_grad()
def test_a_node_without_edges_is_answered_as_if_alone(architecture):
    model = small(architecture)
    _, _, (nodes, edges, _) = batch([9])
    lonely = torch.randn(1, 5)
    found = model(torch.cat([nodes, lonely]), edges)
    close(found[:9], model(nodes, edges))
    close(found[9:], model(lonely, edges[:, :0]))
    assert found.isfinite().all()


@each_model
@pytest.mark.parametrize("size", [0, 1, 4])
def test_graphs_without_edges_have_answers_and_gradients(architecture, size):
    model = small(architecture)
    nodes = torch.randn(size, 5, requires_grad=True)
    logits = model(nodes, torch.zeros(2, 0, dtype=torch.int64))
    assert logits.shape == (size, 3)
    logits.sum().backward()
    assert nodes.grad.isfinite().all()


@each_model
@each_readout
@torch.no_grad()
def test_a_batch_answers_as_its_graphs_do_one_by_one(architecture, readout):
    model = small(architecture, readout=readout)
    nodes, edges, whole = batch([4, 1, 9, 6])
    found = model(*whole)
    assert found.shape == (4, 3)
    for row, *one in zip(found, nodes, edges, strict=True):
        close(row[None], model(*one, torch.zeros(len(one[0]), dtype=torch.int64)))


@each_model
@each_readout
@torch.no_grad()
def test_a_graph_without_nodes_has_zeros_in_the_middle_and_at_the_end(architecture, readout):
    model = small(architecture, readout=readout)
    nodes, edges, whole = batch([4, 0, 9, 0, 0])
    assert model(*whole).shape == (3, 3), "nothing says that there are more"
    found = model(*whole, 5)
    assert found.shape == (5, 3)
    assert not found[[1, 3, 4]].any()
    for i in (0, 2):
        close(found[i : i + 1], model(nodes[i], edges[i], torch.zeros(len(nodes[i]), dtype=torch.int64)))


@each_model
@torch.no_grad()
def test_a_graph_is_not_read_without_a_readout_nor_a_readout_without_a_graph(architecture):
    model, other = small(architecture), small(architecture, readout="mean")
    other.load_state_dict(model.state_dict())
    _, _, (nodes, edges, graph) = batch([4, 9])
    assert torch.equal(model(nodes, edges, graph), model(nodes, edges))
    assert torch.equal(other(nodes, edges), model(nodes, edges))
    close(other(nodes, edges, graph)[0], model(nodes, edges)[:4].mean(0))


@each_model
@each_readout
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_gradients_are_finite_with_lonely_nodes_loops_and_empty_graphs(architecture, readout, training):
    model = small(architecture, readout=readout).train(training)
    nodes = torch.randn(8, 5, requires_grad=True)
    edges = torch.tensor([[0, 0, 1, 2, 3, 3, 7], [1, 1, 1, 0, 2, 3, 7]])
    model(nodes, edges, torch.tensor([0, 0, 0, 0, 2, 2, 2, 2]), 4).square().sum().backward()
    assert nodes.grad.isfinite().all()
    assert nodes.grad.any()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@each_model
def test_gradients_are_those_of_differences(architecture):
    model = small(architecture).double()
    _, _, (nodes, edges, _) = batch([5])
    nodes = nodes.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: model(x, edges), nodes, atol=1e-6)


@each_model
@torch.no_grad()
def test_without_classes_nodes_are_what_the_head_would_read(architecture):
    model, body = small(architecture), small(architecture, num_classes=0)
    _, _, (nodes, edges, graph) = batch([4, 9])
    body.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("head")})
    read = []
    model.head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    model(nodes, edges)
    assert torch.equal(body(nodes, edges), read[0])
    assert body(nodes, edges).shape == (13, architecture.tiny.dim)
    pooled = small(architecture, num_classes=0, readout="mean")
    assert pooled(nodes, edges, graph).shape == (2, architecture.tiny.dim)


@each_model
@torch.no_grad()
@pytest.mark.parametrize("mode", ["compile", "export"])
def test_a_graph_network_with_a_readout_is_one_graph_where_their_number_is_given(architecture, mode):
    model = small(architecture, readout="mean")
    _, _, whole = batch([4, 9])
    torch.compiler.reset()
    if mode == "compile":
        traced = torch.compile(model, fullgraph=True, backend="aot_eager")
    else:
        traced = torch.export.export(model, (*whole, 3)).module()
    close(traced(*whole, 3), model(*whole, 3))


WRONG = {
    "nodes must be a tensor (num_nodes, 5), got list": ([[1.0] * 5], [[0], [0]]),
    "nodes must be a tensor (num_nodes, 5), got (5,) of torch.float32": (torch.randn(5), [[0], [0]]),
    "nodes must be (num_nodes, 5), got 6 features; create the model with in_features=6": (
        torch.randn(3, 6), [[0], [0]],
    ),
    "nodes must be floating-point, got torch.int64; nodes.float() converts them": (
        torch.ones(3, 5, dtype=torch.int64), [[0], [0]],
    ),
    "nodes must have the dtype of the weights, torch.float32, got torch.float64; nodes.to(torch.float32) gives it": (
        torch.randn(3, 5).double(), [[0], [0]],
    ),
    "source first, got (3, 2) of torch.int64; edges.T has the right shape": (torch.randn(3, 5), [[0, 1]] * 3),
    "source first, got (2, 1) of torch.float32": (torch.randn(3, 5), [[0.0], [1.0]]),
    "edges holds 3, but there are 3 nodes, counted from 0": (torch.randn(3, 5), [[0, 1], [3, 2]]),
    "edges holds -1, but nodes are counted from 0; remove what was padded": (torch.randn(3, 5), [[0, -1], [2, -1]]),
    "edges holds 0, but there are 0 nodes": (torch.randn(0, 5), [[0], [0]]),
}  # fmt: skip


@each_model
@pytest.mark.parametrize("message", WRONG)
def test_what_is_no_graph_is_refused(architecture, message):
    nodes, edges = WRONG[message]
    with pytest.raises(ValueError, match=re.escape(message)):
        small(architecture)(nodes, torch.tensor(edges))


@each_model
@pytest.mark.parametrize(
    ("graph", "num_graphs", "message"),
    [
        ([0, 1], None, r"graph must be a tensor \(3,\) of int64, the graph of each node, got \(2,\)"),
        ([0.0, 0.0, 1.0], None, "got .* of torch.float32; for a single graph"),
        ([0, 2, 1], 2, "graph holds 2, but there are 2 graphs, counted from 0; give num_graphs=3"),
        ([0, -1, 1], None, "graph holds -1, but graphs are counted from 0"),
    ],
)
def test_what_is_no_map_from_nodes_to_graphs_is_refused(architecture, graph, num_graphs, message):
    with pytest.raises(ValueError, match=message):
        small(architecture, readout="sum")(torch.randn(3, 5), torch.tensor([[0], [1]]), torch.tensor(graph), num_graphs)


@each_model
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_features": 0}, "in_features 0 is below 1"),
        ({"depth": 0}, "depth 0 is below 1"),
        ({"num_classes": -1}, "num_classes -1 is negative; 0 leaves the head out"),
        ({"depth": 1, "num_classes": 0}, "depth 1 and num_classes 0 leave no layer"),
        ({"dropout": 1.0}, "dropout 1.0 is not in"),
    ],
)
def test_sizes_that_leave_nothing_are_refused(architecture, options, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(architecture.tiny, **options)


@each_model
def test_examples_are_graphs_of_equal_size_side_by_side(architecture):
    model = small(architecture)
    inputs = model.example_inputs(3)
    assert set(inputs) == {"nodes", "edges"}
    size = len(inputs["nodes"]) // 3
    assert len(inputs["nodes"]) == 3 * size
    assert torch.equal(inputs["edges"][0] // size, inputs["edges"][1] // size), "no edge leaves its graph"
    assert set((inputs["edges"] // size).flatten().tolist()) == {0, 1, 2}
    assert run(model, inputs)[0].shape == (3 * size, 3)


def test_there_are_graph_networks():
    assert {record.name for record in MODELS} >= {"gcn", "gat", "gin", "graphsage"}
