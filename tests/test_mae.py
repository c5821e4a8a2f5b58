"""MAE is transformers' network, from its folders too: predictions, features, gradients, and the file written back."""

import copy
import json

import pytest
import torch
from comparison import largest_difference, perturbed
from laws import build
from laws import perturbed as drawn
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.mae import ARCHITECTURE, MAEConfig
from zoo.convert import foreign_tensors, peers
from zoo.convert.mae import read_config
from zoo.nn.patches import sinusoids, to_image, to_patches

SIZES = {
    "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 40, "image_size": 20,
    "patch_size": 4, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 28,
}  # fmt: skip
CASES = {"three quarters": {}, "half, in grey": {"mask_ratio": 0.5, "num_channels": 1, "layer_norm_eps": 1e-2}}


@pytest.fixture(scope="module", params=CASES, ids=str)
def pair(request, tmp_path_factory):
    """A network of transformers with weights in which nothing is zero or one any more, its folder, and ours."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTMAEConfig(**SIZES, **CASES[request.param])
    theirs = perturbed(transformers.ViTMAEForPreTraining(config).eval())
    folder = tmp_path_factory.mktemp("peer")
    theirs.save_pretrained(folder)
    return theirs, folder, zoo.create(f"local-dir:{folder}").eval()


def inputs(model, batch=3):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(batch, model.config.in_channels, 20, 20, generator=generator)
    return image, torch.rand(batch, 25, generator=generator)


@pytest.mark.peers
@torch.no_grad()
def test_predictions_and_masks_are_the_peer_s(pair):
    theirs, _, ours = pair
    assert ours.load_report.format == "transformers"
    image, noise = inputs(ours)
    found, expected = ours(image, noise), theirs(image, noise=noise)
    assert largest_difference(found.prediction, expected.logits) < 2e-5
    assert torch.equal(found.mask, expected.mask.bool())


@pytest.mark.peers
@torch.no_grad()
def test_features_are_the_peer_s_where_nothing_is_hidden(pair):
    theirs, _, ours = pair
    image, _ = inputs(ours)
    theirs.config.mask_ratio, ratio = 0.0, theirs.config.mask_ratio
    expected = theirs(image, noise=torch.arange(25.0).expand(3, -1))
    features = theirs.vit(image, noise=torch.arange(25.0).expand(3, -1)).last_hidden_state
    theirs.config.mask_ratio = ratio
    assert largest_difference(ours.encode(image), features) < 2e-5
    assert largest_difference(ours(image).prediction, expected.logits) < 2e-5


@pytest.mark.peers
def test_gradients_are_the_peer_s(pair, tmp_path):
    theirs, _, ours = pair
    image, noise = inputs(ours)
    weights = torch.randn(ours(image, noise).prediction.shape, generator=torch.Generator().manual_seed(2))
    for model, prediction in ((ours, ours(image, noise).prediction), (theirs, theirs(image, noise=noise).logits)):
        model.zero_grad()
        (prediction * weights).sum().backward()
    their_gradients = copy.deepcopy(theirs)
    with torch.no_grad():
        for parameter, of in zip(their_gradients.parameters(), theirs.parameters(), strict=True):
            parameter.copy_(torch.zeros_like(of) if of.grad is None else of.grad)
    their_gradients.save_pretrained(tmp_path)  # they travel the way of the weights
    expected = zoo.create(f"local-dir:{tmp_path}").state_dict()
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    assert norm > 1
    for name, parameter in ours.named_parameters():
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert (gradient - expected[name]).norm() / norm < 1e-4, name
    assert {name for name, p in ours.named_parameters() if p.grad is None} == {"embed.positions", "decoder.positions"}


@pytest.mark.peers
def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "model.safetensors")
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="transformers"))
    assert written.keys() == stored.keys()
    assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in stored.items())


@pytest.mark.peers
@torch.no_grad()
def test_the_names_of_the_files_on_the_hub_are_understood(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "model.safetensors")
    old = {name.replace("decoder_encoder.layer.", "decoder_layers."): tensor for name, tensor in stored.items()}
    assert old.keys() != stored.keys()
    save_file(old, tmp_path / "a.safetensors")
    again = zoo.create(ours.config, weights=tmp_path / "a.safetensors").eval()
    assert torch.equal(again(*inputs(ours)).prediction, ours(*inputs(ours)).prediction)


@pytest.mark.peers
@pytest.mark.parametrize(("preset", "name"), peers("mae", "transformers").items())
def test_a_preset_has_the_peer_s_tensors(preset, name):
    transformers = pytest.importorskip("transformers")
    config = ARCHITECTURE.preset(preset)
    with torch.device("meta"):
        ours = ARCHITECTURE.model(config)
        theirs = transformers.ViTMAEForPreTraining(
            transformers.ViTMAEConfig(
                hidden_size=config.dim, num_hidden_layers=config.depth, num_attention_heads=config.num_heads,
                intermediate_size=config.mlp_dim, patch_size=config.patch_size,
            )
        )  # fmt: skip
    assert sum(p.numel() for p in theirs.parameters()) == ARCHITECTURE.params[preset]
    found = sorted(tuple(tensor.shape) for tensor in foreign_tensors(ours, "transformers").values())
    assert found == sorted(tuple(tensor.shape) for tensor in theirs.state_dict().values())
    assert name.removeprefix("facebook/") in {alias.replace("_", "-") for alias in ARCHITECTURE.aliases}


@pytest.mark.peers
def test_positions_are_those_of_the_peer_s_formula():
    """Its own networks start with zeros in transformers 5; the released files hold these."""
    modeling = pytest.importorskip("transformers.models.vit_mae.modeling_vit_mae")
    ours = build(ARCHITECTURE, MAEConfig(**read_config(SIZES)))
    for positions in (ours.embed.positions, ours.decoder.positions):
        rows_first = modeling.build_2d_sinusoidal_position_embedding(5, 5, positions.shape[-1], cls_token=True)
        assert torch.equal(positions[0], torch.cat(rows_first.chunk(2, dim=1)[::-1], dim=1))
        assert not positions.requires_grad


HUB = {  # what the files on the Hub say, as far as it tells one network from another
    "mae_vit_b_16": {},
    "mae_vit_l_16": {
        "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24,
    },
    "mae_vit_h_14": {
        "hidden_size": 1280, "intermediate_size": 5120, "num_attention_heads": 16, "num_hidden_layers": 32,
        "patch_size": 14,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", HUB)
def test_a_config_on_the_hub_is_the_preset_but_for_the_norms_epsilon(preset):
    found = MAEConfig(**read_config({"model_type": "vit_mae", **HUB[preset]}))
    assert found == MAEConfig(**{**vars(ARCHITECTURE.preset(preset)), "norm_eps": 1e-12})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu', and this architecture knows only 'gelu'"),
        ({"qkv_bias": False}, "qkv_bias is False"),
        ({"hidden_dropout_prob": 0.1}, r"hidden_dropout_prob is 0\.1"),
        ({"image_size": [224, 192]}, "image_size"),
        ({"mask_ratio": 0.0}, r"mask_ratio 0\.0 of 196 patches must leave one visible and hide one"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(tmp_path, change, message):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit_mae", **change}))
    with pytest.raises(ValueError, match=message):
        zoo.create(f"local-dir:{tmp_path}")


def test_a_patch_lies_where_its_position_says():
    image = torch.arange(2 * 3 * 8 * 12.0).view(2, 3, 8, 12)
    patches = to_patches(image, 4)
    assert torch.equal(patches[1, 4].view(4, 4, 3), image[1, :, 4:8, 4:8].permute(1, 2, 0))
    assert torch.equal(to_image(patches, 4, (2, 3)), image)
    positions = sinusoids(8, 5).view(5, 5, 8)  # sines and cosines of the column, then of the row
    assert torch.equal(positions[3, :, :4], positions[0, :, :4])
    assert torch.equal(positions[:, 3, 4:], positions[:, 0, 4:])
    expected = [2.0, 2 / 100]
    torch.testing.assert_close(
        positions[0, 2, :4], torch.cat([torch.tensor(expected).sin(), torch.tensor(expected).cos()])
    )
    torch.testing.assert_close(positions[2, 0, 4:], positions[0, 2, :4])


@torch.no_grad()
def test_the_encoder_is_vit_s():
    """Fine-tuning takes the features to a ViT, whose names are the same."""
    mae = drawn(ARCHITECTURE)
    config = vars(mae.config)
    shared = ("image_size", "patch_size", "dim", "depth", "num_heads", "mlp_dim", "norm_eps", "in_channels")
    vit = zoo.create("vit", num_classes=0, **{name: config[name] for name in shared}).eval()
    vit.load_state_dict({name: tensor for name, tensor in mae.state_dict().items() if not name.startswith("decoder.")})
    image = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(vit(image), mae.encode(image)[:, 0])


@pytest.mark.parametrize(
    ("patches", "ratio", "visible"),
    [(196, 0.75, 49), (256, 0.75, 64), (100, 0.9, 10), (16, 0.8, 3), (25, 0.75, 6), (4, 0.75, 1), (100, 0.7, 30)],
)
def test_what_is_visible_is_the_rest_rounded_down(patches, ratio, visible):
    side = round(patches**0.5)
    assert MAEConfig(image_size=16 * side, mask_ratio=ratio).num_visible == visible


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": torch.randn(2, 3, 16, 20)}, "reads 16 x 16 pixels, got 16 x 20; resize the image"),
        ({"image": torch.randn(2, 1, 16, 16)}, "got 1 channels"),
        ({"noise": torch.rand(16)}, r"noise must be \(batch, 16\), one for each patch, got shape \(16,\)"),
        ({"noise": torch.rand(2, 17)}, r"got shape \(2, 17\)"),
    ],
    ids=["size", "channels", "axes", "patches"],
)
def test_inputs_that_do_not_fit_are_refused(inputs, message):
    model = build(ARCHITECTURE)
    with pytest.raises(ValueError, match=message):
        model(**{**model.example_inputs(2), **inputs})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoder_depth": 0}, "decoder_depth 0 is below 1"),
        ({"norm_eps": -1.0}, "norm_eps -1.0 is not positive"),
        ({"decoder_dim": 100}, "decoder_dim 100 is not divisible by decoder_num_heads 16"),
        ({"dim": 18, "num_heads": 2}, "^dim 18 is not divisible by .* 4 for positions"),
        ({"patch_size": 15}, "image_size 224 is not divisible by patch_size 15"),
        ({"mask_ratio": 1.0}, "mask_ratio 1.0 of 196 patches must leave one visible"),
        ({"image_size": 32, "mask_ratio": 0.8}, "mask_ratio 0.8 of 4 patches must leave one visible"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        MAEConfig(**options)
