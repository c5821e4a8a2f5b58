"""The U-Net is diffusers' UNet2DModel: outputs, gradients, and the file that is written back; and its papers'."""

import math

import pytest
import torch
from comparison import largest_difference, perturbed
from laws import build
from laws import perturbed as ours_perturbed
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.unet import ARCHITECTURE, Attention, Block, Downsample, UNetConfig, sinusoids
from zoo.convert import foreign_tensors

COMMON = {"sample_size": 16, "norm_num_groups": 4}
VARIANTS = {
    "ddpm": {
        "block_out_channels": (16, 32, 32), "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), "downsample_padding": 0, "freq_shift": 1,
        "flip_sin_to_cos": False, "attention_head_dim": None, "norm_eps": 1e-2,
    },
    "classes": {
        "block_out_channels": (8, 24), "down_block_types": ("AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D"), "attention_head_dim": 4, "num_class_embeds": 5,
        "in_channels": 2, "out_channels": 2, "layers_per_block": 1, "freq_shift": 2,
    },
    "adm": {
        "block_out_channels": (16, 16, 32), "out_channels": 6, "layers_per_block": 3, "num_class_embeds": 3,
        "down_block_types": ("ResnetDownsampleBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"), "attention_head_dim": 8,
        "downsample_type": "resnet", "upsample_type": "resnet", "resnet_time_scale_shift": "scale_shift",
        "attn_norm_num_groups": 4,
    },
}  # fmt: skip
OLD = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def pair(request, tmp_path_factory):
    """A network of diffusers with weights in which nothing is zero or one any more, its folder, and ours."""
    theirs = peer(VARIANTS[request.param])
    folder = tmp_path_factory.mktemp("peer")
    theirs.save_pretrained(folder)
    return theirs, folder, zoo.create(f"local-dir:{folder}").eval()


def peer(options):
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    return perturbed(diffusers.UNet2DModel(**COMMON, **options).eval())


def images(model, batch=3, size=(16, 16)):
    """Noisy images, timesteps and labels, the same each time."""
    draw = torch.Generator().manual_seed(1)
    config = model.config
    inputs = {
        "image": torch.randn(batch, config.in_channels, *size, generator=draw),
        "timestep": torch.randint(1000, (batch,), generator=draw),
    }
    labels = torch.randint(config.num_classes, (batch,), generator=draw) if config.num_classes else None
    return inputs | ({"label": labels} if config.num_classes else {})


def outputs(theirs, ours, **options):
    inputs = images(ours, **options)
    return ours(**inputs), theirs(inputs["image"], inputs["timestep"], inputs.get("label")).sample


@pytest.mark.peers
@pytest.mark.parametrize("size", [(16, 16), (8, 24)], ids=["square", "oblong"])
@torch.no_grad()
def test_outputs_are_the_peer_s(pair, size):
    theirs, _, ours = pair
    assert ours.load_report.format == "diffusers"
    assert largest_difference(*outputs(theirs, ours, size=size)) < 2e-5


@pytest.mark.peers
def test_gradients_are_the_peer_s(pair):
    theirs, _, ours = pair
    for model in (ours, theirs):
        model.zero_grad()
    for output in outputs(theirs, ours):
        (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    model = build(ARCHITECTURE, ours.config)
    model.load_state_dict({name: p.grad for name, p in ours.named_parameters()})  # they travel the way of the weights
    found = foreign_tensors(model, "diffusers")
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    whole = math.sqrt(sum(gradient.square().sum() for gradient in expected.values()))
    assert expected.keys() == found.keys()
    for name, gradient in expected.items():
        assert (found[name] - gradient).norm() / whole < 1e-4, name


@pytest.mark.peers
def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    _, folder, ours = pair
    stored = load_file(folder / FILE)
    written = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="diffusers"))
    assert written.keys() == stored.keys()
    assert all(written[name].dtype == t.dtype and torch.equal(written[name], t) for name, t in stored.items())


@pytest.mark.peers
@torch.no_grad()
def test_files_with_the_old_names_of_attention_are_understood(pair, tmp_path):
    _, folder, ours = pair
    old = load_file(folder / FILE)
    for today, before in OLD.items():
        old = {name.replace(today, before): tensor for name, tensor in old.items()}
    assert old.keys() != load_file(folder / FILE).keys()
    save_file(old, tmp_path / FILE)
    again = zoo.create(ours.config, weights=tmp_path / FILE).eval()
    assert again.load_report.format == "diffusers"
    assert torch.equal(again(**images(ours)), ours(**images(ours)))


