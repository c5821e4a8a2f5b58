"""DiT (Peebles and Xie, 2023), https://arxiv.org/abs/2212.09748: section 3, figure 3 with adaLN-Zero, table 1.

A vision transformer that predicts noise. Timestep and class are added up, and a linear layer in each block makes of
them what shifts and scales the tokens after both norms and what gates both branches. These layers start at zero, so
that every block starts as the identity. It works on latents: an autoencoder makes 4 x 32 x 32 numbers of a photo of
256 x 256 pixels.

Differences from the paper:
- labels are not dropped here: what guidance needs (section 3.1) is for the objective to do, by the label
  `num_classes`, which says nothing.

Glossary (our word, meaning, the paper's symbol):
    image       what the noise schedule makes of a latent            z_t, "noised latent"
    timestep    how noisy it is                                      t
    label       what it shows; `num_classes` says nothing            c, the null embedding
    modulation  shift, scale and gate of a block's two branches      beta, gamma, alpha
    patch_size  height and width of a patch                          p, and I / p patches along a side
    dim         width of every token                                 d

Input: image (batch, in_channels, image_size, image_size), float; timestep (batch,), a whole number in [0, 1000) in the
paper, but any number will do; label (batch,) int64 in [0, num_classes]. Output: what the network is trained to predict,
the noise in the paper, (batch, in_channels, image_size, image_size); with `learned_sigma` twice the channels, the
second half of which says the variance.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.attention import Attention
from zoo.nn.checks import check_column
from zoo.nn.image import check_image
from zoo.nn.patches import sinusoids, to_image
from zoo.registry import Architecture

FREQUENCIES = 128
"""Of the timestep's sinusoids."""
LONGEST_WAVE = 10_000
"""The largest of their wavelengths, divided by 2 pi; the shortest is 1."""
TIMESTEPS = 1000
"""Levels of noise in the paper."""
INIT_STD = 0.02
"""Of the normal distribution that timestep's and labels' embeddings start from."""


@dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """The shape of a diffusion transformer; by default DiT-XL/2 for latents of photos of 256 x 256 pixels."""

    image_size: int = 32
    patch_size: int = 2
    dim: int = 1152
    depth: int = 28
    num_heads: int = 16
    mlp_dim: int = 4608
    norm_eps: float = 1e-6
    mlp_norm_eps: float = 1e-6
    """Of the norms before the MLPs; 1e-5 in the diffusers library."""
    freq_shift: int = 0
    """Subtracted from the number of the timestep's frequencies where they are spread. The authors have 0; the diffusers
    library has 1, which moves what the network is told of a timestep."""
    learned_sigma: bool = True
    """Whether the variance is predicted, too, by as many channels again."""
    in_channels: int = 4
    num_classes: int = 1000
    """There is one label more, which says nothing; with 0 classes it is the only one."""

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def out_channels(self) -> int:
        """Channels of the output."""
        return self.in_channels * (2 if self.learned_sigma else 1)

    def __post_init__(self) -> None:
        """Refuse shapes that do not divide, and empty layers."""
        for name in ("image_size", "patch_size", "dim", "depth", "num_heads", "mlp_dim", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        for name in ("norm_eps", "mlp_norm_eps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} {getattr(self, name)} is not positive")
        if self.num_classes < 0:
            raise ValueError(f"num_classes {self.num_classes} is negative; 0 leaves the label that says nothing")
        if self.freq_shift not in (0, 1):
            raise ValueError(f"freq_shift {self.freq_shift} is neither 0, the authors', nor 1, diffusers'")
        if self.dim % self.num_heads or self.dim % 4:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}, and by 4 for positions")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not divisible by patch_size {self.patch_size}")


