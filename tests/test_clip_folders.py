"""Folders of transformers and open_clip are read whole: network, weights, and how images are prepared."""

import contextlib
import dataclasses
import itertools
import json
import math

import pytest
import torch
from comparison import largest_difference
from peer_libraries import imported
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_sample_image
from test_clip import OPENAI, RESNET, VIT, inputs, of, of_open_clip, of_transformers, ours_of, shake

import zoo
from zoo.config import ConfigError
from zoo.storage import DamagedFile

ENDS = {"the largest token": None, "a token of its own": 7}


def close(ours, theirs):
    given = inputs(ours.config)
    return all(largest_difference(*pair) < 2e-5 for pair in zip(ours_of(ours, *given), of(theirs, *given), strict=True))


@pytest.mark.peers
@pytest.mark.parametrize("end", ENDS)
@torch.no_grad()
def test_a_folder_of_transformers_is_the_peer(end, tmp_path):
    config = dataclasses.replace(VIT, end_token=ENDS[end], activation="gelu", norm_eps=1e-3, image_size=20)
    theirs = of_transformers(config).eval()
    shake(theirs)
    theirs.save_pretrained(tmp_path)
    ours = zoo.create(f"local-dir:{tmp_path}").eval()
    assert ours.config == config
    assert close(ours, theirs)


