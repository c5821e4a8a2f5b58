"""The autoencoder: Hinton and Salakhutdinov's network, and what it learns of digits compared with PCA."""

from pathlib import Path

import pytest
import torch
from laws import build, differ
from torch import nn

import zoo
from zoo.architectures.autoencoder import ARCHITECTURE, AutoencoderConfig

ROOT = Path(__file__).parents[1]
CONVOLUTIONAL = AutoencoderConfig(image_size=8, in_channels=2, latent_dim=3, widths=(4, 6), convolutional=True)


def units(layers):
    return [layer.out_features for layer in layers.modules() if isinstance(layer, nn.Linear)]


def test_the_paper_s_network_has_the_layers_of_its_mnist_experiment():
    model = zoo.create("autoencoder_mnist", device="meta")
    assert units(model.encoder) == [1000, 500, 250, 30]
    assert units(model.decoder) == [250, 500, 1000, 784]
    assert sum(isinstance(module, nn.Sigmoid) for module in model.modules()) == 6, "the code is linear"


@pytest.mark.parametrize("widths", [(), (4,), (4, 6)], ids=str)
def test_convolutions_halve_and_double_the_resolution(widths):
    config = AutoencoderConfig(**{**vars(CONVOLUTIONAL), "widths": widths})
    model = build(ARCHITECTURE, config)
    maps = [(8 // 2**i,) * 2 for i in range(1, len(widths) + 1)]
    seen = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            module.register_forward_hook(lambda _, __, output: seen.append(output.shape[-2:]))
    output = model(torch.rand(3, 2, 8, 8))
    assert output.reconstruction.shape == (3, 2, 8, 8)
    assert output.z.shape == (3, 3)
    assert seen == [*maps, *((2 * size, 2 * size) for size, _ in reversed(maps))]


@pytest.mark.parametrize("config", [CONVOLUTIONAL, ARCHITECTURE.tiny], ids=["convolutional", "dense"])
def test_the_code_is_unbounded_and_so_is_a_linear_output(config):
    model = build(ARCHITECTURE, config)
    output = model(100 * torch.randn(4, *model.example_inputs(1)["image"].shape[1:]))
    assert output.z.abs().max() > 1
    assert output.reconstruction.min() < 0


@pytest.mark.parametrize("kind", [{}, {"convolutional": True}], ids=["dense", "convolutional"])
def test_a_sigmoid_keeps_reconstructions_in_the_unit_range(kind):
    model = build(ARCHITECTURE, AutoencoderConfig(image_size=8, widths=(4,), output="sigmoid", **kind))
    image = model(100 * torch.randn(16, 1, 8, 8)).reconstruction
    assert 0 <= image.min() < 0.5 < image.max() <= 1


def test_every_pixel_and_every_number_of_the_code_matters_in_a_convolutional_one():
    model = build(ARCHITECTURE, CONVOLUTIONAL)
    image = torch.rand(1, 2, 8, 8, requires_grad=True)
    output = model(image)
    output.z.square().sum().backward()
    assert (image.grad != 0).float().mean() > 0.9
    for number in range(3):
        z = output.z.detach().clone()
        z[:, number] += 1
        assert differ(model.decode(z), output.reconstruction)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latent_dim": 0}, "latent_dim 0 is below 1"),
        ({"widths": (8, 0)}, r"widths \(8, 0\) has a layer below 1"),
        ({"widths": (8, 8, 8), "convolutional": True}, "image_size 28 cannot be halved 3 times.* multiple of 8"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        AutoencoderConfig(**options)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"reads 4 x 4 pixels, got 5 x 4; resize"):
        build(ARCHITECTURE)(torch.rand(1, 1, 5, 4))


@pytest.mark.slow
@pytest.mark.parametrize(("latent_dim", "error"), [(2, 0.031), (8, 0.012), (16, 0.0062)])
def test_digits_are_kept_far_better_than_by_as_many_principal_components(latent_dim, error):
    config = zoo.RunConfig.read(
        ROOT / "configs/autoencoder/autoencoder-digits.yaml", [f"model.latent_dim={latent_dim}"]
    )
    trainer = zoo.Trainer(config, quiet=True)
    mse = trainer.fit().metrics["mse"]
    assert mse <= error
    parts = trainer.splits.train, trainer.splits.test
    train, test = (part.fetch(range(len(part)), None)["features"] for part in parts)
    mean = train.mean(0)
    components = torch.linalg.svd(train - mean, full_matrices=False).Vh[:latent_dim]
    linear = ((test - mean) @ components.T @ components + mean - test).square().mean().item()
    assert mse < 0.6 * linear
