"""DCGAN (Radford, Metz and Chintala, 2016), https://arxiv.org/abs/1511.06434: figure 1 and section 3.

Two networks play against each other (Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661): the generator turns
noise into images, the discriminator tells them from real ones. What the paper added are the rules that made this
work with convolutions: strides instead of pooling, batch norm everywhere but where images enter and leave, no hidden
linear layers, ReLU in the generator and leaky ReLU in the discriminator.

Differences from the paper:
- both widths are 64, as in the code that everybody trains; `generator_width=128` gives figure 1, which starts from
  1024 channels;
- z is drawn from a normal distribution rather than uniformly, as in that code;
- `image_size` may be 4 * 2**k for any k >= 1: each doubling is one block more in both networks;
- `depth` adds blocks that keep the resolution, for images so small that there are few others.

Glossary (our word, meaning, the paper's symbol):
    z              the latent, noise                      Z
    stem           the noise, projected and reshaped      project and reshape
    discriminator  how real an image is, as a logit       D, before its sigmoid

Input: z (batch, latent_dim), float, standard normal. Output: images (batch, in_channels, image_size, image_size) in
[-1, 1]. `discriminator` takes such images and gives logits (batch,), positive where it believes them real.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from zoo.registry import Architecture

LEAK = 0.2
"""The slope of leaky ReLU below zero (section 4)."""
INIT_STD = 0.02
"""The standard deviation of all initial weights (section 4)."""
SMALLEST = 4
"""Height and width where the generator begins and the discriminator ends."""


@dataclass(frozen=True, kw_only=True)
class GANConfig:
    """The shape of a generator and its discriminator."""

    latent_dim: int = 100
    image_size: int = 64
    in_channels: int = 3
    """Channels of the images, which the generator puts out and the discriminator takes."""
    generator_width: int = 64
    """Channels before the last layer; every block closer to z has twice as many."""
    discriminator_width: int = 64
    """Channels after the first layer; every block further on has twice as many."""
    depth: int = 0
    """Further blocks at half the images' resolution, in both networks."""

    def __post_init__(self) -> None:
        """Refuse sizes that doubling cannot reach, and empty layers."""
        for name in ("latent_dim", "in_channels", "generator_width", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.depth < 0:
            raise ValueError(f"depth {self.depth} is negative")
        if self.image_size not in (SMALLEST * 2**doublings for doublings in range(1, 16)):
            raise ValueError(f"image_size {self.image_size} is not 4 * 2**k with k >= 1; take 8, 16, 32, 64, ...")

    @property
    def doublings(self) -> int:
        """How often the resolution doubles between 4 x 4 and the image."""
        return (self.image_size // SMALLEST).bit_length() - 1


def up(in_channels: int, channels: int) -> nn.ConvTranspose2d:
    """A convolution that doubles the resolution."""
    return nn.ConvTranspose2d(in_channels, channels, kernel_size=4, stride=2, padding=1, bias=False)


def down(in_channels: int, channels: int) -> nn.Conv2d:
    """A convolution that halves it."""
    return nn.Conv2d(in_channels, channels, kernel_size=4, stride=2, padding=1, bias=False)


def keep(channels: int) -> nn.Conv2d:
    """A convolution that changes no shape."""
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=False)


def block(conv: nn.Module, channels: int, activation: nn.Module) -> nn.Sequential:
    """A convolution, batch norm, and an activation."""
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(channels), activation=activation))


class Generator(nn.Module):
    """Noise to images: 4 x 4 positions with many channels, then ever more positions with ever fewer channels."""

    def __init__(self, latent_dim: int, channels: int, width: int, doublings: int, depth: int) -> None:
        """Build for images of 4 * 2**doublings pixels with `channels` channels."""
        super().__init__()
        widths = [width * 2**i for i in reversed(range(doublings))]
        project = nn.ConvTranspose2d(latent_dim, widths[0], SMALLEST, bias=False)
        self.stem = block(project, widths[0], nn.ReLU())
        self.blocks = nn.Sequential()
        for wide, narrow in pairwise(widths):
            self.blocks.append(block(up(wide, narrow), narrow, nn.ReLU()))
        for _ in range(depth):
            self.blocks.append(block(keep(width), width, nn.ReLU()))
        self.head = up(width, channels)

    def forward(self, z: Tensor) -> Tensor:
        """Images (batch, channels, size, size) in [-1, 1] from z (batch, latent_dim)."""
        return self.head(self.blocks(self.stem(z[:, :, None, None]))).tanh()


class Discriminator(nn.Module):
    """Images to one logit each: the generator's layers, mirrored."""

    def __init__(self, channels: int, width: int, doublings: int, depth: int) -> None:
        """Build for images of 4 * 2**doublings pixels with `channels` channels."""
        super().__init__()
        widths = [width * 2**i for i in range(doublings)]
        self.stem = nn.Sequential(OrderedDict(conv=down(channels, width), activation=nn.LeakyReLU(LEAK)))
        self.blocks = nn.Sequential()
        for _ in range(depth):
            self.blocks.append(block(keep(width), width, nn.LeakyReLU(LEAK)))
        for narrow, wide in pairwise(widths):
            self.blocks.append(block(down(narrow, wide), wide, nn.LeakyReLU(LEAK)))
        self.head = nn.Conv2d(widths[-1], 1, SMALLEST, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch,) of images (batch, channels, size, size) in [-1, 1]."""
        return self.head(self.blocks(self.stem(image))).flatten()


class GAN(nn.Module):
    """A generator, and the discriminator that teaches it; generating needs only the first."""

    def __init__(self, config: GANConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        shared = config.doublings, config.depth
        self.generator = Generator(config.latent_dim, config.in_channels, config.generator_width, *shared)
        self.discriminator = Discriminator(config.in_channels, config.discriminator_width, *shared)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            z: (batch, latent_dim), standard normal.
            label: None, for this model cannot be told what to draw.

        Returns:
            (batch, in_channels, image_size, image_size) in [-1, 1].

        Raises:
            ValueError: a label is given.
        """
        if label is not None:
            raise ValueError("this GAN is unconditional, so it takes no label; leave it out")
        return self.generator(z)

    def init_weights(self) -> None:
        """Draw weights from N(0, 0.02), and those of norms from N(1, 0.02)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=INIT_STD)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
                nn.init.normal_(module.weight, mean=1.0, std=INIT_STD)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes: noise to generate from."""
        return {"z": torch.randn(batch_size, self.config.latent_dim)}


ARCHITECTURE = Architecture(
    name="gan",
    model=GAN,
    config=GANConfig,
    task="unconditional-image-generation",
    paper="https://arxiv.org/abs/1511.06434",
    tiny=GANConfig(latent_dim=6, image_size=16, generator_width=4, discriminator_width=4),
    presets={"dcgan_64": GANConfig()},
    params={"gan": 6_342_272, "dcgan_64": 6_342_272},
    aliases={"dcgan": "dcgan_64"},
)
