"""Autoencoder (Hinton and Salakhutdinov, 2006), https://doi.org/10.1126/science.1127647: figure 1, the MNIST network.

An encoder turns an image into a few numbers, the code, and a decoder turns these back into the image; what both learn
is to lose little. With linear layers that is principal component analysis; the hidden layers make it nonlinear.

Differences from the paper:
- all layers are trained at once, without the stack of restricted Boltzmann machines that the paper starts from: good
  initial weights and a better optimizer have made them needless;
- hidden units are rectifiers by default; `activation="sigmoid"` gives the paper's;
- the reconstruction is linear by default, for images that are normalised; `output="sigmoid"` gives the paper's;
- `convolutional=True` makes the hidden layers convolutions, each of which halves the resolution.

Glossary (our word, meaning, the paper's symbol):
    z              the code, from linear units          "code layer"
    widths         units of the hidden layers           2000-1000-500
    latent_dim     numbers in a code                    30

Input: image (batch, in_channels, image_size, image_size), float. Output: the reconstruction, of the same shape, and z
(batch, latent_dim).
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.nn.image import check_image
from zoo.registry import Architecture

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
}


class AutoencoderOutput(NamedTuple):
    """What `forward` gives."""

    reconstruction: Tensor
    """(batch, in_channels, image_size, image_size)."""
    z: Tensor
    """(batch, latent_dim)."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig:
    """The shape of an autoencoder; by default the paper's for MNIST."""

    image_size: int = 28
    in_channels: int = 1
    latent_dim: int = 30
    widths: tuple[int, ...] = (1000, 500, 250)
    """Units, or channels, of the encoder's hidden layers; the decoder has them in reverse."""
    convolutional: bool = False
    """Whether hidden layers are convolutions of stride 2."""
    activation: Literal["sigmoid", "tanh", "relu", "silu"] = "relu"
    output: Literal["linear", "sigmoid"] = "linear"
    """What the last layer ends in; `sigmoid` is for images in [0, 1]."""

    def __post_init__(self) -> None:
        """Refuse empty layers, and images that cannot be halved so often."""
        for name in ("image_size", "in_channels", "latent_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if any(width < 1 for width in self.widths):
            raise ValueError(f"widths {self.widths} has a layer below 1")
        if self.convolutional and self.image_size % 2 ** len(self.widths):
            raise ValueError(
                f"image_size {self.image_size} cannot be halved {len(self.widths)} times, once for each of widths "
                f"{self.widths}; take a multiple of {2 ** len(self.widths)}, or fewer widths"
            )

    @property
    def coarse(self) -> tuple[int, int, int]:
        """Channels, height and width of what the last hidden layer of a convolutional encoder gives."""
        size = self.image_size // 2 ** len(self.widths)
        return ((self.in_channels, *self.widths)[-1], size, size)


def hidden(layer: nn.Module, activation: str) -> nn.Sequential:
    """A layer and the activation of its units."""
    return nn.Sequential(OrderedDict(layer=layer, activation=ACTIVATIONS[activation]()))


def dense(config: AutoencoderConfig) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder, of linear layers."""
    pixels = config.in_channels * config.image_size**2
    widths = (pixels, *config.widths)
    down = [hidden(nn.Linear(a, b), config.activation) for a, b in pairwise(widths)]
    turned = (config.latent_dim, *reversed(config.widths))
    up = [hidden(nn.Linear(a, b), config.activation) for a, b in pairwise(turned)]
    image = (config.in_channels, config.image_size, config.image_size)
    return (
        nn.Sequential(nn.Flatten(), *down, nn.Linear(widths[-1], config.latent_dim)),
        nn.Sequential(*up, nn.Linear(turned[-1], pixels), nn.Unflatten(1, image)),
    )


def convolutional(config: AutoencoderConfig) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder, of convolutions that halve and double the resolution, around two linear layers."""
    channels, height, width = config.coarse
    widths = (config.in_channels, *config.widths)
    down = [hidden(nn.Conv2d(a, b, 4, stride=2, padding=1), config.activation) for a, b in pairwise(widths)]
    up = [nn.ConvTranspose2d(b, a, 4, stride=2, padding=1) for a, b in pairwise(widths)]  # the last comes first
    opened = nn.Sequential(
        nn.Linear(config.latent_dim, channels * height * width), nn.Unflatten(1, (channels, height, width))
    )
    turned = [hidden(opened, config.activation), *(hidden(layer, config.activation) for layer in reversed(up[1:]))]
    return (
        nn.Sequential(*down, nn.Flatten(), nn.Linear(channels * height * width, config.latent_dim)),
        nn.Sequential(*turned, up[0]) if up else nn.Sequential(opened),
    )


class Autoencoder(nn.Module):
    """An encoder, a narrow code, and a decoder."""

    def __init__(self, config: AutoencoderConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.encoder, self.decoder = (convolutional if config.convolutional else dense)(config)

    def encode(self, image: Tensor) -> Tensor:
        """Codes (batch, latent_dim) of images (batch, in_channels, image_size, image_size).

        Raises:
            ValueError: the images are of another size.
        """
        check_image(self, image)
        size = self.config.image_size
        if image.shape[-2:] != (size, size):
            height, width = image.shape[-2:]
            raise ValueError(f"this network reads {size} x {size} pixels, got {height} x {width}; resize the images")
        return self.encoder(image)

    def decode(self, z: Tensor) -> Tensor:
        """Images (batch, in_channels, image_size, image_size) of codes (batch, latent_dim)."""
        image = self.decoder(z)
        return image.sigmoid() if self.config.output == "sigmoid" else image

    def forward(self, image: Tensor) -> AutoencoderOutput:
        """Images, as they are after going through their codes."""
        z = self.encode(image)
        return AutoencoderOutput(self.decode(z), z)

    def init_weights(self) -> None:
        """Weights have the variance that keeps signals as they are, 2 / (fan_in + fan_out); biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType] - it has one

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes."""
        size = self.config.image_size
        return {"image": torch.rand(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="autoencoder",
    model=Autoencoder,
    config=AutoencoderConfig,
    task="image-to-image",
    paper="https://doi.org/10.1126/science.1127647",
    tiny=AutoencoderConfig(image_size=4, latent_dim=3, widths=(8, 6)),
    presets={
        "autoencoder_mnist": AutoencoderConfig(activation="sigmoid", output="sigmoid"),
        "autoencoder_mnist_conv": AutoencoderConfig(widths=(32, 64), convolutional=True),
    },
    params={"autoencoder": 2_837_314, "autoencoder_mnist": 2_837_314, "autoencoder_mnist_conv": 258_015},
    aliases={},
)
