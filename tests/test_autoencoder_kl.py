"""AutoencoderKL is diffusers' network: its answers, gradients, files; and large latents are decoded in tiles."""

import pytest
import torch
from comparison import largest_difference, perturbed
from laws import build
from laws import perturbed as shaken
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.autoencoder_kl import ARCHITECTURE, AutoencoderKLConfig
from zoo.config import ConfigError
from zoo.convert import foreign_tensors
from zoo.convert.autoencoder_kl import OLD, read_config
from zoo.nn.tiles import _ramp, _tiles, by_itself, decode_in_tiles

BLOCKS = {name: [f"{way}{half}Block2D"] * 3 for name, way, half in [
    ("down_block_types", "Down", "Encoder"), ("up_block_types", "Up", "Decoder")
]}  # fmt: skip
SIZES = {"block_out_channels": (8, 12, 16), "layers_per_block": 1, "norm_num_groups": 4, **BLOCKS}
KINDS = {
    "with quant": SIZES,
    "without": SIZES | {"latent_channels": 6, "use_quant_conv": False, "use_post_quant_conv": False},
}
HUB = {  # what the files on the Hub say, as far as it tells one network from another
    "sd_vae": {"latent_channels": 4},
    "sd3_vae": {"latent_channels": 16, "use_quant_conv": False, "use_post_quant_conv": False},
}
LARGE = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
LARGE |= {name: kinds[:1] * 4 for name, kinds in BLOCKS.items()}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def pair(request, tmp_path_factory):
    """A network of diffusers with weights in which nothing is zero or one any more, its file, and ours."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = perturbed(diffusers.AutoencoderKL(**KINDS[request.param]).eval())
    folder = tmp_path_factory.mktemp("peer")
    theirs.save_pretrained(folder)
    path = folder / "diffusion_pytorch_model.safetensors"
    return theirs, path, zoo.create(f"local-dir:{folder}").eval()


def image(height=24, width=40):
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.mark.peers
@torch.no_grad()
def test_moments_and_images_are_the_peer_s(pair):
    theirs, _, ours = pair
    assert ours.load_report.format == "diffusers"
    expected = theirs.encode(image()).latent_dist
    for found, truth in zip(ours.encode(image()), (expected.mean, expected.logvar), strict=True):
        assert largest_difference(found, truth) < 2e-5
    z = torch.randn_like(expected.mean)
    assert largest_difference(ours.decode(z), theirs.decode(z).sample) < 2e-5
    drawn = theirs.decode(expected.sample(torch.Generator().manual_seed(3))).sample
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(3))
    assert largest_difference(ours(image(), noise).reconstruction, drawn) < 2e-5


@pytest.mark.peers
def test_gradients_are_the_peer_s(pair):
    theirs, _, ours = pair
    for model in (ours, theirs):
        model.zero_grad()
    posterior = theirs.encode(image()).latent_dist
    (theirs.decode(posterior.mean).sample.square().sum() + posterior.logvar.square().sum()).backward()
    output = ours(image())
    (output.reconstruction.square().sum() + output.logvar.square().sum()).backward()
    model = build(ARCHITECTURE, ours.config)
    model.load_state_dict({name: p.grad for name, p in ours.named_parameters()})  # they travel the way of the weights
    found = foreign_tensors(model, "diffusers")
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert expected.keys() == found.keys()
    error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
    assert error / sum(gradient.square().sum() for gradient in expected.values()).sqrt() < 1e-4


@pytest.mark.peers
def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    _, path, ours = pair
    stored = load_file(path)
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="diffusers"))
    assert written.keys() == stored.keys()
    assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in stored.items())


@pytest.mark.peers
def test_the_attention_s_old_names_are_understood(pair, tmp_path):
    _, path, ours = pair
    old = {}
    for name, tensor in load_file(path).items():
        for before, today in OLD.items():
            name = name.replace(f"attentions.0.{today}.", f"attentions.0.{before}.")
        old[name] = tensor
    assert sum("proj_attn" in name for name in old) == 4
    save_file(old, tmp_path / "old.safetensors")
    again = zoo.create(ours.config, weights=tmp_path / "old.safetensors")
    assert again.load_report.format == "diffusers"
    assert all(torch.equal(*pair) for pair in zip(again.parameters(), ours.parameters(), strict=True))


@pytest.mark.peers
@pytest.mark.parametrize("preset", HUB)
def test_a_preset_has_the_peer_s_tensors(preset):
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        theirs = diffusers.AutoencoderKL(**LARGE | HUB[preset])
    found = foreign_tensors(zoo.create(preset, device="meta"), "diffusers")
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in theirs.state_dict().items()}


@pytest.mark.parametrize("preset", HUB)
def test_a_config_on_the_hub_is_the_preset(preset):
    said = {"_class_name": "AutoencoderKL", "act_fn": "silu", "in_channels": 3, "norm_num_groups": 32, **LARGE}
    assert AutoencoderKLConfig(**read_config(said | HUB[preset])) == ARCHITECTURE.preset(preset)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"act_fn": "relu"}, "act_fn is 'relu'"),
        ({"out_channels": 4}, "out_channels is 4"),
        ({"use_post_quant_conv": False}, "use_post_quant_conv is False"),
        ({"mid_block_add_attention": False}, "mid_block_add_attention is False"),
        ({"up_block_types": ["AttnUpDecoderBlock2D"] * 4}, "up_block_types is"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        read_config(LARGE | change)


def test_logvar_is_held_within_what_exp_can_take():
    model = build(ARCHITECTURE)
    with torch.no_grad():
        model.quant.bias[2:] = torch.tensor([1e4, -1e4])
    _, logvar = model.encode(torch.rand(1, 3, 8, 8))
    assert (logvar[:, 0] == 20).all()
    assert (logvar[:, 1] == -30).all()


@torch.no_grad()
def test_tiles_give_the_whole_image_away_from_the_seams():
    model = shaken(ARCHITECTURE)
    z = torch.randn(2, 2, 40, 57)
    whole = model.decode(z)
    tiled = model.decode_tiled(z, tile=32, overlap=16)  # a pixel depends on 7 positions around its own
    error = (tiled - whole).abs() / whole.abs().max()
    seam = torch.zeros(40, 57, dtype=torch.bool)
    seam[16:32] = seam[:, 16:32] = seam[:, 32:48] = True
    seam = seam.repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert error[..., ~seam].max() < 1e-5
    assert 1e-5 < error[..., seam].max() < 0.05
    rough = model.decode_tiled(z, tile=32, overlap=16, exact=False)
    assert 1e-3 < ((rough - whole).abs() / whole.abs().max())[..., ~seam].max() < 0.5


@torch.no_grad()
def test_a_latent_no_larger_than_a_tile_is_decoded_whole():
    model = shaken(ARCHITECTURE)
    z = torch.randn(1, 2, 8, 5)
    assert torch.equal(model.decode_tiled(z, tile=8, overlap=4), model.decode(z))


@pytest.mark.parametrize(("size", "tile", "overlap"), [(40, 32, 16), (100, 10, 3), (9, 8, 0), (9, 8, 4), (33, 8, 4)])
def test_tiles_cover_an_axis_once_and_their_weights_add_up_to_one(size, tile, overlap):
    parts = _tiles(size, tile, overlap)
    assert [position for part in parts for position in range(*part.core)] == list(range(size))
    total = torch.zeros(size * 4)
    for part in parts:
        assert part.start <= part.core[0] < part.core[1] <= part.stop <= size
        total[part.at(4)] += _ramp(part, size, overlap, 4, total)
    torch.testing.assert_close(total, torch.ones_like(total))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile": 8, "overlap": 5}, r"overlap 5 is not in \[0, 4\]"),
        ({"tile": 8, "overlap": -1}, "overlap -1"),
        ({"tile": 0, "overlap": 0}, "tile 0 is below 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tiles_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        decode_in_tiles(by_itself, torch.zeros(1, 1, 9, 9), 2, exact=False, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth 0 is below 1"),
        ({"widths": ()}, "widths is empty"),
        ({"widths": (32, 40)}, "width 40 of widths .* no multiple of groups 32"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderKLConfig(**options)


def test_an_image_that_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match="9 x 8 pixels is no multiple of 2"):
        build(ARCHITECTURE)(torch.rand(1, 3, 9, 8))
