"""AutoencoderKL (Rombach et al., 2022), https://arxiv.org/abs/2112.10752: section 3.1, appendix G, table 8 (f = 8).

The first stage of latent diffusion: an image becomes a map of few channels, an eighth as high and wide, in which a
diffusion model then works, and becomes an image again. Residual blocks of convolutions and group norms halve and
double the resolution; at the coarsest, all positions attend to each other once. As in a VAE (Kingma and Welling,
2014) the encoder gives a normal distribution, here held only loosely to the standard one.

Differences from the paper: none in the network, which is the one of Stable Diffusion 1 and 2 and of SDXL. The
latents are not scaled: those who train a diffusion model on them multiply by 0.18215 (Stable Diffusion) or 0.13025
(SDXL) themselves.

Glossary (our word, meaning, the paper's symbol):
    z             a latent map                                            z
    mu, logvar    the moments of z given an image                         "KL-reg"
    widths        channels at each resolution, finest first               ch * ch_mult
    depth         residual blocks at each resolution of the encoder       num_res_blocks
    quant         linear maps at either side of the latent, a remnant     quant_conv, post_quant_conv
                  of the variant with a codebook

Input: image (batch, in_channels, height, width) in [-1, 1], height and width multiples of 2**(len(widths) - 1).
Output: the reconstruction, of the same shape; mu and logvar (batch, latent_dim, height / 8, width / 8).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.image import check_image
from zoo.nn.tiles import Normalise, by_itself, decode_in_tiles
from zoo.registry import Architecture

NORM_EPS = 1e-6
"""Of all group norms in the published code."""
LOGVAR = (-30.0, 20.0)
"""What logvar is clamped to in the published code."""
EXAMPLE = 4
"""Height and width of the latents of `example_inputs`."""


class AutoencoderKLOutput(NamedTuple):
    """What `forward` gives."""

    reconstruction: Tensor
    """(batch, in_channels, height, width)."""
    mu: Tensor
    """(batch, latent_dim, height / 8, width / 8)."""
    logvar: Tensor
    """As mu."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderKLConfig:
    """The shape of a first stage; by default that of Stable Diffusion."""

    in_channels: int = 3
    latent_dim: int = 4
    """Channels of a latent."""
    widths: tuple[int, ...] = (128, 256, 512, 512)
    """Between two of them the resolution halves."""
    depth: int = 2
    """Residual blocks at each resolution; the decoder has one more."""
    groups: int = 32
    """Of every norm."""
    quant: bool = True
    """Whether 1 x 1 convolutions stand at either side of the latent."""

    def __post_init__(self) -> None:
        """Refuse empty layers and groups that do not divide."""
        for name in ("in_channels", "latent_dim", "depth", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if not self.widths:
            raise ValueError("widths is empty; give the channels of one resolution at least")
        for width in self.widths:
            if width < 1 or width % self.groups:
                raise ValueError(f"width {width} of widths {self.widths} is no multiple of groups {self.groups}")

    @property
    def factor(self) -> int:
        """Pixels per position of a latent, along either side."""
        return 2 ** (len(self.widths) - 1)


def conv(in_channels: int, channels: int) -> nn.Conv2d:
    """A convolution that keeps the resolution."""
    return nn.Conv2d(in_channels, channels, kernel_size=3, padding=1)


class Block(nn.Module):
    """A residual block: twice norm, SiLU and convolution."""

    def __init__(self, in_channels: int, channels: int, groups: int) -> None:
        """The shortcut is a convolution where the number of channels changes."""
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=NORM_EPS)
        self.conv1 = conv(in_channels, channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.conv2 = conv(channels, channels)
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)

    def forward(self, x: Tensor, normalise: Normalise = by_itself) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, channels, height, width)."""
        h = self.conv1(F.silu(normalise(self.norm1, x)))
        h = self.conv2(F.silu(normalise(self.norm2, h)))
        return self.shortcut(x) + h


class Attention(nn.Module):
    """Self-attention with one head over all positions of a map."""

    def __init__(self, channels: int, groups: int) -> None:
        """Queries, keys and values come from one matrix."""
        super().__init__()
        self.norm = nn.GroupNorm(groups, channels, eps=NORM_EPS)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        tokens = self.norm(x).flatten(2).mT  # (batch, positions, channels)
        query, key, value = self.qkv(tokens)[:, None].chunk(3, dim=-1)  # each (batch, one head, positions, channels)
        attended = F.scaled_dot_product_attention(query, key, value)[:, 0]
        return x + self.proj(attended).mT.unflatten(-1, x.shape[-2:])


class Middle(nn.Module):
    """Attention between two residual blocks."""

    def __init__(self, channels: int, groups: int) -> None:
        """All three keep the channels."""
        super().__init__()
        self.block1 = Block(channels, channels, groups)
        self.attn = Attention(channels, groups)
        self.block2 = Block(channels, channels, groups)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        return self.block2(self.attn(self.block1(x)))


class Down(nn.Module):
    """Half the resolution; zeros come in at the right and below only, as in the published code."""

    def __init__(self, channels: int) -> None:
        """Keep the channels."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, height / 2, width / 2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Twice the resolution: every position four times, then a convolution."""

    def __init__(self, channels: int) -> None:
        """Keep the channels."""
        super().__init__()
        self.conv = conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, 2 * height, 2 * width)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Stage(nn.Module):
    """Residual blocks at one resolution, then the way to the next."""

    def __init__(self, in_channels: int, channels: int, depth: int, groups: int, resample: nn.Module) -> None:
        """The first block changes the channels; `resample` is what comes after the last."""
        super().__init__()
        self.blocks = nn.ModuleList(Block(a, channels, groups) for a in (in_channels, *[channels] * (depth - 1)))
        self.resample = resample

    def forward(self, x: Tensor, normalise: Normalise = by_itself) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, channels, ...), at the next resolution."""
        for block in self.blocks:
            x = block(x, normalise)
        return self.resample(x)


class Encoder(nn.Module):
    """Images to the moments of their latents."""

    def __init__(self, config: AutoencoderKLConfig) -> None:
        """Build from a config."""
        super().__init__()
        widths, groups = config.widths, config.groups
        self.stem = conv(config.in_channels, widths[0])
        self.stages = nn.ModuleList()
        for before, width in pairwise((widths[0], *widths)):
            last = len(self.stages) == len(widths) - 1
            self.stages.append(Stage(before, width, config.depth, groups, nn.Identity() if last else Down(width)))
        self.mid = Middle(widths[-1], groups)
        self.norm = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.head = conv(widths[-1], 2 * config.latent_dim)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, 2 * latent_dim, height / 8, width / 8)."""
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        return self.head(F.silu(self.norm(self.mid(x))))


