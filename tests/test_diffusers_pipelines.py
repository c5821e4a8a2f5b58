"""Pipelines of diffusers: what their parts say of noise and latents, and the same images as they draw."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.config import ConfigError
from zoo.convert.scheduler import noise
from zoo.diffusion import Diffusion, DiffusionConfig
from zoo.pipelines import sample
from zoo.pipelines.sample import classes_of
from zoo.preprocess import preprocessing
from zoo.training.random import Rows

CHANNELS = {"in_channels": 3, "out_channels": 3, "norm_num_groups": 4, "layers_per_block": 1}
UNET = {
    "sample_size": 8, "block_out_channels": (8, 16), "attention_head_dim": 8,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    **CHANNELS,
}  # fmt: skip
DIT = {
    "sample_size": 4, "num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4,
    "out_channels": 8, "num_embeds_ada_norm": 3, "norm_type": "ada_norm_zero", "norm_elementwise_affine": False,
}  # fmt: skip
VAE = {
    "block_out_channels": (4, 8), "latent_channels": 4, "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2, "scaling_factor": 0.7, "shift_factor": 0.1, **CHANNELS,
}  # fmt: skip


def start(count, shape, name="noise"):
    """The noise that `sample` begins with."""
    return Rows(0, "sample/", [(0, index) for index in range(count)], torch.device("cpu")).normal(name, shape)


def peer(name, config, folder, seed=0):
    """A network of diffusers, in a folder; biases are drawn too, so that nothing is zero."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(seed)
    network = getattr(diffusers, name)(**config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    if name == "DiTTransformer2DModel":  # theirs has an embedder in each block; in real files they are equal
        for block in network.transformer_blocks[1:]:
            block.norm1.emb.load_state_dict(network.transformer_blocks[0].norm1.emb.state_dict())
    network.save_pretrained(folder)
    return network


def scheduler(folder, kind="DDPMScheduler", **options):
    diffusers = pytest.importorskip("diffusers")
    made = getattr(diffusers, kind)(**options)
    made.save_pretrained(folder)
    return made


def ddim(made):
    """Their deterministic sampler of the same noise, at the steps that ours takes."""
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(made.config, timestep_spacing="trailing")


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("clipping", [{}, {"clip_sample": False}, {"clip_sample_range": 2.0}], ids=str)
@torch.no_grad()
def test_a_pipeline_s_images_are_drawn(tmp_path, beta_schedule, prediction_type, clipping):
    network = peer("UNet2DModel", UNET, tmp_path / "unet")
    noise = {"beta_schedule": beta_schedule, "prediction_type": prediction_type}
    made = scheduler(tmp_path / "scheduler", **noise, **clipping)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DDPMPipeline"}))
    steps = ddim(made)
    steps.set_timesteps(10)  # theirs steps rightly only where this divides 1000
    image = start(3, (3, 8, 8))
    for timestep in steps.timesteps:
        output = network(image, timestep).sample
        image = steps.step(output, timestep, image).prev_sample
    expected = (image / 2 + 0.5).clamp(0, 1)
    assert expected.std() > 0.1
    for place in (tmp_path, tmp_path / "unet"):
        found = sample(zoo.create(f"local-dir:{place}"), 3, steps=10, sampler="ddim")
        assert (found - expected).abs().max() < 1e-3  # theirs moves by 2e-4 where its noise does by 1e-7 of itself


@pytest.mark.peers
@pytest.mark.parametrize("clipping", [{}, {"clip_sample": False}], ids=str)
@torch.no_grad()
def test_a_latent_pipeline_s_images_are_drawn_by_its_own_first_stage(tmp_path, run, clipping):
    network = peer("DiTTransformer2DModel", DIT, tmp_path / "transformer")
    vae = peer("AutoencoderKL", VAE, tmp_path / "vae")
    made = scheduler(tmp_path / "scheduler", "DDIMScheduler", **clipping)
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline"}))
    steps = ddim(made)
    steps.set_timesteps(8)
    x, labels = start(4, (4, 4, 4)), torch.tensor([2, 0, 2, 0])
    for timestep in steps.timesteps:
        asked, nothing = (
            network(x, timestep.expand(4), class_labels=told).sample[:, :4] for told in (labels, torch.full((4,), 3))
        )
        x = steps.step(nothing + 1.5 * (asked - nothing), timestep, x).prev_sample
    expected = (vae.decode(x / 0.7 + 0.1).sample / 2 + 0.5).clamp(0, 1)
    assert expected.std() > 0.1
    asked = {"label": [2, 0], "steps": 8, "sampler": "ddim", "guidance": 1.5}
    model = zoo.create(f"local-dir:{tmp_path}")
    found = sample(model, 4, **asked, vae=zoo.create(f"local-dir:{tmp_path / 'vae'}"))
    assert (found - expected).abs().max() < 1e-4
    options = ["--label", 2, "--label", 0, "--steps", 8, "--sampler", "ddim", "--guidance", 1.5, "--count", 4]
    corner = expected[0].movedim(0, -1).repeat_interleave(6, 0).repeat_interleave(6, 1)
    for place in (tmp_path, tmp_path / "transformer"):
        run("sample", f"local-dir:{place}", "--out", tmp_path / "a.png", *options)
        picture = np.asarray(Image.open(tmp_path / "a.png"))
        assert np.abs(picture[2:50, 2:50] / 255 - corner.numpy()).max() < 0.5 / 255 + 1e-4


SAME = {
    "DDPMScheduler": {},
    "DDIMScheduler": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "PNDMScheduler": {"beta_schedule": "scaled_linear"},
    "DPMSolverMultistepScheduler": {"beta_start": 0.001, "beta_end": 0.01, "num_train_timesteps": 400},
    "UniPCMultistepScheduler": {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 100},
}


@pytest.mark.peers
@pytest.mark.parametrize("kind", SAME)
def test_the_noise_of_a_scheduler_is_the_peer_s(kind, tmp_path):
    theirs = scheduler(tmp_path, kind, **SAME[kind])
    found = noise(json.loads((tmp_path / "scheduler_config.json").read_text()))
    ours = DiffusionConfig(**found).made()
    assert isinstance(ours, Diffusion)
    alpha, _ = ours.schedule.level(torch.arange(len(theirs.alphas_cumprod)))
    assert torch.allclose(alpha.square(), theirs.alphas_cumprod, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"_class_name": "DDPMScheduler"}, DiffusionConfig()),
        ({"_class_name": "DDPMScheduler", "prediction_type": "sample"}, DiffusionConfig(prediction="x0")),
        ({"_class_name": "DDIMScheduler", "clip_sample_range": 2.0}, DiffusionConfig(clip=2.0)),
        (
            {"_class_name": "DDIMScheduler", "clip_sample": False, "clip_sample_range": 2.0},
            DiffusionConfig(clip=None),
        ),
        ({"_class_name": "HeunDiscreteScheduler"}, DiffusionConfig(clip=None)),
        ({"_class_name": "HeunDiscreteScheduler", "clip_sample": True}, DiffusionConfig()),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "clip_sample": True, "use_karras_sigmas": True},
            DiffusionConfig(clip=None),
        ),
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
            DiffusionConfig(schedule="flow", prediction="velocity", schedule_options={"shift": 3.0}, clip=None),
        ),
    ],
    ids=["silence", "x0", "clip 2", "no clip", "heun", "heun that clips", "steps of another spacing", "flow"],
)
def test_what_a_scheduler_says_becomes_schedule_and_prediction(theirs, ours):
    assert DiffusionConfig(**noise(theirs)) == ours


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ({"_class_name": "KarrasVeScheduler"}, "the scheduler 'KarrasVeScheduler' is none of DDPMScheduler"),
        ({}, "the scheduler None is none of"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid', and known here are linear, scaled_linear"),
        ({"beta_schedule": ["linear"]}, "beta_schedule is .'linear'., and known"),
        ({"prediction_type": "score"}, "prediction_type is 'score', and known here are epsilon, sample"),
        ({"trained_betas": [0.1, 0.2]}, "trained_betas is set"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr is set"),
        ({"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas is set"),
        ({"_class_name": "DPMSolverMultistepScheduler", "use_flow_sigmas": True}, "use_flow_sigmas is set"),
        ({"beta_end": 2.0}, "schedule option end 2.0 must lie between 0 and 1"),
        ({"clip_sample_range": -1.0}, "clip -1.0 is not positive"),
        ({"beta_start": "small"}, "schedule_options"),
        ({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": True}, "the shift is one number"),
    ],
    ids=str,
)
def test_noise_that_ours_is_not_is_told_and_the_network_still_read(theirs, message, tmp_path):
    known = {"_class_name": "DDPMScheduler"} if theirs and "_class_name" not in theirs else {}
    with pytest.raises(ConfigError, match=message):
        noise(known | theirs)
    written(tmp_path, known | theirs)
    with pytest.warns(UserWarning, match=f"scheduler_config.json: .*{message}.*it is not known how to draw"):
        found = zoo.create(f"local-dir:{tmp_path}")
    assert preprocessing(found).diffusion == {}
    with pytest.raises(ConfigError, match="does not say what noise it was trained on"):
        sample(found, 1)
    (tmp_path / "scheduler_config.json").write_text(json.dumps({"_class_name": "DDPMScheduler"}))
    assert preprocessing(zoo.create(f"local-dir:{tmp_path}")).diffusion["schedule"] == "linear"


def test_thresholds_of_each_step_are_told_to_be_one_for_all(tmp_path):
    for clip in (True, False):
        written(tmp_path, {"_class_name": "DDIMScheduler", "thresholding": True, "clip_sample": clip})
        with pytest.warns(UserWarning, match="thresholding is set, which is not known here; .* clipped at 1 instead"):
            found = zoo.create(f"local-dir:{tmp_path}")
        assert preprocessing(found).diffusion["clip"] == 1


def written(tmp_path, theirs):
    """A folder with a network of diffusers and a scheduler's config."""
    model = zoo.create("unet", image_size=8, channels=(8, 8), norm_groups=2, head_dim=8)
    zoo.export_weights(model, tmp_path / "diffusion_pytorch_model.safetensors", format="diffusers")
    config = {
        "_class_name": "UNet2DModel", "sample_size": 8, "block_out_channels": [8, 8], "norm_num_groups": 2,
        "down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"],
        "freq_shift": 1, "flip_sin_to_cos": False, "norm_eps": 1e-6, "downsample_padding": 0,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "scheduler_config.json").write_text(json.dumps(theirs))


@pytest.mark.peers
def test_classes_are_asked_for_by_the_names_that_a_pipeline_gives_them(tmp_path, run):
    peer("DiTTransformer2DModel", DIT, tmp_path / "transformer")
    peer("AutoencoderKL", VAE, tmp_path / "vae")
    scheduler(tmp_path / "scheduler", "DDIMScheduler", clip_sample=False)
    names = {"0": "tench, Tinca tinca", "2": "crane"}  # of the class between nothing is said
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline", "id2label": names}))
    for place in (tmp_path, tmp_path / "transformer"):
        model = zoo.create(f"local-dir:{place}")
        assert model.provenance.labels == ("tench, Tinca tinca", "1", "crane")
        assert classes_of(model, 5, ["Tinca tinca", "crane", "tench", 1, names["0"]]) == [0, 2, 0, 1, 0]
    run("sample", f"local-dir:{tmp_path}", "--label", "Tinca tinca", "--steps", 1, "--out", tmp_path / "a.png")
    for nothing in ({}, None, ["crane"]):
        (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "DiTPipeline", "id2label": nothing}))
        assert zoo.create(f"local-dir:{tmp_path}").provenance.labels == ()


@pytest.mark.peers
def test_a_first_stage_keeps_by_what_its_latents_are_scaled(tmp_path):
    peer("AutoencoderKL", VAE, tmp_path / "theirs")
    model = zoo.create(f"local-dir:{tmp_path / 'theirs'}")
    zoo.save(model, tmp_path / "ours")
    for record in (preprocessing(model), preprocessing(zoo.load(tmp_path / "ours"))):
        assert (record.latent_scale, record.latent_shift) == (0.7, 0.1)
    peer("AutoencoderKL", VAE | {"latents_mean": (0.0,) * 4, "latents_std": (1.0,) * 4}, tmp_path / "odd")
    with pytest.raises(ConfigError, match="latents_mean and latents_std are set"):
        zoo.create(f"local-dir:{tmp_path / 'odd'}")
