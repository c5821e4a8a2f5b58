"""CLIP is open_clip's and transformers' network: features, logits, gradients, and the files that are written back."""

import dataclasses

import pytest
import torch
from comparison import largest_difference, perturbed
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from zoo.architectures.clip import CLIPConfig
from zoo.convert import foreign_tensors, peers

TEXT = {"text_dim": 24, "text_depth": 2, "text_num_heads": 3, "text_mlp_dim": 96, "vocab_size": 64, "max_seq_len": 10}
VIT = CLIPConfig(
    **TEXT, image_size=16, patch_size=4, vision_dim=32, vision_depth=3, vision_num_heads=4, vision_mlp_dim=128, dim=16
)
RESNET = CLIPConfig(
    **TEXT, vision="resnet", image_size=64, vision_depths=(2, 1, 2, 1), vision_width=8, vision_num_heads=4, dim=16
)
OPENAI = dataclasses.replace(  # with heads of 64 channels
    VIT, vision_dim=128, vision_num_heads=2, vision_mlp_dim=512, text_dim=64, text_num_heads=1, text_mlp_dim=256
)
CASES = {
    "open_clip vit": ("open_clip", VIT),
    "open_clip gelu": ("open_clip", dataclasses.replace(VIT, activation="gelu", logit_bias=-10.0)),
    "open_clip resnet": ("open_clip", RESNET),
    "openai": ("openai", OPENAI),
    "transformers": ("transformers", VIT),
    "transformers gelu": ("transformers", dataclasses.replace(VIT, activation="gelu", end_token=7, norm_eps=1e-3)),
}


def of_open_clip(config):
    from peer_libraries import open_clip

    vit = config.vision == "vit"
    vision = {
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "layers": config.vision_depth if vit else config.vision_depths,
        "width": config.vision_dim if vit else config.vision_width,
        "head_width": config.vision_features // config.vision_num_heads,
    }
    text = {
        "context_length": config.max_seq_len,
        "vocab_size": config.vocab_size,
        "width": config.text_dim,
        "heads": config.text_num_heads,
        "layers": config.text_depth,
    }
    quick = config.activation == "quick_gelu"
    return open_clip.model.CLIP(
        config.dim,
        open_clip.model.CLIPVisionCfg(**vision),
        open_clip.model.CLIPTextCfg(**text),
        quick_gelu=quick,
        init_logit_bias=config.logit_bias,
    )


def of_transformers(config):
    transformers = pytest.importorskip("transformers")
    both = {"hidden_act": config.activation, "layer_norm_eps": config.norm_eps}
    vision = {
        "image_size": config.image_size,
        "patch_size": config.patch_size,
        "hidden_size": config.vision_dim,
        "num_hidden_layers": config.vision_depth,
        "num_attention_heads": config.vision_num_heads,
        "intermediate_size": config.vision_mlp_dim,
    }
    text = {
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_seq_len,
        "hidden_size": config.text_dim,
        "num_hidden_layers": config.text_depth,
        "num_attention_heads": config.text_num_heads,
        "intermediate_size": config.text_mlp_dim,
        "eos_token_id": 2 if config.end_token is None else config.end_token,
    }
    settings = transformers.CLIPConfig(
        vision_config={**vision, **both}, text_config={**text, **both}, projection_dim=config.dim
    )
    return transformers.CLIPModel(settings)


@pytest.fixture(scope="module", params=CASES, ids=str)
def pair(request, tmp_path_factory):
    """A peer with weights in which nothing is zero or one any more, its file, and ours loaded from that."""
    format, config = CASES[request.param]
    torch.manual_seed(0)
    theirs = (of_transformers if format == "transformers" else of_open_clip)(config).eval()
    shake(theirs)
    path = tmp_path_factory.mktemp("peer") / "weights.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in theirs.state_dict().items()}, path)
    fields = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    return format, theirs, path, zoo.create("clip", weights=path, **fields).eval()


@torch.no_grad()
def shake(model):
    perturbed(model)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.normal_(1, 0.1)


def inputs(config, images=3, texts=5):
    """Images, and texts of several lengths; with 7 as the end, one has two of them, and none is the largest token."""
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(images, 3, config.image_size, config.image_size, generator=generator)
    end = config.vocab_size - 1 if config.end_token is None else config.end_token
    tokens = torch.randint(8, config.vocab_size - 1, (texts, config.max_seq_len), generator=generator)
    for row in range(texts):
        tokens[row, 2 * row + 1] = end
        tokens[row, 2 * row + 2 :] = 0 if config.end_token is None else end
    return image, tokens


def of(theirs, image, tokens):
    """Both features, and logits per image, of a peer."""
    if hasattr(theirs, "vision_model"):
        found = theirs(pixel_values=image, input_ids=tokens)
        return found.image_embeds, found.text_embeds, found.logits_per_image
    features = theirs.encode_image(image, normalize=True), theirs.encode_text(tokens, normalize=True)
    return *features, theirs.get_logits(image, tokens)[0]


def ours_of(model, image, tokens):
    found = model(image, tokens)
    return found.image_features, found.text_features, found.logits_per_image


@pytest.mark.peers
@torch.no_grad()
def test_features_and_logits_are_the_peer_s(pair):
    _, theirs, _, ours = pair
    given = inputs(ours.config)
    for found, expected in zip(ours_of(ours, *given), of(theirs, *given), strict=True):
        assert found.shape == expected.shape
        assert largest_difference(found, expected) < 2e-5