class Embed(nn.Module):
    """Latents to tokens, and timestep and label to what all blocks are told."""

    def __init__(self, config: DiTConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.patch = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        self.positions = nn.Parameter(torch.empty(1, config.grid**2, config.dim), requires_grad=False)
        self.time = Time(config.dim, config.freq_shift)
        self.label = nn.Embedding(config.num_classes + 1, config.dim)

    def forward(self, image: Tensor, timestep: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens (batch, patches, dim), and the condition (batch, dim)."""
        tokens = self.patch(image).flatten(2).mT + self.positions
        told = self.label.weight[-1] if label is None else self.label(label)
        return tokens, F.silu(self.time(timestep) + told)


class Time(nn.Module):
    """An MLP on cosines and sines of the timestep."""

    def __init__(self, dim: int, freq_shift: int) -> None:
        """Keep the spread of the frequencies."""
        super().__init__()
        self.freq_shift = freq_shift
        self.up = nn.Linear(2 * FREQUENCIES, dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, timestep: Tensor) -> Tensor:
        """(batch,) -> (batch, dim)."""
        return self.proj(F.silu(self.up(self.waves(timestep).to(self.up.weight.dtype))))

    def waves(self, timestep: Tensor) -> Tensor:
        """Cosines, then sines, (batch, 256), in float32 whatever the weights are in."""
        steps = torch.arange(FREQUENCIES, dtype=torch.float32, device=timestep.device)
        frequency = torch.exp(-math.log(LONGEST_WAVE) * steps / (FREQUENCIES - self.freq_shift))
        angle = timestep[:, None].float() * frequency
        return torch.cat([angle.cos(), angle.sin()], dim=-1)


class MLP(nn.Module):
    """Two linear layers with an approximate GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        """Keep the widths."""
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        return self.down(F.gelu(self.up(x), approximate="tanh"))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Tokens (batch, seq, dim), shifted and scaled by (batch, 1, dim)."""
    return torch.addcmul(shift, x, 1 + scale)


class Block(nn.Module):
    """A transformer block whose norms and branches do what the condition says: adaLN-Zero, section 3.2."""

    def __init__(self, config: DiTConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.modulation = nn.Linear(config.dim, 6 * config.dim)
        self.norm1 = nn.LayerNorm(config.dim, eps=config.norm_eps, elementwise_affine=False)
        self.attn = Attention(config.dim, config.num_heads)
        self.norm2 = nn.LayerNorm(config.dim, eps=config.mlp_norm_eps, elementwise_affine=False)
        self.mlp = MLP(config.dim, config.mlp_dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Tokens (batch, seq, dim), told (batch, dim), -> the same shape."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition)[:, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate1, self.attn(modulate(self.norm1(x), shift1, scale1)))
        return torch.addcmul(x, gate2, self.mlp(modulate(self.norm2(x), shift2, scale2)))


class Head(nn.Module):
    """Tokens to the numbers of their patches."""

    def __init__(self, config: DiTConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.modulation = nn.Linear(config.dim, 2 * config.dim)
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps, elementwise_affine=False)
        self.proj = nn.Linear(config.dim, config.patch_size**2 * config.out_channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(batch, patches, dim), told (batch, dim), -> (batch, patches, patch_size * patch_size * out_channels)."""
        shift, scale = self.modulation(condition)[:, None].chunk(2, dim=-1)
        return self.proj(modulate(self.norm(x), shift, scale))


class DiT(nn.Module):
    """Tokens of a noisy latent, blocks that are told timestep and class, and what is to be predicted."""

    def __init__(self, config: DiTConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.embed = Embed(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = Head(config)

    def forward(self, image: Tensor, timestep: Tensor, label: Tensor | None = None) -> Tensor:
        """Predict what the network was trained for.

        Args:
            image: (batch, in_channels, image_size, image_size), noisy.
            timestep: (batch,), how noisy.
            label: (batch,) int64, what is to be seen; None stands for `num_classes`, which says nothing.

        Returns:
            (batch, out_channels, image_size, image_size).

        Raises:
            ValueError: the image has another size, or timestep or label is not given for each image.
        """
        size = self.config.image_size
        check_image(self, image)
        if tuple(image.shape[-2:]) != (size, size):
            height, width = image.shape[-2:]
            raise ValueError(
                f"an image of {height} x {width} pixels does not fit positions for {size} x {size}; set image_size, in "
                f"multiples of {self.config.patch_size}"
            )
        check_column("timestep", timestep, image.shape[0])
        if label is not None:
            check_column("label", label, image.shape[0])
        x, condition = self.embed(image, timestep, label)
        for block in self.blocks:
            x = block(x, condition)
        return to_image(self.head(x, condition), self.config.patch_size, (self.config.grid, self.config.grid))

    def resample_positions(self, positions: Tensor) -> Tensor:
        """Positions (1, patches, dim) for the grid of this config, whatever grid the stored ones are of."""
        return sinusoids(self.config.dim, self.config.grid)[None].to(positions)

    def init_weights(self) -> None:
        """Glorot's uniform weights; zero for what makes a block differ from the identity, and for the output."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        patch, positions = self.embed.patch, self.embed.positions
        nn.init.xavier_uniform_(patch.weight.flatten(1))
        nn.init.zeros_(patch.bias)  # pyright: ignore[reportArgumentType] - it has one
        for weight in (self.embed.label.weight, self.embed.time.up.weight, self.embed.time.proj.weight):
            nn.init.normal_(weight, std=INIT_STD)
        for module in self.modules():
            if isinstance(module, Block | Head):
                nn.init.zeros_(module.modulation.weight)
        nn.init.zeros_(self.head.proj.weight)
        with torch.no_grad():
            positions.copy_(self.resample_positions(positions))

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes."""
        size = self.config.image_size
        return {
            "image": torch.randn(batch_size, self.config.in_channels, size, size),
            "timestep": torch.randint(TIMESTEPS, (batch_size,)),
            "label": torch.randint(self.config.num_classes + 1, (batch_size,)),
        }


S: dict[str, Any] = {"dim": 384, "depth": 12, "num_heads": 6, "mlp_dim": 1536}
B: dict[str, Any] = {"dim": 768, "depth": 12, "num_heads": 12, "mlp_dim": 3072}
L: dict[str, Any] = {"dim": 1024, "depth": 24, "num_heads": 16, "mlp_dim": 4096}
"""Table 1; XL is the default."""

ARCHITECTURE = Architecture(
    name="dit",
    model=DiT,
    config=DiTConfig,
    task="unconditional-image-generation",
    paper="https://arxiv.org/abs/2212.09748",
    tiny=DiTConfig(image_size=8, dim=16, depth=2, num_heads=2, mlp_dim=24, in_channels=3, num_classes=5),
    presets={
        "dit_s_2": DiTConfig(**S),
        "dit_s_4": DiTConfig(**S, patch_size=4),
        "dit_s_8": DiTConfig(**S, patch_size=8),
        "dit_b_2": DiTConfig(**B),
        "dit_b_4": DiTConfig(**B, patch_size=4),
        "dit_b_8": DiTConfig(**B, patch_size=8),
        "dit_l_2": DiTConfig(**L),
        "dit_l_4": DiTConfig(**L, patch_size=4),
        "dit_l_8": DiTConfig(**L, patch_size=8),
        "dit_xl_2": DiTConfig(),
        "dit_xl_4": DiTConfig(patch_size=4),
        "dit_xl_8": DiTConfig(patch_size=8),
        "dit_xl_2_512": DiTConfig(image_size=64),
    },
    params={
        "dit": 675_129_632,
        "dit_s_2": 32_963_360,
        "dit_s_4": 32_945_024,
        "dit_s_8": 33_148_160,
        "dit_b_2": 130_512_416,
        "dit_b_4": 130_475_648,
        "dit_b_8": 130_881_536,
        "dit_l_2": 458_102_816,
        "dit_l_4": 458_053_760,
        "dit_l_8": 458_594_816,
        "dit_xl_2": 675_129_632,
        "dit_xl_4": 675_074_432,
        "dit_xl_8": 675_683_072,
        "dit_xl_2_512": 676_014_368,
    },
    aliases={"dit_xl_2_256": "dit_xl_2"},
)
