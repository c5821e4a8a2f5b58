"""Each graph network beside its equations, written with dense matrices or loops."""

import pytest
import torch
import torch.nn.functional as F
from laws import perturbed

import zoo
from zoo.architectures.gat import softmax
from zoo.registry import ARCHITECTURES


def network(name, **options):
    """One in eval mode, in double precision, with nothing in it zero."""
    sizes = {"in_features": 5, "dim": 8, "depth": 2, "num_classes": 3, "readout": None}
    return perturbed(ARCHITECTURES.records()[name], zoo.config(name, **{**sizes, **options})).double()


@pytest.fixture
def graph():
    """Nodes, edges without loops, the last node without edges, and the matrix whose rows are targets."""
    nodes = torch.randn(6, 5, dtype=torch.float64)
    edges = torch.tensor([[0, 1, 2, 2, 3, 4, 4], [1, 0, 0, 4, 1, 3, 3]])
    adjacency = torch.zeros(6, 6, dtype=torch.float64)
    for source, target in edges.T.tolist():
        adjacency[target, source] += 1
    return nodes, edges, adjacency


@torch.no_grad()
def test_gcn_is_its_equation(graph):
    nodes, edges, adjacency = graph
    model = network("gcn")
    looped = adjacency + torch.eye(6)
    scale = looped.sum(1).rsqrt().diag()
    mixing = scale @ looped @ scale
    first, last = model.blocks[0].proj, model.head.proj
    hidden = F.relu(mixing @ nodes @ first.weight.T + first.bias)
    torch.testing.assert_close(model(nodes, edges), mixing @ hidden @ last.weight.T + last.bias)


@torch.no_grad()
def test_gat_is_its_equations(graph):
    nodes, edges, adjacency = graph
    model = network("gat", num_heads=2, head_heads=4, negative_slope=0.1)

    def heads(layer, x):
        rows = []
        for node in range(6):
            around = [node] + [int(s) for s, count in enumerate(adjacency[node]) for _ in range(int(count))]
            row = []
            for head in range(layer.num_heads):
                width = layer.source.shape[1]
                w = layer.proj.weight[head * width : (head + 1) * width]
                score = [
                    F.leaky_relu(layer.target[head] @ w @ x[node] + layer.source[head] @ w @ x[j], 0.1) for j in around
                ]
                weights = torch.stack(score).softmax(0)
                row.append(sum(weight * (w @ x[j]) for weight, j in zip(weights, around, strict=True)))
            rows.append(torch.stack(row))
        return torch.stack(rows)  # (num_nodes, heads, dim)

    hidden = F.elu(heads(model.blocks[0].attn, nodes).flatten(1) + model.blocks[0].bias)
    expected = heads(model.head.attn, hidden).mean(1) + model.head.bias
    torch.testing.assert_close(model(nodes, edges), expected)


@torch.no_grad()
@pytest.mark.parametrize("mlp_depth", [1, 2, 3])
def test_gin_is_its_equation(graph, mlp_depth):
    nodes, edges, adjacency = graph
    model = network("gin", norm=None, eps=0.25, mlp_depth=mlp_depth)

    def convolution(layer, x):
        x = (adjacency + 1.25 * torch.eye(6)) @ x
        linears = [module for module in layer.modules() if isinstance(module, torch.nn.Linear)]
        assert len(linears) == mlp_depth
        for linear in linears[:-1]:
            x = F.relu(linear(x))
        return linears[-1](x)

    expected = convolution(model.head, F.relu(convolution(model.blocks[0].conv, nodes)))
    torch.testing.assert_close(model(nodes, edges), expected)


@torch.no_grad()
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("aggregation", ["mean", "max", "pool"])
def test_graphsage_is_its_algorithm(graph, aggregation, normalize):
    nodes, edges, adjacency = graph
    model = network("graphsage", aggregation=aggregation, normalize=normalize)

    def convolution(layer, x):
        sent = F.relu(layer.pool(x)) if aggregation == "pool" else x
        rows = []
        for node in range(6):
            around = [sent[int(s)] for s, count in enumerate(adjacency[node]) for _ in range(int(count))]
            together = torch.stack(around) if around else torch.zeros(1, x.shape[1], dtype=x.dtype)
            taken = together.mean(0) if aggregation == "mean" else together.amax(0)
            row = layer.proj(taken) + layer.shortcut(x[node])
            rows.append(row / row.norm() if normalize else row)
        return torch.stack(rows)

    expected = convolution(model.head, F.relu(convolution(model.blocks[0], nodes)))
    torch.testing.assert_close(model(nodes, edges), expected)