@pytest.mark.peers
def test_an_old_folder_of_transformers_is_read_as_today_s(tmp_path):
    """Both towers' settings stood under two names, and tables of 0, 1, 2, ... among the tensors."""
    theirs = of_transformers(VIT)
    theirs.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["text_config_dict"] = dict(config["text_config"])
    config["text_config"] = {"vocab_size": 99}
    path.write_text(json.dumps(config))
    tensors = load_file(tmp_path / "model.safetensors")
    for name in ("text", "vision"):
        tensors[f"{name}_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    ours = zoo.create(f"local-dir:{tmp_path}").eval()
    assert ours.config == VIT
    assert len(ours.load_report.ignored) == 2
    assert close(ours, theirs.eval())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text_config": {"hidden_act": "relu"}, "vision_config": {"hidden_act": "relu"}}, "relu"),
        (
            {"text_config": {"hidden_act": "gelu"}},
            "hidden_act is 'gelu', and this architecture knows only 'quick_gelu'",
        ),
        ({"text_config": {"attention_dropout": 0.1}}, r"attention_dropout is 0\.1"),
        ({"text_config": {"eos_token_id": [1, 2]}}, "end_token"),
        ({"text_config": {"eos_token_id": 99999}}, "end_token 99999 is not among the 49408 tokens"),
        ({"vision_config": 3}, "vision_config must be an object, got 3"),
        ({"architectures": ["CLIPVisionModel"]}, "architectures names 'CLIPVisionModel'"),
    ],
    ids=str,
)
def test_a_config_of_which_ours_has_no_network_is_refused(change, message, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip", **change}))
    with pytest.raises(ConfigError, match=message):
        zoo.config(f"local-dir:{tmp_path}")


def settings(config, **facts):
    """What open_clip's file says of one of our configs."""
    vit = config.vision == "vit"
    model = {
        "embed_dim": config.dim,
        "quick_gelu": config.activation == "quick_gelu",
        "vision_cfg": {
            "image_size": config.image_size,
            "layers": config.vision_depth if vit else list(config.vision_depths),
            "width": config.vision_dim if vit else config.vision_width,
            "head_width": config.vision_features // config.vision_num_heads,
            "patch_size": config.patch_size if vit else None,
        },
        "text_cfg": {
            "context_length": config.max_seq_len,
            "vocab_size": config.vocab_size,
            "width": config.text_dim,
            "heads": config.text_num_heads,
            "layers": config.text_depth,
        },
    }
    prepared = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    return {"model_cfg": model | facts, "preprocess_cfg": prepared}


@pytest.mark.peers
@pytest.mark.parametrize("beside", [None, {"architecture": "vit_tiny"}, {"model_type": "clip"}], ids=str)
@pytest.mark.parametrize("config", [VIT, RESNET, dataclasses.replace(VIT, activation="gelu")], ids=["v", "r", "gelu"])
@torch.no_grad()
def test_a_folder_of_open_clip_is_the_peer(config, beside, tmp_path):
    """Also where a config.json of timm's, or of transformers', lies beside it."""
    open_clip = imported("open_clip")

    theirs = of_open_clip(config).eval()
    shake(theirs)
    save_file({n: t.clone() for n, t in theirs.state_dict().items()}, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings(config)))
    if beside is not None:
        (tmp_path / "config.json").write_text(json.dumps(beside))
    name = f"local-dir:{tmp_path}"
    ours = zoo.create(name).eval()
    assert ours.config == config
    assert close(ours, theirs)
    photo = Image.fromarray(load_sample_image("china.jpg"))
    prepare = open_clip.image_transform(config.image_size, is_train=False, mean=[0.5] * 3, std=[0.25] * 3)
    torch.testing.assert_close(zoo.transforms(name)(photo), prepare(photo), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vision_cfg": {"timm_model_name": "vit_tiny"}}, "timm_model_name is 'vit_tiny', and .* knows only None"),
        ({"text_cfg": {"hf_model_name": "roberta"}}, "hf_model_name is 'roberta'"),
        (
            {"text_cfg": {"pool_type": "last"}},
            "pool_type is 'last', and .* knows only 'argmax' or 'eos'",
        ),
        ({"vision_cfg": {"width": "wide"}}, "width must be a number, got 'wide'"),
        ({"vision_cfg": {"image_size": [224, 192]}}, "image_size"),
        ({"vision_cfg": []}, "vision_dim|patch"),
    ],
    ids=str,
)
def test_a_folder_of_open_clip_of_which_ours_has_no_network_is_refused(change, message, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": change}))
    if change == {"vision_cfg": []}:  # silence means open_clip's defaults
        assert zoo.config(f"local-dir:{tmp_path}").patch_size == 16
        return
    with pytest.raises(ConfigError, match=message):
        zoo.config(f"local-dir:{tmp_path}")


def test_a_folder_of_open_clip_without_its_tensors_says_which_file_is_missing(tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(settings(VIT)))
    with pytest.raises(DamagedFile, match=r"open_clip_model\.safetensors: missing; fetch it too"):
        zoo.create(f"local-dir:{tmp_path}")


@pytest.mark.peers
def test_openai_s_archive_is_read_with_the_numbers_beside_its_network_and_in_half_precision(tmp_path):
    theirs = of_open_clip(OPENAI)
    shake(theirs)
    tensors = {name: tensor.half() for name, tensor in theirs.state_dict().items()}
    numbers = {"input_resolution": 16, "context_length": 10, "vocab_size": 64}
    save_file(tensors | {name: torch.tensor(value) for name, value in numbers.items()}, tmp_path / "w.safetensors")
    fields = {field.name: getattr(OPENAI, field.name) for field in dataclasses.fields(OPENAI)}
    ours = zoo.create("clip", weights=tmp_path / "w.safetensors", **fields)
    assert set(ours.load_report.ignored) == set(numbers)
    assert {tensor.dtype for tensor in ours.state_dict().values()} == {torch.float16}
    again = load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format="openai"))
    assert again.keys() == tensors.keys()
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("config", "format", "message"),
    [
        (VIT, "openai", "openai has no clip with text_num_heads 3"),
        (dataclasses.replace(OPENAI, activation="gelu"), "openai", "openai has no clip with activation 'gelu'"),
        (RESNET, "transformers", "transformers has no clip with vision 'resnet'"),
        (dataclasses.replace(VIT, logit_bias=0.0), "transformers", "transformers has no clip with logit_bias"),
        (dataclasses.replace(VIT, vision="text"), "open_clip", "open_clip has no clip with vision 'text'"),
    ],
    ids=str,
)
def test_a_network_that_a_library_lacks_is_not_written_for_it(config, format, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        zoo.export_weights(zoo.create(config), tmp_path / "out.safetensors", format=format)


PROCESSORS = {
    "clip": {"size": {"shortest_edge": 30}, "crop_size": {"height": 24, "width": 24}, "do_center_crop": True},
    "old": {"size": 24, "crop_size": 24, "do_center_crop": True},
    "square": {"size": 24, "do_center_crop": False},
    "squash": {"size": {"height": 24, "width": 24}, "do_center_crop": False},
}


@pytest.mark.peers
@pytest.mark.parametrize("case", PROCESSORS)
@pytest.mark.parametrize("photo", ["china.jpg", "flower.jpg"])
def test_images_are_prepared_as_transformers_would(case, photo, tmp_path):
    transformers = pytest.importorskip("transformers")
    facts = {"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4], "resample": 3, **PROCESSORS[case]}
    of_transformers(dataclasses.replace(VIT, image_size=24)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    image = Image.fromarray(load_sample_image(photo)).resize((640, 480))  # of an odd margin they cut half a pixel less
    kind = transformers.ViTImageProcessorPil if case == "square" else transformers.CLIPImageProcessorPil
    theirs = kind.from_pretrained(tmp_path)(image, return_tensors="pt").pixel_values[0]
    torch.testing.assert_close(zoo.transforms(f"local-dir:{tmp_path}")(image), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("change", [{"resample": 1}, {"do_rescale": False}, {"size": "large"}, {"crop_size": [2, 3]}])
def test_images_that_are_prepared_in_no_way_of_ours_have_no_record(change, tmp_path):
    facts = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "do_center_crop": True, **PROCESSORS["clip"], **change}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip"}))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(facts))
    with pytest.raises(ConfigError, match="says nothing of its inputs"):
        zoo.transforms(f"local-dir:{tmp_path}")


@pytest.mark.parametrize("kind", ["clip", "open_clip"])
def test_a_tower_s_config_that_says_anything_at_all_is_read_or_refused(kind, tmp_path):
    from zoo.convert import clip, open_clip

    file = "config.json" if kind == "clip" else open_clip.CONFIG
    fields = {"hidden_size", "num_hidden_layers", "eos_token_id", "hidden_act", "layer_norm_eps", "image_size"}
    fields |= {"width", "layers", "mlp_ratio", "head_width", "heads", "pool_type", "eos_id", *open_clip.PLAIN}
    reader = clip.MODEL_TYPES[kind]
    assert reader({"model_cfg": {}})["dim"] == 512
    for tower, name, value in itertools.product(("vision", "text"), sorted(fields), (None, ["a"], {}, "linear", 0, -1)):
        told = {f"{tower}_{'config' if kind == 'clip' else 'cfg'}": {name: value}}
        told = {"model_type": "clip", **told} if kind == "clip" else {"model_cfg": told}
        (tmp_path / file).write_text(json.dumps(told))
        with contextlib.suppress(ConfigError):
            zoo.config(f"local-dir:{tmp_path}")


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"preprocess_cfg": {}}, "model_cfg, which describes the network, is missing"),
        ({"model_cfg": {"vision_cfg": {"width": math.inf}}}, "width must be a finite number, got inf"),
        ({"model_cfg": {"vision_cfg": {"mlp_ratio": math.nan}}}, "mlp_ratio must be a finite number, got nan"),
        ({"model_cfg": {"vision_cfg": {"head_width": -math.inf}}}, "head_width must be a finite number"),
        ({"model_cfg": {"text_cfg": {"mlp_ratio": 10**400}}}, "mlp_ratio must be a finite number"),
        ({"model_cfg": {"init_logit_bias": math.nan}}, "init_logit_bias must be a finite number"),
        ({"model_cfg": {"text_cfg": {"layers": math.inf}}}, "text_depth"),
    ],
    ids=["no network", "width", "mlp_ratio", "head_width", "a number too large", "bias", "depth"],
)
def test_an_open_clip_config_without_a_network_or_with_no_finite_numbers_is_refused_by_name(told, message, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(json.dumps(told))
    with pytest.raises(ConfigError, match=message):
        zoo.config(f"local-dir:{tmp_path}")