@pytest.mark.peers
@pytest.mark.parametrize("preset", ARCHITECTURE.names())
def test_a_preset_has_the_tensors_of_the_peer_s_network(preset):
    diffusers = pytest.importorskip("diffusers")
    config = ARCHITECTURE.preset(preset)
    attends = [level in config.attention_levels for level in range(len(config.channels))]
    plain, adaptive, groups = (
        ("ResnetDownsample", "scale_shift", 32) if config.scale_shift else ("Down", "default", None)
    )
    down = [f"{'AttnDown' if attention else plain}Block2D" for attention in attends]
    up = [name.replace("Downsample", "Upsample").replace("Down", "Up") for name in down[::-1]]
    kind = {"conv": "conv", "block": "resnet"}[config.resample]
    if preset == "adm_128":  # of a number of heads, which their networks cannot have; the tensors are the same
        config = UNetConfig(**vars(config) | {"num_heads": 1, "head_dim": 64})
    with torch.device("meta"):
        theirs = diffusers.UNet2DModel(
            block_out_channels=config.channels, down_block_types=down, layers_per_block=config.depth,
            up_block_types=up, out_channels=config.out_channels or 3, attention_head_dim=config.head_dim,
            downsample_type=kind, upsample_type=kind, resnet_time_scale_shift=adaptive, attn_norm_num_groups=groups,
            num_class_embeds=config.num_classes + config.null_label if config.num_classes else None,
        )  # fmt: skip
        ours = ARCHITECTURE.model(config)
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    assert {name: tensor.shape for name, tensor in foreign_tensors(ours, "diffusers").items()} == expected


def test_the_published_sizes_of_adm():
    for preset, millions in {"adm_64": 296, "adm_128": 422, "adm_256": 554}.items():
        assert round(ARCHITECTURE.params[preset] / 1e6) == millions


@pytest.mark.parametrize("cosine_first", [False, True])
@pytest.mark.parametrize("shift", [0, 1])
def test_a_timestep_is_seen_at_frequencies_from_1_to_a_ten_thousandth(shift, cosine_first):
    found = sinusoids(torch.tensor([0, 7]), 16, shift, cosine_first)
    frequencies = [10_000 ** (-i / (8 - shift)) for i in range(8)]
    assert frequencies[-1] == pytest.approx(1e-4) or shift == 0
    sines, cosines = ([function(7 * w) for w in frequencies] for function in (math.sin, math.cos))
    torch.testing.assert_close(found[1], torch.tensor(cosines + sines if cosine_first else sines + cosines))
    assert found[0].sum() == 8


def test_a_fresh_network_predicts_nothing_and_its_blocks_are_their_shortcuts():
    model = build(ARCHITECTURE).eval()
    assert not model(**model.example_inputs(2)).any()
    for module in model.modules():
        if isinstance(module, Block) and isinstance(module.shortcut, torch.nn.Identity):
            x = torch.randn(2, module.conv1.in_channels, 4, 4)
            assert torch.equal(module(x, torch.randn(2, module.time.in_features)), x)


@pytest.mark.parametrize("first", [True, False], ids=["end", "both"])
def test_the_last_row_and_column_of_an_image_are_padded_as_is_said(first):
    config = UNetConfig(channels=(32,), attention_levels=(), downsample_padding="end" if first else "both")
    layer = Downsample(config, 1)
    torch.nn.init.constant_(layer.conv.weight, 1.0)
    torch.nn.init.zeros_(layer.conv.bias)
    corners = layer(torch.ones(1, 1, 4, 4), torch.empty(0))[0, 0]
    assert corners.shape == (2, 2)
    assert (corners[0, 0], corners[-1, -1]) == ((9, 4) if first else (4, 9))


def test_attention_has_the_heads_that_are_asked_for():
    for options, heads in (({}, 1), ({"num_heads": 4}, 4), ({"head_dim": 8}, 4), ({"head_dim": 8, "num_heads": 2}, 4)):
        assert Attention(UNetConfig(channels=(32,), attention_levels=(), **options), 32).num_heads == heads


