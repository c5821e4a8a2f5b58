"""VAE (Kingma and Welling, 2014), https://arxiv.org/abs/1312.6114: sections 2.3 and 3, appendix C.

An encoder gives, for each image, a normal distribution over latents rather than a point; a decoder turns a latent that
is drawn from it back into the image. Kept close to one standard normal for all images, the latents become something
that can be drawn from, and the decoder a generator. The layers are those that Higgins et al. (2017),
https://openreview.net/forum?id=Sy2fzU9gl, use for CelebA (appendix A.4); their beta is an option of the objective
`elbo`.

Differences from the papers:
- the networks are convolutional, as in the second, where the first has one hidden layer;
- the decoder gives the mean of a normal distribution, whose deviation belongs to the objective, or with
  `output="sigmoid"` the probability of a Bernoulli distribution.

Glossary (our word, meaning, the paper's symbol):
    z            a latent                                                  z
    mu, logvar   mean, and logarithm of the variance, of z given an image  mu, log sigma^2
    noise        what z is drawn by, z = mu + sigma * noise                epsilon
    encoder      the recognition model                                     q_phi(z|x)
    decoder      the generative model                                      p_theta(x|z)

Input: image (batch, in_channels, image_size, image_size), float; noise (batch, latent_dim), standard normal, or None.
Output: the reconstruction, of the image's shape, with mu and logvar (batch, latent_dim).
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.nn.image import check_image
from zoo.registry import Architecture


class VAEOutput(NamedTuple):
    """What `forward` gives."""

    reconstruction: Tensor
    """(batch, in_channels, image_size, image_size)."""
    mu: Tensor
    """(batch, latent_dim)."""
    logvar: Tensor
    """(batch, latent_dim)."""


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """The shape of a variational autoencoder; by default that of beta-VAE for CelebA."""

    image_size: int = 64
    in_channels: int = 3
    latent_dim: int = 32
    widths: tuple[int, ...] = (32, 32, 64, 64)
    """Channels of the encoder's convolutions, each of stride 2; the decoder has them in reverse."""
    mlp_dim: int = 256
    """Units of the fully connected layer between convolutions and latent, on either side."""
    output: Literal["linear", "sigmoid"] = "linear"
    """What the last layer ends in; `sigmoid` is for images in [0, 1]."""

    def __post_init__(self) -> None:
        """Refuse empty layers, and images that cannot be halved so often."""
        for name in ("image_size", "in_channels", "latent_dim", "mlp_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths {self.widths} must be one layer at least, of one channel at least")
        if self.image_size % 2 ** len(self.widths):
            raise ValueError(
                f"image_size {self.image_size} cannot be halved {len(self.widths)} times, once for each of widths "
                f"{self.widths}; take a multiple of {2 ** len(self.widths)}, or fewer widths"
            )

    @property
    def coarse(self) -> tuple[int, int, int]:
        """Channels, height and width after the last convolution."""
        size = self.image_size // 2 ** len(self.widths)
        return self.widths[-1], size, size


def hidden(layer: nn.Module) -> nn.Sequential:
    """A layer of rectifiers."""
    return nn.Sequential(OrderedDict(layer=layer, activation=nn.ReLU()))


class Encoder(nn.Module):
    """q(z|x): convolutions that halve the resolution, a fully connected layer, and the moments of z."""

    def __init__(self, config: VAEConfig) -> None:
        """Build from a config."""
        super().__init__()
        channels, height, width = config.coarse
        widths = (config.in_channels, *config.widths)
        self.blocks = nn.Sequential(
            *(hidden(nn.Conv2d(a, b, kernel_size=4, stride=2, padding=1)) for a, b in pairwise(widths))
        )
        self.proj = hidden(nn.Linear(channels * height * width, config.mlp_dim))
        self.head = nn.Linear(config.mlp_dim, 2 * config.latent_dim)

    def forward(self, image: Tensor) -> Tensor:
        """mu and logvar, (batch, 2 * latent_dim), of images (batch, in_channels, height, width)."""
        return self.head(self.proj(self.blocks(image).flatten(1)))


class Decoder(nn.Module):
    """p(x|z): the encoder's layers, mirrored."""

    def __init__(self, config: VAEConfig) -> None:
        """Build from a config."""
        super().__init__()
        channels, height, width = config.coarse
        self.stem = hidden(nn.Linear(config.latent_dim, config.mlp_dim))
        self.proj = hidden(nn.Linear(config.mlp_dim, channels * height * width))
        self.open = nn.Unflatten(1, config.coarse)
        self.blocks = nn.Sequential(
            *(
                hidden(nn.ConvTranspose2d(a, b, kernel_size=4, stride=2, padding=1))
                for a, b in pairwise(reversed(config.widths))
            )
        )
        self.head = nn.ConvTranspose2d(config.widths[0], config.in_channels, kernel_size=4, stride=2, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """Images (batch, in_channels, height, width) of latents (batch, latent_dim)."""
        return self.head(self.blocks(self.open(self.proj(self.stem(z)))))


class VAE(nn.Module):
    """An encoder and a decoder, which forward joins by the reparametrisation trick of section 2.4."""

    def __init__(self, config: VAEConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar, each (batch, latent_dim), of images (batch, in_channels, image_size, image_size).

        Raises:
            ValueError: the images are of another size.
        """
        check_image(self, image)
        size = self.config.image_size
        if image.shape[-2:] != (size, size):
            height, width = image.shape[-2:]
            raise ValueError(f"this network reads {size} x {size} pixels, got {height} x {width}; resize the images")
        mu, logvar = self.encoder(image).chunk(2, dim=-1)
        return mu, logvar

    def decode(self, z: Tensor) -> Tensor:
        """Images (batch, in_channels, image_size, image_size) of latents (batch, latent_dim)."""
        image = self.decoder(z)
        return image.sigmoid() if self.config.output == "sigmoid" else image

    def forward(self, image: Tensor, noise: Tensor | None = None) -> VAEOutput:
        """Images, as they are after going through their latents.

        Args:
            image: (batch, in_channels, image_size, image_size).
            noise: (batch, latent_dim), standard normal, by which z is drawn; None takes the mean, in train and eval.
        """
        mu, logvar = self.encode(image)
        z = mu if noise is None else mu + (logvar / 2).exp() * noise
        return VAEOutput(self.decode(z), mu, logvar)

    def latent_shape(self, image: Tensor) -> tuple[int, ...]:
        """The shape of the latent of one of these images."""
        return (self.config.latent_dim,)

    def init_weights(self) -> None:
        """Weights have the variance that keeps signals as they are, 2 / (fan_in + fan_out); biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType] - it has one

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` needs."""
        size = self.config.image_size
        return {"image": torch.rand(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="vae",
    model=VAE,
    config=VAEConfig,
    task="image-to-image",
    paper="https://arxiv.org/abs/1312.6114",
    tiny=VAEConfig(image_size=8, in_channels=2, latent_dim=3, widths=(4, 6), mlp_dim=10),
    presets={
        "vae_celeba": VAEConfig(),
        "vae_mnist": VAEConfig(image_size=28, in_channels=1, latent_dim=10, widths=(32, 64), output="sigmoid"),
    },
    params={"vae": 783_235, "vae_celeba": 783_235, "vae_mnist": 1_683_669},
    aliases={"beta_vae_celeba": "vae_celeba"},
)
