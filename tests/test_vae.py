"""The VAE: its layers, its likelihoods, and that it learns something to draw from."""

from pathlib import Path

import pytest
import torch
from laws import build
from torch import nn

import zoo
from zoo.architectures.vae import ARCHITECTURE, VAEConfig

ROOT = Path(__file__).parents[1]


def test_the_layers_are_those_of_beta_vae_for_celeba():
    model = zoo.create("vae_celeba", device="meta")
    convolutions = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size, m.stride) for m in convolutions] == [
        (channels, (4, 4), (2, 2)) for channels in (32, 32, 64, 64)
    ]
    assert [m.out_features for m in model.encoder.modules() if isinstance(m, nn.Linear)] == [256, 64]
    turned = [m.out_channels for m in model.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert turned == [64, 32, 32, 3]
    assert [m.out_features for m in model.decoder.modules() if isinstance(m, nn.Linear)] == [256, 1024]


def test_mu_is_the_first_half_of_the_head_and_logvar_the_second():
    model = build(ARCHITECTURE)
    with torch.no_grad():
        model.encoder.head.weight.zero_()
        model.encoder.head.bias.copy_(torch.arange(6.0))
    output = model(**model.example_inputs(2))
    assert output.mu.tolist() == [[0, 1, 2]] * 2
    assert output.logvar.tolist() == [[3, 4, 5]] * 2


def test_latents_that_are_drawn_have_the_encoder_s_mean_and_deviation():
    model = build(ARCHITECTURE)
    with torch.no_grad():
        model.encoder.head.weight.zero_()
        model.encoder.head.bias.copy_(torch.tensor([1.0, -2.0, 0.0, 0.0, -2.0, 2.0]))
    seen = []
    model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.rand(20000, 2, 8, 8), torch.randn(20000, 3))
    assert seen[0].mean(0).tolist() == pytest.approx([1, -2, 0], abs=0.1)
    assert seen[0].std(0).tolist() == pytest.approx([1, 0.368, 2.718], rel=0.05)


def test_a_sigmoid_makes_reconstructions_probabilities():
    model = build(ARCHITECTURE, VAEConfig(image_size=8, in_channels=1, widths=(4,), output="sigmoid"))
    image = model.decode(1000 * torch.randn(16, 32))
    assert 0 <= image.min() < 0.4 < 0.6 < image.max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mlp_dim": 0}, "mlp_dim 0 is below 1"),
        ({"widths": ()}, r"widths \(\) must be one layer at least"),
        ({"image_size": 28}, "image_size 28 cannot be halved 4 times.* multiple of 16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sizes_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VAEConfig(**options)


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match="reads 8 x 8 pixels, got 8 x 16; resize"):
        build(ARCHITECTURE)(torch.rand(1, 2, 8, 16))


@pytest.mark.slow
def test_digits_are_drawn_in_every_class_and_less_than_twice_as_far_off_as_by_the_mixture():
    config = zoo.RunConfig.read(ROOT / "configs/vae/vae-digits.yaml")
    metrics = zoo.Trainer(config, quiet=True).fit().metrics
    assert metrics["classes"] == 10
    assert metrics["frechet_ratio"] < 2.0
