"""U-Net of diffusion models: DDPM (Ho et al., 2020), https://arxiv.org/abs/2006.11239, appendix B.

With the options of Nichol and Dhariwal (2021), https://arxiv.org/abs/2102.09672, and of ADM (Dhariwal and Nichol, 2021,
https://arxiv.org/abs/2105.05233, section 3 and table 1): a time embedding that scales and shifts, residual blocks that
resample, attention at several resolutions in heads of a fixed width, classes, and twice the channels, whose second half
says the variance.

The encoder halves the image from level to level, the decoder doubles it, and every feature map of the encoder is kept
for the decoder, which concatenates the latest one that is left to the input of each of its blocks. All blocks are told
the timestep.

Differences from the papers:
- each level's channels are given themselves, not as multiples of the first's;
- there is no dropout unless it is asked for, as in the published configs; CIFAR-10 was trained with 0.1.

Glossary (our word, meaning, the papers' word):
    image        what the noise schedule makes of an image       x_t
    timestep     how noisy it is                                 t
    channels     of each level, the largest resolution first     model channels times channel multiplier
    depth        residual blocks of a level                      num_res_blocks
    level        0 is the full resolution, 1 half of it, ...     resolution
    stages       the encoder's levels, the middle, the decoder's  input, middle and output blocks
    scale_shift  the time scales and shifts the second norm      adaptive group normalization (AdaGN)

Input: image (batch, in_channels, height, width), float, of a size that can be halved often enough; timestep (batch,),
a whole number in [0, 1000) in the papers, but any number will do; label (batch,) int64 where there are classes.
Output: what the network is trained to predict, the noise in the papers, (batch, out_channels, height, width).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.checks import check_column
from zoo.nn.image import check_image
from zoo.registry import Architecture

LONGEST = 10_000
"""Of the wavelengths of the timestep's sinusoids, divided by 2 pi; the shortest is 1."""
TIME = 4
"""Width of the time embedding, in channels of the first level."""
TIMESTEPS = 1000
"""Levels of noise in the papers."""


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """The shape of a U-Net; by default DDPM's for CIFAR-10."""

    image_size: int = 32
    """Height and width of the images that it is made for; others do, too."""
    in_channels: int = 3
    out_channels: int | None = None
    """None: as many as `in_channels`."""
    channels: tuple[int, ...] = (128, 256, 256, 256)
    """Of each level, the full resolution first; the number of levels is how many there are."""
    depth: int = 2
    """Residual blocks of each level of the encoder; the decoder has one more."""
    attention_levels: tuple[int, ...] = (1,)
    """The levels whose blocks are followed by attention; the middle always has it. 0 is the full resolution."""
    num_heads: int = 1
    head_dim: int | None = None
    """Width of a head, which then decides how many there are; None: `num_heads` share the channels."""
    num_classes: int = 0
    """0: the network is told no class."""
    null_label: bool = True
    """Whether there is beside classes a label more, `num_classes`, that says nothing; guidance needs it."""
    freq_shift: int = 1
    """Subtracted from the number of the timestep's frequencies where they are spread; with 1 the last is 1 / 10,000."""
    cosine_first: bool = False
    """Whether the timestep's cosines stand before its sines."""
    scale_shift: bool = False
    """Whether the time scales and shifts what the second norm gives, or is added before it."""
    resample: Literal["conv", "block"] = "conv"
    """What halves and doubles the resolution: a convolution, or a residual block."""
    downsample_padding: Literal["end", "both"] = "end"
    """Where the convolution that halves is padded: right and below alone, as TensorFlow does, or on every side."""
    norm_groups: int = 32
    norm_eps: float = 1e-6
    dropout: float = 0.0

    def __post_init__(self) -> None:
        """Refuse shapes that do not divide, and empty layers."""
        for name in ("image_size", "in_channels", "out_channels", "depth", "num_heads", "head_dim", "norm_groups"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} {value} is below 1")
        if min(self.channels, default=0) < 1:
            raise ValueError(f"channels {self.channels} must be one number above 0 for each level")
        levels = len(self.channels)
        if self.image_size % 2 ** (levels - 1):
            raise ValueError(f"image_size {self.image_size} cannot be halved {levels - 1} times, for {levels} levels")
        if lost := [level for level in self.attention_levels if not 0 <= level < levels]:
            raise ValueError(f"attention_levels has {lost[0]}, and the levels are 0 to {levels - 1}")
        if odd := [channels for channels in self.channels if channels % self.norm_groups]:
            raise ValueError(f"channels {odd[0]} is not divisible by norm_groups {self.norm_groups}")
        for level in {*self.attention_levels, levels - 1}:
            name = "num_heads" if self.head_dim is None else "head_dim"
            if self.channels[level] % getattr(self, name):
                raise ValueError(f"channels {self.channels[level]} is not divisible by {name} {getattr(self, name)}")
        if self.channels[0] % 2:
            raise ValueError(f"the first of channels, {self.channels[0]}, is odd; half of it are sines, half cosines")
        if not 0 <= self.freq_shift < self.channels[0] // 2:
            raise ValueError(f"freq_shift {self.freq_shift} is not in [0, {self.channels[0]} / 2), half of channels[0]")
        if self.num_classes < 0:
            raise ValueError(f"num_classes {self.num_classes} is negative; 0 is for a network that is told no class")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")


