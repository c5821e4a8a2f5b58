"""Folders of diffusers: a network alone, in a pipeline or in several files; what cannot be read is told."""

import contextlib
import itertools
import json

import pytest
import torch
from laws import perturbed
from safetensors.torch import load_file, save_file

import zoo
from zoo.architectures.unet import ARCHITECTURE, UNetConfig
from zoo.config import ConfigError
from zoo.convert.unet import read_config
from zoo.storage import DamagedFile

FILE = "diffusion_pytorch_model.safetensors"


def google(size, channels, level):
    """What the repositories of Google's networks say."""
    down = ["AttnDownBlock2D" if here == level else "DownBlock2D" for here in range(len(channels))]
    return {
        "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": None,
        "block_out_channels": channels, "center_input_sample": False, "down_block_types": down,
        "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2,
        "mid_block_scale_factor": 1, "norm_eps": 1e-6, "norm_num_groups": 32, "out_channels": 3, "sample_size": size,
        "time_embedding_type": "positional",
        "up_block_types": [name.replace("Down", "Up") for name in down[::-1]],
    }  # fmt: skip


HUB = {
    "ddpm_cifar10_32": google(32, [128, 256, 256, 256], 1),
    "ddpm_celebahq_256": google(256, [128, 128, 256, 256, 512, 512], 4),
    "adm_64": {  # what the consistency models that were distilled from it say
        "_class_name": "UNet2DModel", "attention_head_dim": 64, "attn_norm_num_groups": 32,
        "block_out_channels": [192, 384, 576, 768], "downsample_type": "resnet", "upsample_type": "resnet",
        "down_block_types": ["ResnetDownsampleBlock2D", *["AttnDownBlock2D"] * 3], "layers_per_block": 3,
        "up_block_types": [*["AttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"], "num_class_embeds": 1000,
        "resnet_time_scale_shift": "scale_shift", "sample_size": 64, "out_channels": 6,
    },
}  # fmt: skip


@pytest.mark.parametrize("preset", HUB)
def test_a_config_on_the_hub_is_the_preset(preset, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(HUB[preset]))
    assert zoo.config(f"local-dir:{tmp_path}") == ARCHITECTURE.preset(preset)


def test_what_averaged_weights_say_of_their_average_is_passed_over():
    facts = {"decay": 0.9999, "inv_gamma": 1.0, "optimization_step": 5000, "power": 0.75, "use_ema_warmup": True}
    assert read_config(HUB["ddpm_cifar10_32"] | facts) == read_config(HUB["ddpm_cifar10_32"])


def test_the_last_level_of_either_way_resamples_nothing_whatever_it_is_called():
    adm = HUB["adm_64"] | {"attention_head_dim": 192}
    plain = {"down_block_types": ["ResnetDownsampleBlock2D"] * 3 + ["DownBlock2D"]}
    plain |= {"up_block_types": ["ResnetUpsampleBlock2D"] * 3 + ["UpBlock2D"]}
    assert read_config(adm | plain)["resample"] == "block"
    mixed = {"down_block_types": ["DownBlock2D"] * 4, "up_block_types": ["UpBlock2D"] * 3 + ["ResnetUpsampleBlock2D"]}
    assert read_config(adm | mixed)["resample"] == "conv"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_embedding_type": "fourier"}, "time_embedding_type is 'fourier', and .* only 'positional'"),
        ({"class_embed_type": "timestep"}, "class_embed_type is 'timestep', and .* only None"),
        ({"act_fn": "gelu"}, "act_fn is 'gelu', and this architecture knows only 'silu' or 'swish'"),
        ({"mid_block_type": None}, "mid_block_type is None, and .* only 'UNetMidBlock2D'"),
        ({"add_attention": False}, "add_attention is False, and .* only True"),
        ({"center_input_sample": True}, "center_input_sample is True, and .* only False"),
        ({"mid_block_scale_factor": 2}, "mid_block_scale_factor is 2, and .* only 1"),
        ({"downsample_padding": 2}, "downsample_padding is 2, and .* only 1 or 0"),
        ({"time_embedding_dim": 128}, "time_embedding_dim is 128, and .* only None or 512"),
        ({"attn_norm_num_groups": 16}, "attn_norm_num_groups is 16, and .* only None or 32"),
        ({"resnet_time_scale_shift": "scale_shift"}, "attn_norm_num_groups is None, and .* only 32"),
        ({"down_block_types": ["SkipDownBlock2D"] * 4}, "down_block_types is .* knows only 4 of DownBlock2D, AttnDown"),
        ({"down_block_types": ["DownBlock2D"] * 3}, "down_block_types is .* knows only 4 of DownBlock2D, AttnDown"),
        ({"down_block_types": ["DownBlock2D"] * 4}, "differ in attention, or in what resamples"),
        ({"upsample_type": "resnet"}, "differ in attention, or in what resamples"),
        ({"sample_size": [32, 64]}, "image_size must be a whole number"),
        ({"sample_size": 36}, "image_size 36 cannot be halved 3 times"),
        ({"block_out_channels": 4}, "block_out_channels is 4; expected whole numbers"),
        ({"cross_attention_dim": 768}, "'cross_attention_dim' is no setting of a UNet2DModel"),
        ({"_class_name": "UNet2DConditionModel"}, "_class_name 'UNet2DConditionModel'; did you mean UNet2DModel"),
    ],
    ids=str,
)
def test_a_config_that_ours_cannot_be_is_refused(tmp_path, change, message):
    (tmp_path / "config.json").write_text(json.dumps(HUB["ddpm_cifar10_32"] | change))
    with pytest.raises(ConfigError, match=message):
        zoo.create(f"local-dir:{tmp_path}")