def test_heads_attend_apart():
    layer = Attention(UNetConfig(channels=(32,), attention_levels=(), num_heads=4), 32)
    with torch.no_grad():
        layer.proj.weight.copy_(torch.eye(32))
        layer.proj.bias.zero_()
        x = torch.randn(1, 32, 4, 4)
        before = layer(x)
        layer.qkv.weight[:8] += 1  # the queries of the first head
        moved = (layer(x) - before).abs().amax((0, 2, 3)) > 1e-6
    assert moved.tolist() == [True] * 8 + [False] * 24


def test_no_label_is_the_one_that_says_nothing():
    model = ours_perturbed(ARCHITECTURE)
    inputs = model.example_inputs(2)
    silent = {name: inputs[name] for name in ("image", "timestep")}
    nothing = torch.full((2,), model.config.num_classes)
    assert torch.equal(model(**silent), model(**silent, label=nothing))
    assert not torch.equal(model(**silent), model(**inputs))


def test_a_network_without_that_label_needs_one_and_one_without_classes_takes_none():
    told = build(ARCHITECTURE, UNetConfig(image_size=8, channels=(32, 32), num_classes=2, null_label=False))
    untold = build(ARCHITECTURE, UNetConfig(image_size=8, channels=(32, 32)))
    inputs = {"image": torch.randn(2, 3, 8, 8), "timestep": torch.tensor([3, 4])}
    with pytest.raises(ValueError, match="needs a label for each image"):
        told(**inputs)
    with pytest.raises(ValueError, match="takes no label; create it with num_classes"):
        untold(**inputs, label=torch.tensor([0, 1]))
    with pytest.raises(ValueError, match=r"label must be an int64 tensor, got torch\.float32"):
        told(**inputs, label=torch.tensor([0.0, 1.0]))


def test_an_image_that_cannot_be_halved_is_refused():
    model = build(ARCHITECTURE, UNetConfig(image_size=16, channels=(32, 32, 32)))
    for size in ((16, 14), (10, 16)):
        with pytest.raises(ValueError, match=rf"{size[0]} x {size[1]} pixels cannot be halved; .* multiples of 4"):
            model(torch.randn(1, 3, *size), torch.tensor([3]))


def test_dropout_stands_before_the_second_convolution():
    model = build(ARCHITECTURE, UNetConfig(image_size=8, channels=(32,), attention_levels=(), dropout=0.5))
    seen = []
    for module in model.modules():
        if isinstance(module, Block):
            module.conv2.register_forward_pre_hook(
                lambda _, inputs: seen.append((inputs[0] == 0).float().mean().item())
            )
    inputs = model.example_inputs(2)
    model.train()(**inputs)
    assert all(share == pytest.approx(0.5, abs=0.1) for share in seen)
    seen.clear()
    model.eval()(**inputs)
    assert max(seen) < 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 36}, "image_size 36 cannot be halved 3 times, for 4 levels"),
        ({"channels": ()}, r"channels \(\) must be one number above 0 for each level"),
        ({"channels": (48,), "attention_levels": ()}, "channels 48 is not divisible by norm_groups 32"),
        ({"attention_levels": (4,)}, "attention_levels has 4, and the levels are 0 to 3"),
        ({"head_dim": 60}, "channels 256 is not divisible by head_dim 60"),
        ({"num_heads": 3}, "channels 256 is not divisible by num_heads 3"),
        ({"num_heads": 0}, "num_heads 0 is below 1"),
        ({"out_channels": 0}, "out_channels 0 is below 1"),
        ({"freq_shift": 64}, r"freq_shift 64 is not in \[0, 128 / 2\)"),
        ({"channels": (3,), "norm_groups": 1, "attention_levels": ()}, "the first of channels, 3, is odd"),
        ({"num_classes": -1}, "num_classes -1 is negative"),
        ({"norm_eps": 0.0}, "norm_eps 0.0 is not positive"),
        ({"dropout": 1.0}, r"dropout 1.0 is not in \[0, 1\)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        UNetConfig(**options)


def test_a_library_without_such_a_network_writes_no_file(tmp_path):
    model = build(ARCHITECTURE, UNetConfig(image_size=8, channels=(32, 64), num_heads=4))
    with pytest.raises(ValueError, match=r"diffusers has no unet with num_heads 4; format='zoo' has"):
        zoo.export_weights(model, tmp_path / "out.safetensors", format="diffusers")