@pytest.mark.peers
def test_gradients_are_the_peer_s(pair):
    format, theirs, _, ours = pair
    given = inputs(ours.config)
    for model, run in ((ours, ours_of), (theirs, of)):
        model.zero_grad()
        sum((part * torch.linspace(-1, 1, part.numel()).view_as(part)).sum() for part in run(model, *given)).backward()
    gradients = ours.state_dict() | {name: parameter.grad for name, parameter in ours.named_parameters()}
    copy = zoo.create(ours.config)
    copy.load_state_dict(gradients)  # so that they travel the way of the weights
    found = foreign_tensors(copy, format)
    expected = {name: p.grad for name, p in theirs.named_parameters() if p.grad is not None}
    error = sum((found[name] - gradient).square().sum() for name, gradient in expected.items()).sqrt()
    norm = sum(gradient.square().sum() for gradient in expected.values()).sqrt()
    assert len(expected) > 20
    assert error / norm < 1e-4


@pytest.mark.peers
def test_export_returns_the_same_keys_and_bits(pair, tmp_path):
    format, theirs, path, ours = pair
    before, after = load_file(path), load_file(zoo.export_weights(ours, tmp_path / "out.safetensors", format=format))
    assert before.keys() == after.keys() == theirs.state_dict().keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.peers
@torch.no_grad()
def test_batch_statistics_are_the_peer_s_in_training(tmp_path):
    theirs = of_open_clip(RESNET)
    shake(theirs)
    save_file({name: tensor.clone() for name, tensor in theirs.state_dict().items()}, tmp_path / "in.safetensors")
    ours = zoo.create(RESNET, weights=tmp_path / "in.safetensors")
    image, _ = inputs(RESNET, images=6)
    found, expected = ours.encode_image(image), theirs.train().encode_image(image, normalize=True)
    assert largest_difference(found, expected) < 2e-5
    torch.testing.assert_close(foreign_tensors(ours, "open_clip"), dict(theirs.state_dict()), rtol=1e-4, atol=1e-5)


@pytest.mark.peers
@pytest.mark.parametrize(
    ("preset", "format", "name"),
    [
        pytest.param(preset, format, name, id=f"{preset}-{format}")
        for format in ("open_clip", "transformers")
        for preset, name in peers("clip", format).items()
    ],
)
def test_a_preset_has_exactly_the_peer_s_tensors(preset, format, name):
    """Built without memory: names, shapes, and the number of parameters."""
    from peer_libraries import open_clip

    config = zoo.config(preset)
    with torch.device("meta"):
        if format == "transformers":
            theirs = of_transformers(config)
        else:
            theirs = open_clip.create_model(name, device="meta", pretrained=None)
    ours = foreign_tensors(zoo.create(preset, device="meta"), format)
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert sum(p.numel() for p in theirs.parameters()) == zoo.describe(preset).num_params


def of_timm(config):
    import timm

    quick = "quickgelu_" if config.activation == "quick_gelu" else ""
    sizes = {
        "img_size": config.image_size,
        "patch_size": config.patch_size,
        "embed_dim": config.vision_dim,
        "depth": config.vision_depth,
        "num_heads": config.vision_num_heads,
    }
    return timm.create_model(f"vit_base_patch32_clip_{quick}224", num_classes=config.dim, **sizes)


@pytest.mark.peers
@pytest.mark.parametrize("activation", ["gelu", "quick_gelu"])
def test_an_image_tower_goes_to_timm_and_comes_back(activation, tmp_path):
    config = dataclasses.replace(VIT, activation=activation)
    ours, theirs = zoo.create(config).eval(), of_timm(config).eval()
    shake(ours)
    path = zoo.export_weights(ours, tmp_path / "tower.safetensors", format="timm")
    theirs.load_state_dict(load_file(path))
    image, _ = inputs(config)
    with torch.no_grad():
        expected = nn.functional.normalize(theirs(image), dim=-1)
        assert largest_difference(ours.encode_image(image), expected) < 2e-5
    with pytest.warns(UserWarning, match="holds a part of CLIP: logit_scale, text drawn anew; train it"):
        again = zoo.create(config, weights=path)
    assert "tensors new" in str(again.load_report)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor) == name.startswith("vision.")


@pytest.mark.peers
@pytest.mark.parametrize(("preset", "name"), [("clip_resnet50", "resnet50_clip"), ("clip_resnet101", "resnet101_clip")])
def test_a_resnet_s_tower_has_exactly_timm_s_tensors(preset, name):
    import timm

    config = zoo.config(preset)
    with torch.device("meta"):
        theirs = timm.create_model(name, num_classes=config.dim)
    ours = foreign_tensors(zoo.create(preset, device="meta"), "timm")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.state_dict().items()}


@pytest.mark.peers
@torch.no_grad()
def test_a_resnet_s_tower_is_timm_s(tmp_path):
    import timm

    small = {"text_depth": 1, "vocab_size": 64, "max_seq_len": 10}
    ours = zoo.create("clip_resnet50", **small).eval()
    shake(ours)
    theirs = timm.create_model("resnet50_clip", num_classes=ours.config.dim).eval()
    theirs.load_state_dict(foreign_tensors(ours, "timm"))
    image, _ = inputs(ours.config, images=1)
    assert largest_difference(ours.encode_image(image), nn.functional.normalize(theirs(image), dim=-1)) < 2e-5


@pytest.mark.peers
def test_a_head_of_timm_that_has_learnt_a_bias_is_refused(tmp_path):
    theirs = of_timm(VIT)
    perturbed(theirs)
    save_file(theirs.state_dict(), tmp_path / "tower.safetensors")
    with pytest.raises(ValueError, match=r"head\.bias is learnt in this checkpoint, and this model has none"):
        zoo.create(VIT, weights=tmp_path / "tower.safetensors")