def test_weights_of_attention_add_up_to_one_and_loops_among_the_edges_have_none():
    edges = torch.tensor([[0, 1, 1, 2], [1, 1, 2, 1]])
    scores, own = torch.randn(4, 3), torch.randn(3, 3)
    weights, mine = softmax(scores, own, edges)
    assert not weights[1].any()
    torch.testing.assert_close(mine.index_add(0, edges[1], weights), torch.ones(3, 3))
    assert (mine[0] == 1).all()


def test_scores_of_any_size_have_weights_and_gradients():
    edges = torch.tensor([[0, 1], [1, 0]])
    scores = torch.tensor([[300.0, -300.0], [1e4, -1e4]], requires_grad=True)
    weights, own = softmax(scores, torch.zeros(2, 2), edges)
    assert weights.tolist() == [[1, 0], [1, 0]]
    assert own.tolist() == [[0, 1], [0, 1]]
    weights.sum().backward()
    assert scores.grad.isfinite().all()


def test_attention_may_have_its_own_dropout(graph):
    nodes, edges, _ = graph
    model = network("gat", num_heads=2, attn_dropout=0.5, dropout=0.0).train()
    assert not torch.equal(model(nodes, edges), model(nodes, edges))
    assert torch.equal(model.eval()(nodes, edges), model(nodes, edges))
    still = network("gat", num_heads=2, attn_dropout=0.0, dropout=0.0).train()
    assert torch.equal(still(nodes, edges), still(nodes, edges))


@pytest.mark.parametrize(
    ("name", "before_the_first"), [("gcn", True), ("gat", True), ("gin", False), ("graphsage", False)]
)
def test_dropout_is_where_the_file_says(name, before_the_first, graph):
    """Before every layer, the features' included, or only between layers."""
    nodes, edges, _ = graph
    rates = {"attn_dropout": 0.0} if name == "gat" else {}
    model = network(name, depth=1, dropout=0.5, **rates).train()
    first, second = model(nodes, edges), model(nodes, edges)
    assert torch.equal(first, second) is not before_the_first
    deep = network(name, depth=2, dropout=0.5, **rates).train()
    assert not torch.equal(deep(nodes, edges), deep(nodes, edges))


def test_eps_is_what_the_config_says_and_learnt_if_it_says_so(graph):
    nodes, edges, _ = graph
    fixed, learnt = zoo.create("gin", in_features=5, eps=0.5), zoo.create("gin", in_features=5, eps=0.5, learn_eps=True)
    for model in (fixed, learnt):
        assert {value.item() for name, value in model.state_dict().items() if name.endswith("eps")} == {0.5}
    count = [sum(p.numel() for p in model.parameters()) for model in (fixed, learnt)]
    assert count[1] - count[0] == fixed.config.depth
    learnt(nodes.float(), edges).square().sum().backward()
    assert learnt.blocks[0].conv.eps.grad.item()


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("gat", {"num_heads": 3}, "dim 64 is not divisible by num_heads 3"),
        ("gat", {"head_heads": 0}, "head_heads 0 is below 1"),
        ("gat", {"attn_dropout": 1.0}, "attn_dropout 1.0 is not in"),
        ("gin", {"mlp_depth": 0}, "mlp_depth 0 is below 1"),
    ],
)
def test_options_that_leave_nothing_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        zoo.config(name, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"edges": torch.zeros(2, 4, dtype=torch.int32)}, r"edges.long\(\) converts them"),
        ({"edges": torch.zeros(4, 2, dtype=torch.int64)}, "edges.T has the right shape"),
        ({"num_graphs": -1}, "num_graphs -1 must be a whole number, 0 or more"),
        ({"num_graphs": 2.0}, "num_graphs 2.0 must be a whole number"),
        ({"num_graphs": torch.tensor(2)}, r"num_graphs tensor\(2\) must be a whole number"),
    ],
    ids=str,
)
@pytest.mark.parametrize("readout", ["sum", "mean", "max"])
def test_arguments_that_are_no_graphs_come_with_a_remedy(change, message, readout):
    model = zoo.create("gin", in_features=3, num_classes=2, readout=readout)
    given = {"edges": torch.zeros(2, 4, dtype=torch.int64), "graph": torch.tensor([0, 0, 1]), "num_graphs": 2}
    with pytest.raises(ValueError, match=message):
        model(torch.ones(3, 3), **{**given, **change})
