"""DCGAN (Radford, Metz and Chintala, 2016), https://arxiv.org/abs/1511.06434: figure 1 and section 3.

Two networks play against each other (Goodfellow et al., 2014, https://arxiv.org/abs/1406.2661): the generator turns
noise into images, the discriminator tells them from real ones. What the paper added are the rules that made this
work with convolutions: strides instead of pooling, batch norm everywhere but where images enter and leave, no hidden
linear layers, ReLU in the generator and leaky ReLU in the discriminator.

What later papers added is there when the config asks for it:
- `num_classes`: the generator's batch norms have scales and shifts for each class, and the discriminator looks for
  the class by projection (Miyato and Koyama, 2018, https://arxiv.org/abs/1802.05637, equation 5);
- `spectral_norm` of the discriminator (Miyato et al., 2018, https://arxiv.org/abs/1802.05957);
- `discriminator_norm`: a critic whose slope is penalised has layer norm or none (Gulrajani et al., 2017,
  https://arxiv.org/abs/1704.00028, section 4).

Differences from the paper:
- both widths are 64, as in the code that everybody trains; `generator_width=128` gives figure 1, which starts from
  1024 channels;
- z is drawn from a normal distribution rather than uniformly, as in that code;
- `image_size` may be 4 * 2**k for any k >= 1: each doubling is one block more in both networks;
- `depth` adds blocks that keep the resolution, for images so small that there are few others;
- the preset `gan_conditional` is the same networks told ten classes, and of no paper.

Differences from the later ones: the projection is of the whole last map, which this discriminator's head reads, and not
of its sum over positions; spectral norm looks at the singular vector after, not before, its step of power iteration.

Glossary (our word, meaning, the paper's symbol):
    z              the latent, noise                             Z
    label          what is to be drawn                           y
    stem           the noise, projected and reshaped             project and reshape
    discriminator  how real an image is, as a logit              D, before its sigmoid
    classes        a head with a logit for each class            V, so that y^T V phi(x) is the label's logit
    u              left singular vector of the largest value     u, after u~ has converged

Input: z (batch, latent_dim), float, standard normal; with classes label (batch,), int64 in [0, num_classes). Output:
images (batch, in_channels, image_size, image_size) in [-1, 1]. `discriminator` takes such images, with classes their
labels, and gives logits (batch,), positive where it believes them real.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.checks import check_column
from zoo.registry import Architecture

LEAK = 0.2
"""The slope of leaky ReLU below zero (section 4)."""
INIT_STD = 0.02
"""The standard deviation of all initial weights (section 4)."""
SEARCH = 15
"""Steps of power iteration before training, so that even fresh weights are divided by about the right number."""
SMALLEST = 4
"""Height and width where the generator begins and the discriminator ends."""
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm2d,
    "layer": partial(nn.GroupNorm, 1),
    "none": lambda _: nn.Identity(),
}
"""What may stand in the discriminator's blocks; layer norm is over channels and positions."""


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
    num_classes: int = 0
    """Classes, of which both networks are told one for each image; 0 is for networks that are told none."""
    discriminator_norm: Literal["batch", "layer", "none"] = "batch"
    """In the discriminator's blocks; a penalty on its slope forbids batch norm, by which images see each other."""
    spectral_norm: bool = False
    """Whether the weights of each of the discriminator's layers are divided by their largest singular value."""

    def __post_init__(self) -> None:
        """Refuse sizes that doubling cannot reach, and empty layers."""
        for name in ("latent_dim", "in_channels", "generator_width", "discriminator_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} must be at least 1")
        if self.depth < 0:
            raise ValueError(f"depth {self.depth} is negative")
        if self.num_classes < 0:
            raise ValueError(f"num_classes {self.num_classes} is negative; 0 is for a GAN that is told no class")
        if self.discriminator_norm not in NORMS:
            raise ValueError(f"discriminator_norm {self.discriminator_norm!r} is none of {', '.join(NORMS)}")
        if self.image_size not in (SMALLEST * 2**doublings for doublings in range(1, 16)):
            raise ValueError(f"image_size {self.image_size} is not 4 * 2**k with k >= 1; take 8, 16, 32, 64, ...")

    @property
    def doublings(self) -> int:
        """How often the resolution doubles between 4 x 4 and the image."""
        return (self.image_size // SMALLEST).bit_length() - 1


def up(in_channels: int, channels: int) -> nn.ConvTranspose2d:
    """A convolution that doubles the resolution."""
    return nn.ConvTranspose2d(in_channels, channels, kernel_size=4, stride=2, padding=1, bias=False)


def down(in_channels: int, channels: int, bias: bool = False) -> nn.Conv2d:
    """A convolution that halves it."""
    return nn.Conv2d(in_channels, channels, kernel_size=4, stride=2, padding=1, bias=bias)


def keep(channels: int, bias: bool = False) -> nn.Conv2d:
    """A convolution that changes no shape."""
    return nn.Conv2d(channels, channels, kernel_size=3, padding=1, bias=bias)


class Spectral(nn.Module):
    """A convolution whose weights, as a matrix with a row for each output, have the largest singular value one.

    Source: Miyato et al. (2018), algorithm 1. In training each forward pass takes one step of power iteration, which
    the gradient does not see, towards the left singular vector; its state `u` is trained on and saved like weights.
    """

    u: Tensor

    def __init__(self, conv: nn.Conv2d) -> None:
        """Keep the convolution."""
        super().__init__()
        self.conv = conv
        self.register_buffer("u", torch.empty(conv.out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """What the convolution would give without its bias, divided by the largest singular value, and the bias."""
        conv = self.conv
        weight, u = conv.weight.flatten(1).float(), F.normalize(self.u.float(), dim=0)  # an average is not of length 1
        if self.training:
            u = follow(u, weight.detach())
            with torch.no_grad():
                self.u.copy_(u)
        largest = along(u, weight).norm()
        return F.conv2d(x, (conv.weight / largest).to(conv.weight.dtype), conv.bias, conv.stride, conv.padding)

    @torch.no_grad()
    def reset(self) -> None:
        """Find the singular vector of the weights as they are."""
        u = F.normalize(torch.randn_like(self.u), dim=0)
        for _ in range(SEARCH):
            u = follow(u, self.conv.weight.flatten(1))
        self.u.copy_(u)


def along(u: Tensor, weight: Tensor) -> Tensor:
    """weight^T u, (columns,), of u (rows,) and weight (rows, columns); no product that autocast would round."""
    return (weight * u[:, None]).sum(0)


def follow(u: Tensor, weight: Tensor) -> Tensor:
    """One step of power iteration: u (rows,), closer to the left singular vector of weight (rows, columns)."""
    return F.normalize((weight * F.normalize(along(u, weight), dim=0)).sum(1), dim=0)


class ClassNorm(nn.Module):
    """Batch norm with a scale and a shift for each class: conditional batch normalization (de Vries et al., 2017)."""

    def __init__(self, num_classes: int, channels: int) -> None:
        """Keep what is common to all classes, and what is not."""
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale, self.shift = nn.Embedding(num_classes, channels), nn.Embedding(num_classes, channels)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """(batch, channels, height, width), of classes (batch,), -> the same shape."""
        scale, shift = self.scale(label)[:, :, None, None], self.shift(label)[:, :, None, None]
        return torch.addcmul(shift, self.norm(x), scale)


class Block(nn.Module):
    """A convolution, a norm, which may be told the class, and an activation."""

    def __init__(self, conv: nn.Module, norm: nn.Module, activation: nn.Module) -> None:
        """Keep them."""
        super().__init__()
        self.conv, self.norm, self.activation = conv, norm, activation

    def forward(self, x: Tensor, *told: Tensor) -> Tensor:
        """(batch, channels, height, width) -> what the convolution makes of it."""
        return self.activation(self.norm(self.conv(x), *told))


class Generator(nn.Module):
    """Noise to images: 4 x 4 positions with many channels, then ever more positions with ever fewer channels."""

    def __init__(self, config: GANConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        width, classes = config.generator_width, config.num_classes
        widths = [width * 2**i for i in reversed(range(config.doublings))]

        def normed(conv: nn.ConvTranspose2d | nn.Conv2d) -> Block:
            channels = conv.out_channels
            return Block(conv, ClassNorm(classes, channels) if classes else nn.BatchNorm2d(channels), nn.ReLU())

        self.stem = normed(nn.ConvTranspose2d(config.latent_dim, widths[0], SMALLEST, bias=False))
        self.blocks = nn.ModuleList(normed(up(wide, narrow)) for wide, narrow in pairwise(widths))
        self.blocks.extend(normed(keep(width)) for _ in range(config.depth))
        self.head = up(width, config.in_channels)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Images (batch, channels, size, size) in [-1, 1] from z (batch, latent_dim) and, with classes, label."""
        check_label(label, self.config.num_classes, z.shape[0])
        told = () if label is None else (label,)
        x = self.stem(z[:, :, None, None], *told)
        for block in self.blocks:
            x = block(x, *told)
        return self.head(x).tanh()


class Discriminator(nn.Module):
    """Images to one logit each: the generator's layers, mirrored."""

    def __init__(self, config: GANConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        width, bias = config.discriminator_width, config.discriminator_norm == "none"  # which a norm would undo
        widths = [width * 2**i for i in range(config.doublings)]

        def layer(conv: nn.Conv2d) -> nn.Module:
            return Spectral(conv) if config.spectral_norm else conv

        def normed(conv: nn.Conv2d) -> Block:
            return Block(layer(conv), NORMS[config.discriminator_norm](conv.out_channels), nn.LeakyReLU(LEAK))

        self.stem = Block(layer(down(config.in_channels, width)), nn.Identity(), nn.LeakyReLU(LEAK))
        self.blocks = nn.Sequential(*(normed(keep(width, bias)) for _ in range(config.depth)))
        self.blocks.extend(normed(down(narrow, wide, bias)) for narrow, wide in pairwise(widths))
        self.head = layer(nn.Conv2d(widths[-1], 1, SMALLEST, bias=False))
        if config.num_classes:
            self.classes = layer(nn.Conv2d(widths[-1], config.num_classes, SMALLEST, bias=False))

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        """How real images are.

        Args:
            image: (batch, in_channels, image_size, image_size) in [-1, 1].
            label: (batch,) int64 in [0, num_classes), what they show; None without classes.

        Returns:
            Logits (batch,): with classes, how real it is as an image and as one of its class, added up.

        Raises:
            ValueError: label is missing, or not asked for, or no such class.
        """
        check_label(label, self.config.num_classes, image.shape[0])
        x = self.blocks(self.stem(image))
        logit = self.head(x).flatten()
        if label is None:
            return logit
        return logit + self.classes(x).flatten(1).gather(1, label[:, None])[:, 0]


def check_label(label: Tensor | None, num_classes: int, batch: int) -> None:
    """Refuse a label that the networks do not take, and none where they need one.

    Raises:
        ValueError: it is missing, or not asked for, or not one class for each image.
    """
    if not num_classes:
        if label is not None:
            raise ValueError("this GAN is unconditional, so it takes no label; leave it out, or create it with classes")
        return
    if label is None:
        raise ValueError(f"this GAN draws the class that it is told; give label, (batch,) int64 in [0, {num_classes})")
    check_column("label", label, batch)
    if label.dtype != torch.int64:
        raise ValueError(f"label must be int64, got {label.dtype}; label.long() converts it")
    if torch.compiler.is_compiling() or label.device.type != "cpu":
        return  # looking at values would break the graph, or wait for the device
    if ((label < 0) | (label >= num_classes)).any():
        raise ValueError(f"label {label.tolist()} is not all in [0, {num_classes}): there are {num_classes} classes")


class GAN(nn.Module):
    """A generator, and the discriminator that teaches it; generating needs only the first."""

    def __init__(self, config: GANConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images.

        Args:
            z: (batch, latent_dim), standard normal.
            label: (batch,) int64 in [0, num_classes), what to draw; None without classes.

        Returns:
            (batch, in_channels, image_size, image_size) in [-1, 1].

        Raises:
            ValueError: label is missing, or not asked for, or no such class.
        """
        return self.generator(z, label)

    def init_weights(self) -> None:
        """Draw weights from N(0, 0.02), and those of norms from N(1, 0.02)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, std=INIT_STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm):
                module.reset_parameters()
                if module.affine:
                    nn.init.normal_(module.weight, mean=1.0, std=INIT_STD)
            elif isinstance(module, ClassNorm):
                nn.init.normal_(module.scale.weight, mean=1.0, std=INIT_STD)
                nn.init.zeros_(module.shift.weight)
        for module in self.modules():
            if isinstance(module, Spectral):
                module.reset()

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes: noise to generate from, and with classes which of them."""
        z, classes = torch.randn(batch_size, self.config.latent_dim), self.config.num_classes
        return {"z": z, "label": torch.randint(classes, (batch_size,))} if classes else {"z": z}


ARCHITECTURE = Architecture(
    name="gan",
    model=GAN,
    config=GANConfig,
    task="unconditional-image-generation",
    paper="https://arxiv.org/abs/1511.06434",
    tiny=GANConfig(latent_dim=6, image_size=16, generator_width=4, discriminator_width=4),
    presets={"dcgan_64": GANConfig(), "gan_conditional": GANConfig(num_classes=10)},
    params={"gan": 6_342_272, "dcgan_64": 6_342_272, "gan_conditional": 6_441_472},
    aliases={"dcgan": "dcgan_64"},
)