class Decoder(nn.Module):
    """Latents to images: the encoder's stages in reverse, with a block more each."""

    def __init__(self, config: AutoencoderKLConfig) -> None:
        """Build from a config."""
        super().__init__()
        widths, groups = config.widths[::-1], config.groups
        self.stem = conv(config.latent_dim, widths[0])
        self.mid = Middle(widths[0], groups)
        self.stages = nn.ModuleList()
        for before, width in pairwise((widths[0], *widths)):
            last = len(self.stages) == len(widths) - 1
            self.stages.append(Stage(before, width, config.depth + 1, groups, nn.Identity() if last else Up(width)))
        self.norm = nn.GroupNorm(groups, widths[-1], eps=NORM_EPS)
        self.head = conv(widths[-1], config.in_channels)

    def forward(self, z: Tensor) -> Tensor:
        """(batch, latent_dim, height, width) -> (batch, in_channels, 8 * height, 8 * width)."""
        return self.outer(self.inner(z))

    def inner(self, z: Tensor) -> Tensor:
        """What is computed at the latent's own resolution, before the stages: (batch, widths[-1], height, width)."""
        return self.mid(self.stem(z))

    def outer(self, x: Tensor, normalise: Normalise = by_itself) -> Tensor:
        """The image of what `inner` gives; but for the norms, a pixel depends on few positions around its own."""
        for stage in self.stages:
            x = stage(x, normalise)
        return self.head(F.silu(normalise(self.norm, x)))