def sinusoids(timestep: Tensor, dim: int, freq_shift: int, cosine_first: bool) -> Tensor:
    """(batch,) -> (batch, dim), float32: sines and cosines at frequencies spread evenly in logarithm from 1 down."""
    half = dim // 2
    steps = torch.arange(half, dtype=torch.float32, device=timestep.device)
    angles = timestep.float()[:, None] * torch.exp(-math.log(LONGEST) / (half - freq_shift) * steps)
    return torch.cat((angles.cos(), angles.sin()) if cosine_first else (angles.sin(), angles.cos()), dim=-1)


class TimeEmbed(nn.Module):
    """The timestep's sinusoids through two linear layers."""

    def __init__(self, config: UNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.dim, self.freq_shift, self.cosine_first = config.channels[0], config.freq_shift, config.cosine_first
        self.up = nn.Linear(self.dim, TIME * self.dim)
        self.proj = nn.Linear(TIME * self.dim, TIME * self.dim)

    def forward(self, timestep: Tensor) -> Tensor:
        """(batch,) -> (batch, 4 * channels of the first level)."""
        waves = sinusoids(timestep, self.dim, self.freq_shift, self.cosine_first)
        return self.proj(F.silu(self.up(waves.to(self.up.weight.dtype))))


class Attention(nn.Module):
    """Every position asks every other one; added to what came in."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.num_heads = config.num_heads if config.head_dim is None else channels // config.head_dim
        self.norm = nn.GroupNorm(config.norm_groups, channels, eps=config.norm_eps)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        positions = self.norm(x).flatten(2).mT  # (batch, height * width, channels)
        qkv = self.qkv(positions).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.movedim(2, 0).transpose(-3, -2)  # each (batch, heads, height * width, head_dim)
        found = F.scaled_dot_product_attention(query, key, value).transpose(-3, -2).flatten(-2)
        return x + self.proj(found).mT.unflatten(-1, x.shape[-2:])


class Block(nn.Module):
    """Two convolutions that are told the time, beside a shortcut; then attention, where there is some."""

    def __init__(
        self,
        config: UNetConfig,
        in_channels: int,
        channels: int,
        attend: bool = False,
        resample: nn.Module | None = None,
    ) -> None:
        """Build from a config; `resample`, on both ways, halves or doubles maps, and has no weights."""
        super().__init__()
        groups, eps, time = config.norm_groups, config.norm_eps, TIME * config.channels[0]
        self.scale_shift = config.scale_shift
        self.norm1 = nn.GroupNorm(groups, in_channels, eps=eps)
        self.resample = resample or nn.Identity()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.time = nn.Linear(time, 2 * channels if config.scale_shift else channels)
        self.norm2 = nn.GroupNorm(groups, channels, eps=eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = nn.Identity() if in_channels == channels else nn.Conv2d(in_channels, channels, 1)
        self.attn = Attention(config, channels) if attend else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Maps (batch, in_channels, height, width) and time (batch, time) -> (batch, channels, ...)."""
        hidden = self.conv1(self.resample(F.silu(self.norm1(x))))
        told = self.time(time)[:, :, None, None]
        if self.scale_shift:
            scale, shift = told.chunk(2, dim=1)
            hidden = self.norm2(hidden) * (1 + scale) + shift
        else:
            hidden = self.norm2(hidden + told)
        return self.attn(self.shortcut(self.resample(x)) + self.conv2(self.dropout(F.silu(hidden))))


class Downsample(nn.Module):
    """Half the resolution by a convolution."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        """Build from a config."""
        super().__init__()
        self.ends = config.downsample_padding == "end"
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if self.ends else 1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, height / 2, width / 2), at all times alike."""
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.ends else x)


