"""DiT is diffusers' network, from its folders too: predictions, gradients, and the file that is written back."""

import contextlib

import pytest
import torch
from comparison import largest_difference, perturbed
from laws import build
from laws import perturbed as drawn
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.dit import ARCHITECTURE, DiTConfig, Time
from zoo.config import ConfigError
from zoo.config import build as build_config
from zoo.convert import foreign_tensors
from zoo.convert.dit import read_config
from zoo.nn.patches import sinusoids

SIZES = {
    "num_attention_heads": 3, "attention_head_dim": 8, "in_channels": 3, "num_layers": 3, "sample_size": 8,
    "patch_size": 2, "num_embeds_ada_norm": 7,
}  # fmt: skip
CASES = {"learned sigma": {"out_channels": 6}, "noise alone": {"norm_eps": 1e-2, "patch_size": 4}}
EMBEDDERS = ".norm1.emb."


@pytest.fixture(scope="module", params=CASES, ids=str)
def pair(request, tmp_path_factory):
    """A network of diffusers with weights in which nothing is zero any more, its folder, and ours."""
    theirs = peer(CASES[request.param])
    folder = tmp_path_factory.mktemp("peer")
    theirs.save_pretrained(folder)
    return theirs, folder, zoo.create(f"local-dir:{folder}").eval()


def peer(options):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    model = perturbed(diffusers.DiTTransformer2DModel(**{**SIZES, **options})).eval()
    embedders = model.transformer_blocks[0].norm1.emb.state_dict()
    for block in model.transformer_blocks:  # as they are in every released file
        block.norm1.emb.load_state_dict(embedders)
    return model


def inputs():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(4, 3, 8, 8, generator=generator)
    return image, torch.tensor([0, 17, 500, 999]), torch.tensor([0, 3, 6, 7])


def outputs(theirs, ours):
    image, timestep, label = inputs()
    return ours(image, timestep, label), theirs(image, timestep, label).sample


@pytest.mark.peers
@torch.no_grad()
def test_predictions_are_the_peer_s(pair):
    theirs, _, ours = pair
    assert ours.load_report.format == "diffusers"
    assert largest_difference(*outputs(theirs, ours)) < 2e-5


@pytest.mark.peers
def test_gradients_are_the_peer_s_and_those_of_its_copies_add_up(pair):
    theirs, _, ours = pair
    weights = torch.randn(outputs(theirs, ours)[0].shape, generator=torch.Generator().manual_seed(2))
    for model, prediction in zip((ours, theirs), outputs(theirs, ours), strict=True):
        model.zero_grad()
        (prediction * weights).sum().backward()
    model = build(ARCHITECTURE, ours.config)
    gradients = {name: p.grad for name, p in ours.named_parameters() if p.requires_grad}
    model.load_state_dict(gradients, strict=False)  # they travel the way of the weights
    found = foreign_tensors(model, "diffusers")
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    assert expected.keys() == found.keys()
    norm = torch.stack([gradient.norm() for gradient in expected.values()]).norm()
    for name, gradient in expected.items():
        if EMBEDDERS in name:
            of = name.partition(EMBEDDERS)[2]
            gradient = sum(copy for other, copy in expected.items() if other.endswith(EMBEDDERS + of))
        assert (found[name] - gradient).norm() / norm < 1e-4, name


@pytest.mark.peers
def test_export_returns_the_same_keys_and_bits_and_the_copies(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "diffusion_pytorch_model.safetensors")
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="diffusers"))
    assert written.keys() == stored.keys()
    assert sum(EMBEDDERS in name for name in written) == 5 * 3
    assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in stored.items())


@pytest.mark.peers
def test_a_file_whose_blocks_were_told_different_things_is_refused(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / "diffusion_pytorch_model.safetensors")
    last = "transformer_blocks.2.norm1.emb.class_embedder.embedding_table.weight"
    stored[last][-1, 0] += 1
    save_file(stored, tmp_path / "a.safetensors")
    says = r"transformer_blocks\.2\..*embedding_table\.weight differs from .*blocks\.0.*, and .* one tensor for both$"
    with pytest.raises(ValueError, match=says):  # without a remedy, for there is none
        zoo.create(ours.config, weights=tmp_path / "a.safetensors")


@pytest.mark.peers
@torch.no_grad()
def test_a_pipeline_s_folder_is_its_network(pair, tmp_path):
    diffusers = pytest.importorskip("diffusers")
    theirs, _, ours = pair
    vae = diffusers.AutoencoderKL(block_out_channels=(32,), latent_channels=3)
    diffusers.DiTPipeline(theirs, vae, diffusers.DDIMScheduler()).save_pretrained(tmp_path)
    again = zoo.create(f"local-dir:{tmp_path}").eval()
    assert torch.equal(again(*inputs()), ours(*inputs()))


