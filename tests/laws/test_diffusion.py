"""Laws of diffusion networks, whatever their task is called: the models whose forward takes a timestep."""

import inspect

import pytest
import torch

from laws import architectures, differ, each, perturbed

each_network = each(
    [record for record in architectures() if "timestep" in inspect.signature(record.model.forward).parameters]
)


def changed(inputs, name, row, value):
    """The same inputs, but in one row."""
    other = inputs[name].clone()
    other[row] = value
    return inputs | {name: other}


@each_network
def test_an_answer_for_each_pixel(architecture):
    model = perturbed(architecture)
    inputs = model.example_inputs(3)
    output = model(**inputs)
    assert output.shape[0] == 3
    assert output.shape[2:] == inputs["image"].shape[2:]
    assert output.shape[1] in (inputs["image"].shape[1], 2 * inputs["image"].shape[1]), "noise, or noise and variance"


@each_network
@pytest.mark.parametrize("name", ["image", "timestep", "label"])
def test_each_row_hears_what_it_is_told_and_nothing_else(architecture, name):
    model = perturbed(architecture)
    inputs = model.example_inputs(3)
    if name not in inputs:
        pytest.skip("it is told no class")
    inputs = changed(inputs, name, 1, 0)
    before, after = model(**inputs), model(**changed(inputs, name, 1, 1))
    assert differ(before[1], after[1])
    torch.testing.assert_close(before[[0, 2]], after[[0, 2]])


@each_network
def test_every_pixel_counts_for_every_pixel(architecture):
    model = perturbed(architecture)
    inputs = model.example_inputs(1)
    image = inputs["image"].requires_grad_()
    for corner in (0, -1):
        (gradient,) = torch.autograd.grad(model(**inputs)[0, 0, corner, corner], image)
        assert gradient.abs().amin() > 0


@each_network
def test_a_timestep_may_lie_between_two(architecture):
    model = perturbed(architecture)
    inputs = model.example_inputs(2)
    whole = model(**inputs)
    assert torch.equal(model(**inputs | {"timestep": inputs["timestep"].float()}), whole)
    assert differ(model(**inputs | {"timestep": inputs["timestep"] + 0.5}), whole)


@each_network
@pytest.mark.parametrize("name", ["timestep", "label"])
@pytest.mark.parametrize(
    "wrong",
    [lambda given: given[0], lambda given: given[:2], lambda given: given[:, None], lambda given: 5],
    ids=["one for all", "too few", "a column", "a number"],
)
def test_what_is_not_one_number_for_each_image_is_refused(architecture, name, wrong):
    model = perturbed(architecture)
    inputs = model.example_inputs(3)
    if name not in inputs:
        pytest.skip("it is told no class")
    with pytest.raises(ValueError, match=rf"{name} must be a tensor \(3,\), one number for each image, got"):
        model(**inputs | {name: wrong(inputs[name])})


@each_network
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda image: image[0], ValueError, r"image batch is .*, got shape .*image\[None\] makes a batch"),
        (lambda image: image.repeat(1, 5, 1, 1), ValueError, "create the model with"),
        (lambda image: image.long(), ValueError, "floating-point"),
        (lambda image: image.double(), ValueError, r"got torch\.float64"),
        (lambda image: image[..., :-1], ValueError, r"8 x 7"),
        (lambda image: image.numpy(), TypeError, r"torch\.from_numpy"),
    ],
    ids=["no batch", "channels", "whole numbers", "double", "odd size", "array"],
)
def test_what_is_no_batch_of_images_is_refused(architecture, wrong, error, message):
    model = perturbed(architecture)
    inputs = model.example_inputs(2)
    with pytest.raises(error, match=message):
        model(**inputs | {"image": wrong(inputs["image"])})