class AutoencoderKL(nn.Module):
    """A convolutional VAE whose latents are maps."""

    def __init__(self, config: AutoencoderKLConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        both, one = 2 * config.latent_dim, config.latent_dim
        self.quant = nn.Conv2d(both, both, 1) if config.quant else nn.Identity()
        self.post_quant = nn.Conv2d(one, one, 1) if config.quant else nn.Identity()

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """mu and logvar, each (batch, latent_dim, height / 8, width / 8), unscaled.

        Args:
            image: (batch, in_channels, height, width) in [-1, 1].

        Raises:
            ValueError: height or width is no multiple of 8 (of 2**(len(widths) - 1)).
        """
        factor = self.config.factor
        check_image(self, image, factor)
        height, width = image.shape[-2:]
        if height % factor or width % factor:
            raise ValueError(f"an image of {height} x {width} pixels is no multiple of {factor} pixels; resize it")
        mu, logvar = self.quant(self.encoder(image)).chunk(2, dim=1)
        return mu, logvar.clamp(*LOGVAR)

    def decode(self, z: Tensor) -> Tensor:
        """Images (batch, in_channels, 8 * height, 8 * width) of latents (batch, latent_dim, height, width)."""
        return self.decoder(self.post_quant(z))

    @torch.no_grad()
    def decode_tiled(self, z: Tensor, *, tile: int = 64, overlap: int = 16, exact: bool = True) -> Tensor:
        """As `decode`, in memory that grows with the image no further than the image itself; without gradients.

        The attention runs whole, for it is small. Away from the seams the image is that of `decode`; over them, where a
        tile does not see all that a pixel depends on, it passes linearly from one tile to the next.

        Args:
            z: (batch, latent_dim, height, width).
            tile: height and width of a tile, in positions of the latent.
            overlap: positions that neighbours have in common, at most half a tile.
            exact: whether norms see the whole image, which takes about ten times as long; if not, each tile has a
                contrast of its own, as in other libraries.

        Raises:
            ValueError: tile and overlap do not fit.
        """
        x = self.decoder.inner(self.post_quant(z))
        return decode_in_tiles(self.decoder.outer, x, self.config.factor, tile=tile, overlap=overlap, exact=exact)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> AutoencoderKLOutput:
        """Images, as they are after going through their latents.

        Args:
            image: (batch, in_channels, height, width) in [-1, 1].
            noise: (batch, latent_dim, height / 8, width / 8), standard normal, by which z is drawn; None
                takes the mean.
        """
        mu, logvar = self.encode(image)
        z = mu if noise is None else mu + (logvar / 2).exp() * noise
        return AutoencoderKLOutput(self.decode(z), mu, logvar)

    def latent_shape(self, image: Tensor) -> tuple[int, ...]:
        """The shape of the latent of one of these images."""
        return (self.config.latent_dim, *(side // self.config.factor for side in image.shape[-2:]))

    def init_weights(self) -> None:
        """As PyTorch does by default, for so does the published code."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.GroupNorm):
                module.reset_parameters()

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` needs."""
        size = EXAMPLE * self.config.factor
        return {"image": torch.rand(batch_size, self.config.in_channels, size, size) * 2 - 1}


ARCHITECTURE = Architecture(
    name="autoencoder_kl",
    model=AutoencoderKL,
    config=AutoencoderKLConfig,
    task="image-to-image",
    paper="https://arxiv.org/abs/2112.10752",
    tiny=AutoencoderKLConfig(latent_dim=2, widths=(4, 8), depth=1, groups=2),
    presets={
        "sd_vae": AutoencoderKLConfig(),
        "sd3_vae": AutoencoderKLConfig(latent_dim=16, quant=False),
    },
    params={"autoencoder_kl": 83_653_863, "sd_vae": 83_653_863, "sd3_vae": 83_819_683},
    aliases={"sdxl_vae": "sd_vae.sdxl", "flux_vae": "sd3_vae"},
)
