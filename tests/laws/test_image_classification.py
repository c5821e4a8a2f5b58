"""Laws of image classifiers."""

import re
import warnings

import pytest
import torch

import zoo
from laws import architectures, each, perturbed

each_classifier = each(architectures("image-classification"))


@each_classifier
@pytest.mark.parametrize("scale", [(1, 2), (3, 1)], ids=["wide", "tall"])
def test_oblong_images_are_classified(architecture, scale):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"].repeat(1, 1, *scale)
    logits = model(image)
    assert logits.shape == (2, model.config.num_classes)
    assert logits.isfinite().all()


@each_classifier
def test_every_part_of_the_image_counts(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(1)["image"].requires_grad_()
    (model(image) * torch.randn(model.config.num_classes)).sum().backward()
    tiles = image.grad.abs().amax((0, 1)).unflatten(0, (4, -1)).unflatten(2, (4, -1)).amax((1, 3))
    assert tiles.all()
    assert image.grad.abs().amax((0, 2, 3)).all(), "a channel has no effect"


@each_classifier
def test_an_image_that_cannot_be_read_is_refused_with_what_is_expected(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    channels = model.config.in_channels
    with pytest.raises(ValueError, match=rf"is \(batch, {channels}, .*height, width\), got shape .*image\[None\]"):
        model(image[0])
    with pytest.raises(ValueError, match=f"got {channels + 1} channels; .*in_channels={channels + 1}"):
        model(torch.cat([image, image[:, :1]], dim=1))
    with pytest.raises(ValueError, match=r"floating-point and normalised, got torch\.uint8; zoo\.transforms"):
        model(image.byte())


@each_classifier
def test_an_image_is_refused_or_answered_at_any_size(architecture):
    """Below the size that a network takes, it says so; from there on it answers."""
    model = perturbed(architecture)
    image = model.example_inputs(1)["image"]
    refused = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the last map is small
        for size in range(1, image.shape[-1] + 1):
            try:
                assert model(image[..., :size, :size]).isfinite().all()
            except ValueError as error:
                refused[size] = str(error)
    smallest = next(size for size in range(1, 10_000) if size not in refused)
    assert all(f"this network takes {smallest} at least" in refused[size] for size in range(1, smallest))
    assert all("patches; resize it" in message for size, message in refused.items() if size > smallest)


@each_classifier
def test_feature_maps_come_at_the_strides_that_they_are_asked_by(architecture):
    model = perturbed(architecture).requires_grad_(False)
    image = model.example_inputs(2)["image"].requires_grad_()
    if hasattr(model, "blocks"):
        asked = range(1, len(model.blocks) + 1)
        sides = [image.shape[-1] // model.config.patch_size] * len(asked)
    else:
        image = image.detach().repeat(1, 1, 4, 4).requires_grad_()  # so large that edges do not count
        with pytest.raises(ValueError, match=r"has no stage 40; it has (.*), give stages=") as caught:
            zoo.features(model, image, stages=(40,))
        asked = [int(stage) for stage in re.findall(r"-?\d+", str(caught.value).rpartition("stages=")[2])]
        sides = [image.shape[-1] / 2 ** (stage + 1) for stage in asked]
    maps = zoo.features(model, image, stages=asked)
    for found, side in zip(maps, sides, strict=True):
        assert found.shape[0] == 2
        assert side / 1.5 < found.shape[-1] < side * 1.5
        assert torch.autograd.grad(found.sum(), image, retain_graph=True)[0].any()
    assert not any(module._forward_hooks for module in model.modules())
    if not hasattr(model, "blocks"):
        copies = []
        for part in model.stages:
            part.register_forward_hook(lambda _, __, output: copies.append(output.clone()))
        model.forward_features(image)
        assert any(torch.equal(maps[-1], copy) for copy in copies), "a later layer overwrites the map"


@each_classifier
def test_a_stage_is_the_same_layer_for_small_and_odd_images(architecture):
    model = perturbed(architecture).requires_grad_(False)
    if hasattr(model, "blocks"):
        return
    large = model.example_inputs(1)["image"].repeat(1, 1, 4, 4)
    with pytest.raises(ValueError, match="has no stage 40") as caught:
        zoo.features(model, large, stages=(40,))
    asked = [int(stage) for stage in re.findall(r"-?\d+", str(caught.value).rpartition("stages=")[2])]
    expected = [found.shape[1] for found in zoo.features(model, large, stages=asked)]
    side = model.example_inputs(1)["image"].shape[-1]
    for odd in (side, side + 1, side + 3, side + 9):
        maps = zoo.features(model, large[..., :odd, :odd], stages=asked)
        assert [found.shape[1] for found in maps] == expected


def test_what_is_no_image_backbone_has_no_feature_maps():
    with pytest.raises(ValueError, match="MLP is no image backbone"):
        zoo.features(zoo.create("mlp"), torch.randn(2, 64))
    with pytest.raises(TypeError, match=r"a sequence of numbers such as \(1, 2\), got 2"):
        zoo.features(zoo.create("resnet20"), torch.randn(2, 3, 32, 32), stages=2)
