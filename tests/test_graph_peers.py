"""Our graph networks with torch_geometric's weights give its outputs and gradients, and write its names and bits."""

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from comparison import largest_difference, perturbed
from peer_libraries import imported
from safetensors.torch import load_file, save_file

import zoo
from zoo.convert import foreign_tensors

pytestmark = pytest.mark.peers


@dataclass(frozen=True)
class Peer:
    """A model of torch_geometric, and the options of ours that make it the same network."""

    name: str
    ours: dict[str, Any] = field(default_factory=dict)
    theirs: dict[str, Any] = field(default_factory=dict)
    depth: int = 3

    @property
    def id(self):
        return "-".join([self.name, *(f"{key}={value}" for key, value in self.ours.items()), str(self.depth)])

    def build(self):
        models = imported("torch_geometric.nn.models")
        act = "elu" if self.name == "GAT" else "relu"
        return getattr(models, self.name)(6, 8, self.depth, 3, act=act, **self.theirs).eval()

    def options(self):
        return {"in_features": 6, "dim": 8, "depth": self.depth, "num_classes": 3, "readout": None, **self.ours}


PEERS = [
    Peer("GCN"),
    Peer("GCN", depth=1),
    Peer("GAT", {"num_heads": 4, "head_heads": 4}, {"heads": 4}),
    Peer("GAT", {"num_heads": 1, "head_heads": 1, "negative_slope": 0.5}, {"heads": 1, "negative_slope": 0.5}, 2),
    Peer("GIN", {"norm": None}),
    Peer("GIN", {}, {"norm": "batch_norm"}),
    Peer("GIN", {"norm": None, "learn_eps": True}, {"train_eps": True}, 2),
    Peer("GraphSAGE"),
    Peer("GraphSAGE", {"normalize": True}, {"normalize": True}),
    Peer("GraphSAGE", {"aggregation": "max"}, {"aggr": "max"}),
    Peer("GraphSAGE", {"aggregation": "pool"}, {"aggr": "max", "project": True}, 2),
]
each_peer = pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.id)


def graphs():
    """Random graphs, of which the first has loops, one of them twice, edges that are there twice, and lonely nodes."""
    generator = torch.Generator().manual_seed(0)
    busy = (40 * torch.rand(2, 160, generator=generator) ** 2).long()  # the first nodes have most of the edges
    odd = torch.tensor([[3, 3, 7, 5, 5, 39], [3, 3, 7, 6, 6, 39]])
    yield torch.randn(44, 6, generator=generator), torch.cat([busy, busy[:, :9], odd], 1)
    yield torch.randn(5, 6, generator=generator), torch.tensor([[0, 1, 2, 3, 4], [1, 2, 3, 4, 0]])
    yield torch.randn(4, 6, generator=generator), torch.zeros(2, 0, dtype=torch.int64)


@torch.no_grad()
def matched(peer, folder):
    """The peer with weights in which nothing is zero or one, and ours loaded from its file."""
    torch.manual_seed(0)
    theirs = peer.build()
    for name, tensor in theirs.state_dict().items():
        if tensor.is_floating_point():  # also an eps that is not learnt, and statistics
            noise = torch.rand_like(tensor) if name.endswith("var") else torch.randn_like(tensor)
            tensor += 0.3 * noise
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    save_file(state, folder / "in.safetensors")
    ours = zoo.create(peer.name.lower(), weights=folder / "in.safetensors", **peer.options()).eval()
    assert ours.load_report.format == "torch_geometric"
    assert not ours.load_report.ignored
    return theirs, ours, state


@each_peer
def test_outputs_are_the_peer_s(peer, tmp_path):
    theirs, ours, _ = matched(peer, tmp_path)
    with torch.no_grad():
        for nodes, edges in graphs():
            assert largest_difference(ours(nodes, edges), theirs(nodes, edges)) < 2e-5


@each_peer
def test_gradients_are_the_peer_s(peer, tmp_path):
    theirs, ours, _ = matched(peer, tmp_path)
    nodes, edges = next(graphs())
    reached = []
    for model in (ours, theirs):
        inputs = nodes.clone().requires_grad_()
        output = model(inputs, edges)
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
        reached.append(inputs.grad)
    assert largest_difference(*reached) < 1e-4
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(parameter.grad)  # so that they travel the way of the weights
        found = foreign_tensors(ours, "torch_geometric")
        expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
        error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
        norm = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
    assert error / norm < 1e-4


@each_peer
def test_export_returns_the_same_keys_and_bits(peer, tmp_path):
    _, ours, state = matched(peer, tmp_path)
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="torch_geometric"))
    assert written.keys() == state.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in state.items())


