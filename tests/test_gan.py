"""DCGAN, as figure 1 and section 4 of its paper have it."""

import pytest
import torch
from laws import build
from torch import nn

import zoo
from zoo.architectures.gan import ARCHITECTURE, GANConfig


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_each_network_has_the_published_number_of_parameters():
    model = zoo.create("dcgan_64", device="meta")
    assert (count(model.generator), count(model.discriminator)) == (3_576_704, 2_765_568)


def test_twice_the_width_is_figure_1():
    with torch.device("meta"):
        model = ARCHITECTURE.model(GANConfig(generator_width=128))
        shapes = [tuple((x := model.generator.stem(torch.zeros(1, 100, 1, 1))).shape[1:])]
        shapes += [tuple((x := block(x)).shape[1:]) for block in (*model.generator.blocks, model.generator.head)]
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("size", [8, 16, 32])
def test_every_doubling_of_four_is_an_image_size(size, depth):
    model = build(ARCHITECTURE, GANConfig(image_size=size, in_channels=1, generator_width=2, depth=depth))
    image = model(**model.example_inputs(3))
    assert image.shape == (3, 1, size, size)
    assert model.discriminator(image).shape == (3,)


@pytest.mark.parametrize(
    ("field", "value"), [("image_size", 28), ("image_size", 4), ("image_size", 0), ("latent_dim", 0), ("depth", -1)]
)
def test_impossible_shapes_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} {value}"):
        GANConfig(**{field: value})


def test_an_unconditional_gan_takes_no_label():
    model = build(ARCHITECTURE)
    with pytest.raises(ValueError, match="takes no label"):
        model(**model.example_inputs(2), label=torch.zeros(2, dtype=torch.long))


def test_weights_start_as_in_section_4():
    model = build(ARCHITECTURE, GANConfig(image_size=32))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.mean().abs() < 0.002
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert not module.bias.any()