@pytest.mark.peers
@torch.no_grad()
def test_positions_are_the_peer_s_and_follow_the_dtype_of_its_file(pair, tmp_path):
    theirs, folder, ours = pair
    torch.testing.assert_close(ours.embed.positions.data, theirs.pos_embed.pos_embed, atol=1e-7, rtol=0)
    stored = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file({name: tensor.half() for name, tensor in stored.items()}, tmp_path / "a.safetensors")
    half = zoo.create(ours.config, weights=tmp_path / "a.safetensors")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.float16}
    assert not half.embed.positions.requires_grad


@pytest.mark.peers
@pytest.mark.parametrize("preset", ARCHITECTURE.presets)
def test_a_preset_has_the_peer_s_tensors(preset):
    diffusers = pytest.importorskip("diffusers")
    options = {**vars(ARCHITECTURE.preset(preset)), "freq_shift": 1}
    with torch.device("meta"):
        ours = ARCHITECTURE.model(DiTConfig(**options))
        theirs = diffusers.DiTTransformer2DModel(
            num_attention_heads=options["num_heads"], attention_head_dim=options["dim"] // options["num_heads"],
            out_channels=8, num_layers=options["depth"], sample_size=options["image_size"],
            patch_size=options["patch_size"],
        )  # fmt: skip
    found = {name: tensor.shape for name, tensor in foreign_tensors(ours, "diffusers").items()}
    assert found == {name: tensor.shape for name, tensor in theirs.state_dict().items()}


HUB = {  # what the files on the Hub say, which are of an older class
    "_class_name": "Transformer2DModel", "activation_fn": "gelu-approximate", "attention_bias": True,
    "attention_head_dim": 72, "cross_attention_dim": None, "dropout": 0.0, "in_channels": 4,
    "norm_elementwise_affine": False, "norm_num_groups": 32, "norm_type": "ada_norm_zero", "num_attention_heads": 16,
    "num_embeds_ada_norm": 1000, "num_layers": 28, "only_cross_attention": False, "out_channels": 8, "patch_size": 2,
    "upcast_attention": False,
}  # fmt: skip


