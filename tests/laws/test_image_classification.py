"""Laws of image classifiers."""

import dataclasses

import pytest
import torch

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
    assert seen[0].shape == (2, model.num_features)


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
@pytest.mark.parametrize("in_channels", [1, 2, 3, 4, 13])
def test_any_number_of_channels_goes_in(architecture, in_channels):
    model = build(architecture, dataclasses.replace(architecture.tiny, in_channels=in_channels)).eval()
    image = model.example_inputs(2)["image"]
    assert image.shape[1] == in_channels
    assert model(image).isfinite().all()
