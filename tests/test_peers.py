"""Our networks with another library's weights give its outputs and gradients, and write its keys and bits back."""

import pytest
import torch
from comparison import largest_difference
from peers import BARE, COUNTED, EQUAL, FOREIGN, HEADLESS
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from zoo.convert import foreign_tensors, layouts

pytestmark = pytest.mark.peers


def ids(peers):
    return [peer.id for peer in peers]


@pytest.fixture(scope="module", params=EQUAL, ids=ids(EQUAL))
def pair(request, tmp_path_factory):
    """A peer with weights in which nothing is zero or one any more, its file, and ours loaded from that."""
    peer = request.param
    torch.manual_seed(0)
    theirs = peer.build().eval()
    with torch.no_grad():
        shake(theirs)
    path = tmp_path_factory.mktemp("peer") / "weights.safetensors"
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    save_file(state, path)
    ours = zoo.create(peer.preset, weights=path, **peer.options).eval()
    return peer, theirs, ours, state


def shake(model):
    """Give a network weights by which its answers depend on the image, and norms that are not the identity."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.rand_like(tensor) if name.endswith("running_var") else torch.randn_like(tensor)
            tensor += 0.1 * tensor.std().nan_to_num(1).clamp(min=0.1) * noise


def first(output):
    return output[0] if isinstance(output, tuple) else output


@torch.no_grad()
def test_outputs_are_the_peer_s_at_every_size(pair):
    peer, theirs, ours, _ = pair
    for size in peer.sizes:
        image = torch.randn(2, 3, *size)
        assert largest_difference(first(ours(image)), first(theirs(image))) < 1e-5


def test_gradients_are_the_peer_s(pair):
    peer, theirs, ours, _ = pair
    image = torch.randn(2, 3, *peer.sizes[0])
    for model in (ours, theirs):
        model.zero_grad()
        output = first(model(image))
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    with torch.no_grad():
        gradients = ours.state_dict(keep_vars=True)
        for name, parameter in ours.named_parameters():
            gradients[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        for name, parameter in ours.named_parameters():
            parameter.copy_(gradients[name])  # so that they travel the way of the weights
        found = foreign_tensors(ours, peer.format)
        expected = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
        error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
        norm = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
        assert error / norm < 1e-4


def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    peer, _, _, state = pair
    save_file(state, tmp_path / "in.safetensors")
    ours = zoo.create(peer.preset, weights=tmp_path / "in.safetensors", **peer.options)
    assert ours.load_report.format in (peer.format, "torchvision")  # the two have the same names for some
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format=peer.format))
    assert written.keys() == state.keys()
    assert all(
        written[name].dtype == tensor.dtype and torch.equal(written[name], tensor) for name, tensor in state.items()
    )


@pytest.mark.parametrize(("preset", "options", "format", "other"), FOREIGN)
def test_a_network_that_a_library_cannot_build_is_not_written_for_it(preset, options, format, other):
    model = zoo.create(preset, device="meta", **options)
    with pytest.raises(ValueError, match=rf"^{format} has no \w+ with \w+ .+; format='{other}' has$"):
        foreign_tensors(model, format)
    assert format not in layouts(model.provenance.architecture, model.config)[0]
    foreign_tensors(model, other)


@pytest.mark.parametrize("peer", BARE, ids=ids(BARE))
def test_a_checkpoint_gives_a_model_without_a_head_its_features(peer, tmp_path):
    theirs = peer.build().eval()
    with torch.no_grad():
        shake(theirs)
    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, tmp_path / "a.safetensors")
    ours = zoo.create(peer.preset, weights=tmp_path / "a.safetensors", num_classes=0, **peer.options).eval()
    assert ours.load_report.format == peer.format or peer.format == "timm"
    assert ours.load_report.ignored
    for head in [name for name, layer in theirs.named_modules() if name.split(".")[-1] in peer.heads]:
        theirs.set_submodule(head, nn.Identity())
    image = torch.randn(1, 3, *peer.sizes[0])
    assert largest_difference(first(ours(image)), first(theirs(image))) < 1e-5


@pytest.mark.parametrize("peer", HEADLESS, ids=ids(HEADLESS))
def test_a_model_without_a_head_is_written_as_timm_writes_it(peer):
    with torch.device("meta"):
        expected = {name: tensor.shape for name, tensor in peer.build().state_dict().items()}
    ours = zoo.create(peer.preset, device="meta", num_classes=0)
    assert {name: tensor.shape for name, tensor in foreign_tensors(ours, "timm").items()} == expected
    with pytest.raises(ValueError, match=r"^torchvision has no \w+ with num_classes 0; format='timm' has$"):
        foreign_tensors(ours, "torchvision")


@pytest.mark.parametrize("peer", COUNTED, ids=ids(COUNTED))
def test_every_preset_has_the_peer_s_tensors(peer):
    with torch.device("meta"):
        theirs = peer.build()
    ours = zoo.create(peer.preset, device="meta", **peer.options)
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in theirs.state_dict().items()}
    assert {name: (t.shape, t.dtype) for name, t in foreign_tensors(ours, peer.format).items()} == expected
    count = [sum(parameter.numel() for parameter in model.parameters()) for model in (ours, theirs)]
    assert count[0] == count[1]