@pytest.mark.parametrize(("preset", "size"), [("dit_xl_2", 32), ("dit_xl_2_512", 64)])
def test_a_config_on_the_hub_is_the_preset_but_for_what_diffusers_does_otherwise(preset, size):
    config = DiTConfig(**read_config({**HUB, "sample_size": size}))
    assert config == DiTConfig(**{**vars(ARCHITECTURE.preset(preset)), "freq_shift": 1, "mlp_norm_eps": 1e-5})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm_type": "ada_norm_single"}, "norm_type is 'ada_norm_single', and .* only 'ada_norm_zero'"),
        ({"activation_fn": "geglu"}, "activation_fn is 'geglu'"),
        ({"dropout": 0.1}, r"dropout is 0\.1"),
        ({"out_channels": 5}, "out_channels is 5, and this architecture knows only 4 or 8"),
        ({"attention_head_dim": "wide"}, "attention_head_dim is 'wide', and this .* knows only whole numbers"),
        ({"num_attention_heads": True}, "num_attention_heads is True"),
        ({"_class_name": "Transformer2DModel"}, "norm_type is 'layer_norm'"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        read_config({"_class_name": "DiTTransformer2DModel", **change})


@pytest.mark.parametrize("kind", ["DiTTransformer2DModel", "Transformer2DModel"])
def test_a_config_that_says_anything_at_all_is_read_or_refused(kind):
    for name in HUB.keys() - {"_class_name"}:
        for value in (None, ["a"], {}, "linear", 0, -1, True):
            with contextlib.suppress(ConfigError):
                build_config(DiTConfig, read_config({**HUB, "_class_name": kind, name: value}), "its config")


@pytest.mark.parametrize("field", [{"freq_shift": 0}, {"norm_eps": 1e-5}, {"mlp_dim": 100}], ids=str)
def test_a_network_that_diffusers_would_run_otherwise_is_not_written_for_it(field, tmp_path):
    model = build(ARCHITECTURE, DiTConfig(**{**vars(ARCHITECTURE.tiny), "freq_shift": 1, "mlp_dim": 64, **field}))
    with pytest.raises(ValueError, match=f"diffusers has no dit with {next(iter(field))} .*format='zoo' has"):
        zoo.export_weights(model, tmp_path / "a.safetensors", format="diffusers")


@pytest.mark.parametrize("shift", [0, 1])
def test_the_timestep_s_waves_reach_from_one_to_the_longest(shift):
    waves = Time(8, shift).waves(torch.tensor([0, 1, 3]))
    assert torch.equal(waves[0], torch.tensor([1.0] * 128 + [0.0] * 128))
    assert waves[1, 0] == pytest.approx(torch.tensor(1.0).cos().item())
    assert waves[2, -1].item() == pytest.approx(3 * 10_000 ** (-127 / (128 - shift)), rel=1e-4)


@torch.no_grad()
def test_a_fresh_network_says_nothing_and_its_blocks_change_nothing():
    model = build(ARCHITECTURE).eval()
    given = model.example_inputs(3)
    assert not model(**given).any()
    tokens, condition = model.embed(**given)
    for block in model.blocks:
        assert torch.equal(block(tokens, condition), tokens)


@torch.no_grad()
def test_no_label_is_the_label_that_says_nothing():
    model = drawn(ARCHITECTURE)
    image, timestep, _ = model.example_inputs(3).values()
    nothing = torch.full((3,), model.config.num_classes)
    assert torch.equal(model(image, timestep), model(image, timestep, nothing))
    assert not torch.allclose(model(image, timestep), model(image, timestep, nothing - 1))


@torch.no_grad()
def test_the_head_s_numbers_are_the_pixels_of_the_patch():
    model = drawn(ARCHITECTURE, DiTConfig(**{**vars(ARCHITECTURE.tiny), "depth": 1}))
    image, timestep, label = model.example_inputs(1).values()
    seen = []
    model.head.register_forward_hook(lambda _, __, output: seen.append(output))
    out = model(image, timestep, label)
    assert out.shape == (1, 6, 8, 8)
    numbers = seen[0].view(16, 2, 2, 6)
    for patch, row, column in ((0, 0, 0), (1, 0, 2), (4, 2, 0), (15, 6, 6)):
        assert torch.equal(out[0, :, row : row + 2, column : column + 2].permute(1, 2, 0), numbers[patch])


def test_positions_are_not_learnt_and_made_anew_for_another_size(tmp_path):
    model = drawn(ARCHITECTURE)
    zoo.save(model, tmp_path / "a")
    path, tiny = tmp_path / "a" / "model.safetensors", vars(ARCHITECTURE.tiny)
    larger = zoo.create("dit", weights=path, **{**tiny, "image_size": 16})
    assert larger.load_report.adapted == ("embed.positions interpolated from 16 to 64 positions",)
    assert torch.equal(larger.embed.positions[0], sinusoids(16, 8))
    assert not larger.embed.positions.requires_grad
    assert [name for name, p in larger.named_parameters() if not p.requires_grad] == ["embed.positions"]


def test_a_short_run_learns_to_denoise_digits():
    tiny = {**vars(ARCHITECTURE.tiny), "dim": 48, "num_heads": 3, "mlp_dim": 96, "learned_sigma": False}
    given = {name: value for name, value in tiny.items() if name not in ("image_size", "in_channels", "num_classes")}
    sections = {
        "model": {"name": "dit", **given},
        "data": {"name": "digits", "batch_size": 64, "normalize": "range"},
        "optimizer": {"lr": 2e-3},
        "trainer": {"steps": 100},
    }
    done = zoo.Trainer(zoo.RunConfig.of(sections), quiet=True).fit()
    assert done.model.config.num_classes == 10
    assert done.metrics["loss"] < 0.6  # 1 is what no prediction gives
    assert torch.equal(done.model.embed.positions[0], sinusoids(48, 4))


def test_an_image_of_another_size_is_refused():
    model = build(ARCHITECTURE)
    message = "an image of 8 x 10 pixels does not fit positions for 8 x 8; set image_size, in multiples of 2"
    with pytest.raises(ValueError, match=message):
        model(torch.randn(2, 3, 8, 10), torch.zeros(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth 0 is below 1"),
        ({"num_classes": -1}, "num_classes -1 is negative"),
        ({"mlp_norm_eps": 0.0}, "mlp_norm_eps 0.0 is not positive"),
        ({"freq_shift": 2}, "freq_shift 2 is neither 0"),
        ({"dim": 1150}, "dim 1150 is not divisible by num_heads 16"),
        ({"dim": 18, "num_heads": 2}, "dim 18 is not divisible by .* 4 for positions"),
        ({"patch_size": 5}, "image_size 32 is not divisible by patch_size 5"),
    ],
    ids=str,
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DiTConfig(**options)