def test_batch_statistics_in_training_are_the_peer_s(tmp_path):
    theirs, ours, _ = matched(Peer("GIN", {}, {"norm": "batch_norm"}), tmp_path)
    nodes, edges = next(graphs())
    reached = []
    for model in (ours.train(), theirs.train()):
        inputs = nodes.clone().requires_grad_()
        output = model(inputs, edges)
        output.square().sum().backward()
        reached.append((output, inputs.grad))
    for found, expected in zip(*reached, strict=True):
        assert largest_difference(found, expected) < 1e-4
    moved = foreign_tensors(ours, "torch_geometric")
    for name, buffer in theirs.named_buffers():
        torch.testing.assert_close(moved[name], buffer, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gcn_cora", "gcn_citeseer", "gcn_pubmed", "gin_mutag", "graphsage_reddit"])
def test_a_preset_has_the_peer_s_tensors(name):
    models = imported("torch_geometric.nn.models")
    config = zoo.config(name)
    kind = {"gcn": models.GCN, "gin": models.GIN, "graphsage": models.GraphSAGE}[name.split("_")[0]]
    with torch.device("meta"):
        theirs = kind(config.in_features, config.dim, config.depth, config.num_classes)
    ours = foreign_tensors(zoo.create(name, device="meta"), "torch_geometric")
    assert {key: value.shape for key, value in ours.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.parametrize("name", ["gat_cora", "gat_pubmed"])
def test_attention_with_another_number_of_heads_at_the_end_is_a_row_of_their_layers(name, tmp_path):
    layer = imported("torch_geometric.nn").GATConv
    config = zoo.config(name, in_features=20)
    torch.manual_seed(0)
    first = layer(20, config.dim // config.num_heads, config.num_heads)
    last = layer(config.dim, config.num_classes, config.head_heads, concat=False)
    theirs = perturbed(torch.nn.ModuleDict({"conv1": first, "conv2": last}))
    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, tmp_path / "a.safetensors")
    ours = zoo.create(name, in_features=20, weights=tmp_path / "a.safetensors").eval()
    assert ours.load_report.format == "torch_geometric"
    nodes, edges = torch.randn(9, 20), torch.randint(9, (2, 30))
    with torch.no_grad():
        expected = last(torch.nn.functional.elu(first(nodes, edges)), edges)
        assert largest_difference(ours(nodes, edges), expected) < 2e-5


OLD = {
    "GAT": {"lin.weight": ("lin_src.weight", "lin_dst.weight")},
    "GAT before 2.0": {
        "lin.weight": ("lin_l.weight", "lin_r.weight"), "att_src": ("att_l",), "att_dst": ("att_r",),
    },
    "GCN before 2.0": {"lin.weight": ("weight",)},
}  # fmt: skip
"""Today's name at the end of a tensor's -> those of old releases."""


@pytest.mark.parametrize("release", OLD)
def test_the_names_of_old_releases_are_understood(release, tmp_path):
    peer = next(peer for peer in PEERS if peer.name == release.split()[0])
    _, ours, state = matched(peer, tmp_path)
    old = {}
    for name, tensor in state.items():
        today = next((end for end in OLD[release] if name.endswith(end)), None)
        for spelling in OLD[release][today] if today else ():
            value = tensor.T.contiguous() if spelling == "weight" else tensor.clone()
            old[name.removesuffix(today) + spelling] = value
        old |= {} if today else {name: tensor}
    save_file(old, tmp_path / "old.safetensors")
    again = zoo.create(peer.name.lower(), weights=tmp_path / "old.safetensors", **peer.options())
    assert again.load_report.format == "torch_geometric"
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())


def test_two_matrices_of_which_we_have_one_are_refused_unless_they_are_equal(tmp_path):
    peer = next(peer for peer in PEERS if peer.name == "GAT")
    _, _, state = matched(peer, tmp_path)
    state["convs.0.lin_dst.weight"] = state["convs.0.lin.weight"] + 1
    save_file(state, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match=r"convs\.0\.lin_dst\.weight differs from convs\.0\.lin\.weight"):
        zoo.create("gat", weights=tmp_path / "two.safetensors", **peer.options())


def test_norms_that_are_not_wrapped_are_understood(tmp_path):
    peer = Peer("GIN", {}, {"norm": "batch_norm"})
    _, ours, state = matched(peer, tmp_path)
    save_file({name.replace(".module.", "."): tensor for name, tensor in state.items()}, tmp_path / "old.safetensors")
    again = zoo.create("gin", weights=tmp_path / "old.safetensors", **peer.options())
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in ours.state_dict().items())


@pytest.mark.parametrize("peer", [peer for peer in PEERS if peer.depth > 1], ids=lambda peer: peer.id)
def test_a_head_for_other_classes_is_drawn_anew_and_none_is_passed_over(peer, tmp_path):
    theirs, _, _ = matched(peer, tmp_path)
    adapted = zoo.create(peer.name.lower(), weights=tmp_path / "in.safetensors", **peer.options() | {"num_classes": 4})
    assert all(note.startswith("head") for note in adapted.load_report.adapted)
    body = zoo.create(peer.name.lower(), weights=tmp_path / "in.safetensors", **peer.options() | {"num_classes": 0})
    assert all(name.startswith("head") for name in body.load_report.ignored)
    assert body.load_report.ignored
    nodes, edges = next(graphs())
    truth = []
    theirs.convs[-1].register_forward_pre_hook(lambda _, inputs: truth.append(inputs[0]))
    with torch.no_grad():
        theirs(nodes, edges)
        assert largest_difference(body.eval()(nodes, edges), truth[0]) < 2e-5
    with pytest.raises(ValueError, match=r"torch_geometric has no .* with num_classes 0; format='zoo' has"):
        foreign_tensors(body, "torch_geometric")


def test_an_mlp_of_another_depth_is_not_written_for_it():
    with pytest.raises(ValueError, match="torch_geometric has no gin with mlp_depth 3; format='zoo' has"):
        foreign_tensors(zoo.create("gin", mlp_depth=3), "torch_geometric")


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_a_readout_is_the_peer_s(how, tmp_path):
    pool = getattr(imported("torch_geometric.nn"), {"sum": "global_add_pool"}.get(how, f"global_{how}_pool"))
    theirs, _, _ = matched(PEERS[0], tmp_path)
    ours = zoo.create("gcn", weights=tmp_path / "in.safetensors", **PEERS[0].options() | {"readout": how}).eval()
    nodes, edges = next(graphs())
    graph = torch.arange(44) // 9
    with torch.no_grad():
        expected = pool(theirs(nodes, edges), graph, 6)
        assert largest_difference(ours(nodes, edges, graph, 6), expected) < 2e-5
