"""Position embeddings follow the image's size, as timm's do; and a network without a head gives features."""

import contextlib
import dataclasses

import pytest
import torch
from laws import build, perturbed
from safetensors.torch import save_file

import zoo
from zoo.architectures.vit import ARCHITECTURE, resample
from zoo.weights.fit import MismatchError


@pytest.mark.peers
@pytest.mark.parametrize(("prefix", "grid"), [(1, (7, 7)), (0, (20, 9)), (2, (14, 15))])
def test_positions_are_interpolated_as_by_timm(prefix, grid):
    from timm.layers import resample_abs_pos_embed

    positions = torch.randn(1, prefix + 14 * 14, 8)
    expected = resample_abs_pos_embed(positions, list(grid), num_prefix_tokens=prefix)
    torch.testing.assert_close(resample(positions, grid), expected)


def test_stored_positions_are_interpolated_to_another_image_size(tmp_path):
    model = perturbed(ARCHITECTURE)
    path = zoo.export_weights(model, tmp_path / "a.safetensors", format="timm")
    tiny = vars(ARCHITECTURE.tiny)
    larger = zoo.create("vit", weights=path, **{**tiny, "image_size": 32})
    (note,) = larger.load_report.adapted
    assert note == "embed.positions interpolated from 17 to 65 positions"
    assert torch.equal(larger.embed.positions, resample(model.embed.positions, (8, 8)))
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(larger.eval()(image), model(image), msg="forward interpolates by itself")
    save_file({**model.state_dict(), "embed.positions": torch.zeros(1, 17, 3)}, tmp_path / "b.safetensors")
    with pytest.raises(MismatchError, match=r"embed\.positions"):
        zoo.create("vit", weights=tmp_path / "b.safetensors", **{**tiny, "image_size": 32})


@pytest.mark.parametrize(
    ("stored", "said"),
    [
        (
            {"image_size": 384},
            r"'embed.positions' is \(1, 577, 192\) .*; give image_size=384: the checkpoint's own keeps",
        ),
        (
            {"patch_size": 32},
            r"'embed.patch.weight' is \(192, 3, 32, 32\) .*, but \(192, 3, 16, 16\) .* \(and 1 more\)$",
        ),
        (
            {"distilled": True},
            r"holds 'dist_token' and 2 more; 'embed.positions' is .*198, .*197, 192\) float32 in the",
        ),
        (
            {"class_position": False},
            r"'embed.positions' is \(1, 196, 192\) float32, but \(1, 197, 192\) float32 in the",
        ),
    ],
    ids=["size", "patches", "distilled", "class"],
)
def test_the_remedy_for_a_file_of_another_shape_is_one(stored, said, tmp_path):
    model = zoo.create("vit_ti_16", depth=1, **stored)
    path = zoo.export_weights(model, tmp_path / "a.safetensors", format="timm")
    with pytest.raises(MismatchError, match=said) as caught:
        zoo.create("vit_ti_16", depth=1, weights=path)
    assert ("give" in str(caught.value)) == ("image_size" in stored)
    if "distilled" not in stored and "patch_size" not in stored:
        fits = zoo.create("vit_ti_16", depth=1, weights=path, **stored)
        assert torch.equal(fits.embed.positions, model.embed.positions)
    with pytest.raises(MismatchError) if "image_size" not in stored else contextlib.nullcontext():
        zoo.create("vit_ti_16", depth=1, image_size=224, weights=path)


def test_an_image_that_is_not_made_of_patches_is_refused():
    model = build(ARCHITECTURE)
    with pytest.raises(ValueError, match="an image of 18 x 16 pixels is not made of 4 x 4 patches; resize it"):
        model(torch.randn(1, 3, 18, 16))


@pytest.mark.parametrize("distilled", [False, True])
@pytest.mark.parametrize("pool", ["token", "mean"])
def test_without_classes_the_features_come_out(pool, distilled):
    config = dataclasses.replace(ARCHITECTURE.tiny, num_classes=0, pool=pool, distilled=distilled)
    model = build(ARCHITECTURE, config).eval()
    image = model.example_inputs(2)["image"]
    assert model(image).shape == (2, model.num_features)
    assert not [name for name in model.state_dict() if "head" in name]
    model.reset_classifier(3)
    assert model(image).shape == (2, 3)
    model.reset_classifier(0)
    assert model(image).shape == (2, model.num_features)


def test_both_heads_of_a_distilled_network_count_equally():
    model = perturbed(ARCHITECTURE, dataclasses.replace(ARCHITECTURE.tiny, distilled=True))
    features = model.forward_features(model.example_inputs(2)["image"])
    read = model.norm(features)
    expected = (model.head(read[:, 0]) + model.aux_heads[0]["head"](read[:, 1])) / 2
    torch.testing.assert_close(model.forward_head(features), expected)


def test_layer_scale_starts_as_it_is_configured():
    model = build(ARCHITECTURE, dataclasses.replace(ARCHITECTURE.tiny, layer_scale=0.25))
    assert all((block.scale1.weight == 0.25).all() and (block.scale2.weight == 0.25).all() for block in model.blocks)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_heads": 3}, "dim 16 is not divisible by num_heads 3"),
        ({"image_size": 18}, "image_size 18 is not divisible by patch_size 4"),
        ({"num_classes": -1}, "num_classes -1 is negative"),
        ({"drop_path": 1.0}, "must lie in"),
        ({"depth": 0}, "depth 0 is below 1"),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(ARCHITECTURE.tiny, **change)
