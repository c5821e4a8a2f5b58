"""Laws of image classifiers."""

import dataclasses
import warnings

import pytest
import torch

import zoo
from laws import architectures, build, differ, each, perturbed

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
def test_forward_is_the_head_on_the_features(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    assert torch.equal(model(image), model.forward_head(model.forward_features(image)))


@each_classifier
def test_every_part_of_the_image_counts(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(1)["image"].requires_grad_()
    (model(image) * torch.randn(model.config.num_classes)).sum().backward()
    tiles = image.grad.abs().amax((0, 1)).unflatten(0, (4, -1)).unflatten(2, (4, -1)).amax((1, 3))
    assert tiles.all()
    assert image.grad.abs().amax((0, 2, 3)).all(), "a channel has no effect"


@each_classifier
def test_num_features_is_what_the_head_reads(architecture):
    model = perturbed(architecture)
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(**model.example_inputs(2))
    assert seen[0].shape[:2] == (2, model.num_features)


@each_classifier
def test_reset_classifier_changes_the_head_alone(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_classifier(7)
    assert model.config == dataclasses.replace(architecture.tiny, num_classes=7)
    assert model(image).shape == (2, 7)
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert not [name for name in after if not name.startswith("head.") and not torch.equal(after[name], before[name])]


@each_classifier
def test_reset_classifier_draws_a_new_head_even_of_the_same_size(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    before = model(image)
    model.reset_classifier(model.config.num_classes)
    assert differ(model(image), before)


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
@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 13])
def test_any_number_of_channels_goes_in(architecture, in_channels):
    model = build(architecture, dataclasses.replace(architecture.tiny, in_channels=in_channels)).eval()
    image = model.example_inputs(2)["image"]
    assert image.shape[1] == in_channels
    assert model(image).isfinite().all()


@each_classifier
@pytest.mark.parametrize("in_channels", [1, 2, 4, 13])
def test_stored_weights_adapt_to_any_number_of_channels(architecture, in_channels, tmp_path):
    model = build(architecture, dataclasses.replace(architecture.tiny, in_channels=3))
    path = zoo.export_weights(model, tmp_path / "a.safetensors", format="zoo")
    fields = {name: value for name, value in vars(architecture.tiny).items() if name != "in_channels"}
    adapted = zoo.create(architecture.name, weights=path, in_channels=in_channels, **fields)
    (note,) = adapted.load_report.adapted
    assert f"adapted from 3 to {in_channels} channels" in note
    state = adapted.state_dict()
    changed = [name for name, tensor in model.state_dict().items() if state[name].shape != tensor.shape]
    assert changed == [note.split()[0]]
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items() if name not in changed)


@each_classifier
def test_stored_weights_take_another_head(architecture, tmp_path):
    model = build(architecture)
    path = zoo.export_weights(model, tmp_path / "a.safetensors", format="zoo")
    fields = {**vars(architecture.tiny), "num_classes": 9}
    adapted = zoo.create(architecture.name, weights=path, **fields)
    assert all(note.startswith("head") for note in adapted.load_report.adapted)
    assert adapted.eval()(model.example_inputs(2)["image"]).shape == (2, 9)


@each_classifier
def test_feature_maps_come_at_the_strides_that_they_are_asked_by(architecture):
    model = perturbed(architecture).requires_grad_(False)
    image = model.example_inputs(2)["image"].requires_grad_()
    if hasattr(model, "blocks"):
        asked = range(1, len(model.blocks) + 1)
        sides = [image.shape[-1] // model.config.patch_size] * len(asked)
    else:
        with pytest.raises(ValueError, match=r"has no stage 40 for this image; it has (.*)") as caught:
            zoo.features(model, image, stages=(40,))
        asked = [int(stage) for stage in str(caught.value).rpartition("has ")[2].split(", ")]
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