@pytest.mark.peers
def test_a_config_that_says_anything_at_all_is_read_or_refused(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    names = diffusers.UNet2DModel(norm_num_groups=1, block_out_channels=(2, 2, 2, 2), attention_head_dim=1).config
    assert read_config({name: value for name, value in names.items() if name != "norm_num_groups"})["norm_groups"] == 32
    for name, value in itertools.product(names, [None, ["a"], [[]], {}, "linear", 0, True]):
        (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel", name: value}))
        with contextlib.suppress(ConfigError):
            zoo.config(f"local-dir:{tmp_path}")


def images():
    draw = torch.Generator().manual_seed(1)
    return {"image": torch.randn(2, 3, 8, 8, generator=draw), "timestep": torch.tensor([3, 900])}


@pytest.fixture
def folder(tmp_path):
    """A small network as diffusers would store it, and ours."""
    model = perturbed(ARCHITECTURE, UNetConfig(image_size=8, channels=(32, 32), depth=1))
    zoo.export_weights(model, tmp_path / FILE, format="diffusers")
    (tmp_path / "config.json").write_text(json.dumps(google(8, [32, 32], 1) | {"layers_per_block": 1}))
    return tmp_path, model


@torch.no_grad()
def test_of_a_pipeline_s_folder_the_network_that_denoises_is_read(folder, tmp_path):
    place, model = folder
    for part in ("unet", "vae"):
        (tmp_path / "pipeline" / part).mkdir(parents=True)
    (tmp_path / "pipeline" / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL"}))
    (tmp_path / "pipeline" / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    for name in ("config.json", FILE):
        (tmp_path / "pipeline" / "unet" / name).write_bytes((place / name).read_bytes())
    for found in (
        zoo.create(f"local-dir:{tmp_path / 'pipeline'}"),
        zoo.create(f"local-dir:{tmp_path / 'pipeline' / 'unet'}"),
        zoo.create("unet", weights=tmp_path / "pipeline"),
        zoo.create(model.config, weights=place),
    ):
        assert found.config == model.config
        assert torch.equal(found.eval()(**images()), model(**images()))


def test_a_network_in_several_files_is_read_and_what_is_missing_is_told(folder):
    place, model = folder
    tensors = load_file(place / FILE)
    (place / FILE).unlink()
    with pytest.raises(DamagedFile, match=rf"{FILE}: missing; fetch it too"):
        zoo.create(f"local-dir:{place}")
    (place / "diffusion_pytorch_model.bin").touch()
    with pytest.raises(
        ValueError, match=rf"has no {FILE}, and diffusion_pytorch_model\.bin is not loaded, for pickled"
    ):
        zoo.create(f"local-dir:{place}")
    with pytest.raises(ValueError, match=r"only \.safetensors files and folders are loaded"):
        zoo.create(model.config, weights=place / "diffusion_pytorch_model.bin")
    names = [f"diffusion_pytorch_model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    places = {name: names[index % 2] for index, name in enumerate(tensors)}
    for name in names:
        save_file({tensor: tensors[tensor] for tensor in tensors if places[tensor] == name}, place / name)
    index = place / f"{FILE}.index.json"
    with pytest.raises(DamagedFile, match=r"model\.safetensors\.index\.json: missing, and only it says what belongs"):
        zoo.create(f"local-dir:{place}")
    index.write_text(json.dumps({"weight_map": places}))
    assert zoo.create(f"local-dir:{place}").load_report.loaded == len(model.state_dict())
    with pytest.raises(ValueError, match="is the index of weights in several files; give their folder"):
        zoo.create(model.config, weights=index)
    index.write_text(json.dumps({"weight_map": dict.fromkeys(places, "../" + names[0])}))
    with pytest.raises(DamagedFile, match="names files that no model has"):
        zoo.create(f"local-dir:{place}")