class Upsample(nn.Module):
    """Twice the resolution: each number four times, and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, channels, 2 * height, 2 * width), at all times alike."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def stages(config: UNetConfig) -> list[nn.ModuleList]:
    """The encoder's levels, the middle, and the decoder's levels; each ends in what changes the resolution."""
    encoder: list[nn.ModuleList] = []
    decoder: list[nn.ModuleList] = []
    levels, last, by_block = config.channels, config.channels[-1], config.resample == "block"
    for level, width in enumerate(levels):
        build = partial(Block, config, attend=level in config.attention_levels)
        above, below = levels[max(level - 1, 0)], [*levels, last][level + 1]
        encoder.append(nn.ModuleList(build(above if i == 0 else width, width) for i in range(config.depth)))
        inputs = (below + width, *[2 * width] * (config.depth - 1), width + above)  # with the encoder's maps, backwards
        decoder.insert(0, nn.ModuleList(build(channels, width) for channels in inputs))
        if level < len(levels) - 1:
            pool = nn.AvgPool2d(2)
            encoder[-1].append(Block(config, width, width, resample=pool) if by_block else Downsample(config, width))
        if level:
            repeat = nn.Upsample(scale_factor=2.0)
            decoder[0].append(Block(config, width, width, resample=repeat) if by_block else Upsample(width))
    middle = nn.ModuleList([Block(config, last, last, attend=True), Block(config, last, last)])
    return [*encoder, middle, *decoder]


class UNet(nn.Module):
    """An encoder, a middle and a decoder that sees the encoder's maps, all told how noisy the image is."""

    no_weight_decay = ("label_embed.weight",)

    def __init__(self, config: UNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        first = config.channels[0]
        self.time_embed = TimeEmbed(config)
        classes = config.num_classes
        self.label_embed = nn.Embedding(classes + config.null_label, TIME * first) if classes else None
        self.stem = nn.Conv2d(config.in_channels, first, 3, padding=1)
        self.stages = nn.ModuleList(stages(config))
        self.norm = nn.GroupNorm(config.norm_groups, first, eps=config.norm_eps)
        self.head = nn.Conv2d(first, config.out_channels or config.in_channels, 3, padding=1)

    def forward(self, image: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """What the network is trained to predict of noisy images.

        Args:
            image: (batch, in_channels, height, width), as the noise schedule gives it.
            timestep: (batch,), whole numbers or fractions.
            label: (batch,) int64 in [0, num_classes); None is for a network without classes, or for `null_label`.

        Returns:
            (batch, out_channels, height, width).

        Raises:
            TypeError: the image is no tensor.
            ValueError: the image has another shape or dtype than the network takes or cannot be halved often enough,
                a timestep or label is not given for each image, or a label is missing or given to a network without.
        """
        levels, depth = len(self.config.channels), self.config.depth
        check_image(self, image)
        (height, width), step = image.shape[-2:], 2 ** (levels - 1)
        if height % step or width % step:
            raise ValueError(f"an image of {height} x {width} pixels cannot be halved; make both multiples of {step}")
        time = F.silu(self.embed_time(image, timestep, label))
        x = self.stem(image)
        kept = [x]
        every = [*self.stages]
        encoder, middle, decoder = every[:levels], every[levels], every[levels + 1 :]
        for stage in encoder:
            for block in stage.children():
                x = block(x, time)
                kept.append(x)
        for block in middle.children():
            x = block(x, time)
        for stage in decoder:
            for number, block in enumerate(stage.children()):
                x = block(torch.cat([x, kept.pop()], dim=1) if number <= depth else x, time)
        return self.head(F.silu(self.norm(x)))

    def embed_time(self, image: Tensor, timestep: Tensor, label: Tensor | None) -> Tensor:
        """The timestep and the label as one vector, (batch, time), for these images; see `forward`."""
        batch = image.shape[0]
        check_column("timestep", timestep, batch)
        time = self.time_embed(timestep)
        if self.label_embed is None:
            if label is not None:
                raise ValueError("this network is told no class, so it takes no label; create it with num_classes")
            return time
        if label is None and not self.config.null_label:
            raise ValueError("this network needs a label for each image, for it has none that says nothing; give label")
        if label is None:
            return time + self.label_embed.weight[-1]
        check_column("label", label, batch)
        if label.dtype not in (torch.int64, torch.int32):
            raise ValueError(f"label must be an int64 tensor, got {label.dtype}; label.long() converts it")
        return time + self.label_embed(label)

    def init_weights(self) -> None:
        """Glorot's uniform weights, and zero where a branch or the network ends, as in DDPM; labels from N(0, 1)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType] - it has one
            elif isinstance(module, nn.GroupNorm | nn.Embedding):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, Attention):
                for part in module.qkv.weight.detach().chunk(3):
                    nn.init.xavier_uniform_(part)
                nn.init.zeros_(module.proj.weight)
            elif isinstance(module, Block):
                nn.init.zeros_(module.conv2.weight)
        nn.init.zeros_(self.head.weight)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes."""
        size, classes = self.config.image_size, self.config.num_classes
        image = torch.randn(batch_size, self.config.in_channels, size, size)
        inputs = {"image": image, "timestep": torch.randint(TIMESTEPS, (batch_size,))}
        return inputs | ({"label": torch.randint(classes, (batch_size,))} if classes else {})


LARGE: dict[str, Any] = {"image_size": 256, "channels": (128, 128, 256, 256, 512, 512), "attention_levels": (4,)}
"""DDPM's network for images of 256 pixels; appendix B."""
adm = partial(
    UNetConfig, out_channels=6, num_classes=1000, scale_shift=True, resample="block", freq_shift=0, cosine_first=True,
    norm_eps=1e-5, null_label=False,
)  # fmt: skip
"""ADM's networks for classes of ImageNet, with learnt variances; section 3 of Dhariwal and Nichol."""

ARCHITECTURE = Architecture(
    name="unet",
    model=UNet,
    config=UNetConfig,
    task="unconditional-image-generation",
    paper="https://arxiv.org/abs/2006.11239",
    tiny=UNetConfig(image_size=8, in_channels=1, channels=(8, 16), depth=1, num_classes=3, norm_groups=4),
    presets={
        "ddpm_cifar10_32": UNetConfig(),
        "ddpm_class_32": UNetConfig(num_classes=10),
        "ddpm_celebahq_256": UNetConfig(**LARGE),
        "ddpm_church_256": UNetConfig(**LARGE),
        "ddpm_bedroom_256": UNetConfig(**LARGE),
        "ddpm_cat_256": UNetConfig(**LARGE),
        "adm_64": adm(image_size=64, channels=(192, 384, 576, 768), depth=3, attention_levels=(1, 2, 3), head_dim=64),
        "adm_128": adm(image_size=128, channels=(256, 256, 512, 768, 1024), attention_levels=(2, 3, 4), num_heads=4),
        "adm_256": adm(
            image_size=256, channels=(256, 256, 512, 512, 1024, 1024), attention_levels=(3, 4, 5), head_dim=64
        ),
    },
    params={
        "unet": 35_746_307,
        "ddpm_cifar10_32": 35_746_307,
        "ddpm_celebahq_256": 113_673_219,
        "ddpm_church_256": 113_673_219,
        "ddpm_bedroom_256": 113_673_219,
        "ddpm_cat_256": 113_673_219,
        "ddpm_class_32": 35_751_939,
        "adm_64": 295_904_454,
        "adm_128": 421_529_606,
        "adm_256": 553_838_086,
    },
    aliases={
        "google/ddpm-cifar10-32": "ddpm_cifar10_32",
        "google/ddpm-celebahq-256": "ddpm_celebahq_256",
        "google/ddpm-church-256": "ddpm_church_256",
        "google/ddpm-bedroom-256": "ddpm_bedroom_256",
        "google/ddpm-cat-256": "ddpm_cat_256",
    },
)
