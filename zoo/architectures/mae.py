"""MAE (He et al., 2022), https://arxiv.org/abs/2111.06377: figure 1, section 3 and appendix A.1.

A vision transformer reads a quarter of an image's patches; a smaller one puts a learnt token in the place of every
hidden patch and predicts what it looks like. After that, the decoder is thrown away: `encode` reads whole images.

Differences from the paper:
- which patches are hidden is not drawn here: the caller gives a number for each, and the smallest stay visible, so the
  network is a function of its inputs. Without these numbers nothing is hidden.

Glossary (our word, meaning, the paper's word):
    noise       a number for each patch, that puts them in a random order     random shuffling
    mask        True for the patches that are hidden                          masked patches
    mask_ratio  the share of patches that is hidden                           masking ratio
    mask_token  what the decoder reads in the place of a hidden patch         mask token
    embed       image to tokens, with positions                               linear projection

Input: image (batch, in_channels, image_size, image_size), float, normalised per channel; noise (batch, patches), any
numbers, no two alike. Output: `MAEOutput`.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.attention import Attention
from zoo.nn.image import check_image
from zoo.nn.patches import sinusoids
from zoo.registry import Architecture

INIT_STD = 0.02
"""Of the normal distribution that the class token and the mask token start from."""


class MAEOutput(NamedTuple):
    """What is predicted, and where it had to be guessed."""

    prediction: Tensor
    """(batch, patches, patch_size * patch_size * in_channels), as `zoo.nn.patches.to_patches` cuts an image."""
    mask: Tensor
    """(batch, patches) bool, True where a patch was hidden."""


@dataclass(frozen=True, kw_only=True)
class MAEConfig:
    """The shape of a masked autoencoder; by default ViT-B/16 with the paper's decoder."""

    image_size: int = 224
    patch_size: int = 16
    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    decoder_dim: int = 512
    decoder_depth: int = 8
    decoder_num_heads: int = 16
    decoder_mlp_dim: int = 2048
    norm_eps: float = 1e-6
    mask_ratio: float = 0.75
    """The share of patches that noise hides; where it is no whole number of patches, one more is hidden."""
    in_channels: int = 3

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    @property
    def num_visible(self) -> int:
        """How many patches noise leaves visible."""
        return int(self.grid**2 * (1 - self.mask_ratio) + 1e-6)  # 10 * (1 - 0.9) is a little less than 1

    def __post_init__(self) -> None:
        """Refuse shapes that do not divide, empty layers, and a ratio that hides everything or nothing."""
        sizes = ("image_size", "patch_size", "in_channels")
        stacks = ("dim", "depth", "num_heads", "mlp_dim")
        for name in (*sizes, *stacks, *(f"decoder_{name}" for name in stacks)):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")
        for of in ("", "decoder_"):
            dim, heads = getattr(self, f"{of}dim"), getattr(self, f"{of}num_heads")
            if dim % heads or dim % 4:
                raise ValueError(f"{of}dim {dim} is not divisible by {of}num_heads {heads}, and by 4 for positions")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not divisible by patch_size {self.patch_size}")
        if not 0 < self.mask_ratio < 1 or not 0 < self.num_visible < self.grid**2:
            raise ValueError(
                f"mask_ratio {self.mask_ratio} of {self.grid**2} patches must leave one visible and hide one; "
                f"without noise none is hidden"
            )


class Embed(nn.Module):
    """A linear projection of every patch plus its position, after the class token."""

    def __init__(self, config: MAEConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.patch = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.dim))
        self.positions = nn.Parameter(torch.empty(1, 1 + config.grid**2, config.dim), requires_grad=False)

    def forward(self, image: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens (batch, 1 + patches, dim); of the patches `visible`, (batch, some), if given, in their order."""
        tokens = self.patch(image).flatten(2).mT + self.positions[:, 1:]
        if visible is not None:
            tokens = pick(tokens, visible)
        first = self.class_token + self.positions[:, :1]
        return torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)


def pick(tokens: Tensor, index: Tensor) -> Tensor:
    """Of tokens (batch, seq, dim) those at `index`, (batch, some)."""
    return tokens.gather(1, index[..., None].expand(-1, -1, tokens.shape[-1]))


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        """Keep the widths."""
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        return self.down(F.gelu(self.up(x)))


class Block(nn.Module):
    """x + attn(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, dim: int, num_heads: int, mlp_dim: int, norm_eps: float) -> None:
        """Keep the shape; encoder and decoder have different ones."""
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=norm_eps)
        self.attn = Attention(dim, num_heads)
        self.norm2 = nn.LayerNorm(dim, eps=norm_eps)
        self.mlp = MLP(dim, mlp_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Decoder(nn.Module):
    """Features of the visible patches to the numbers of all of them."""

    def __init__(self, config: MAEConfig) -> None:
        """Build from a config."""
        super().__init__()
        dim = config.decoder_dim
        shape = dim, config.decoder_num_heads, config.decoder_mlp_dim, config.norm_eps
        self.embed = nn.Linear(config.dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, 1 + config.grid**2, dim), requires_grad=False)
        self.blocks = nn.ModuleList(Block(*shape) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.proj = nn.Linear(dim, config.patch_size**2 * config.in_channels)

    def forward(self, features: Tensor, rank: Tensor | None) -> Tensor:
        """Predict patches.

        Args:
            features: (batch, 1 + visible, dim), the class token first.
            rank: (batch, patches): which of the features is the patch's; beyond the last one it is hidden. None: all
                are visible and in order.

        Returns:
            (batch, patches, patch_size * patch_size * in_channels).
        """
        x = self.embed(features)
        if rank is not None:
            hidden = self.mask_token.expand(x.shape[0], rank.shape[1] + 1 - x.shape[1], -1)
            x = torch.cat([x[:, :1], pick(torch.cat([x[:, 1:], hidden], dim=1), rank)], dim=1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        return self.proj(self.norm(x)[:, 1:])


class MAE(nn.Module):
    """An encoder that reads the visible patches, and a decoder that predicts all."""

    no_weight_decay = ("embed.class_token", "decoder.mask_token")

    def __init__(self, config: MAEConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.embed = Embed(config)
        shape = config.dim, config.num_heads, config.mlp_dim, config.norm_eps
        self.blocks = nn.ModuleList(Block(*shape) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.decoder = Decoder(config)

    def forward(self, image: Tensor, noise: Tensor | None = None) -> MAEOutput:
        """Hide patches, and predict them.

        Args:
            image: (batch, in_channels, image_size, image_size).
            noise: (batch, patches), patches row by row; those with the smallest numbers stay visible. None hides
                nothing: a network that drew the numbers itself would answer the same question differently each time.

        Returns:
            Prediction and mask.

        Raises:
            ValueError: the image has another size, or noise another shape.
        """
        if noise is None:
            prediction = self.decoder(self.encode(image), None)
            return MAEOutput(prediction, torch.zeros_like(prediction[..., 0], dtype=torch.bool))
        patches, visible = self.config.grid**2, self.config.num_visible
        if noise.ndim != 2 or noise.shape[1] != patches:
            raise ValueError(f"noise must be (batch, {patches}), one for each patch, got shape {tuple(noise.shape)}")
        order = noise.argsort(dim=1)
        rank = order.argsort(dim=1)
        prediction = self.decoder(self._encode(image, order[:, :visible]), rank)
        return MAEOutput(prediction, rank >= visible)

    def encode(self, image: Tensor) -> Tensor:
        """Features (batch, 1 + patches, dim) of whole images, the class token's first."""
        return self._encode(image, None)

    def _encode(self, image: Tensor, visible: Tensor | None) -> Tensor:
        size = self.config.image_size
        check_image(self, image)
        if tuple(image.shape[-2:]) != (size, size):
            height, width = image.shape[-2:]
            raise ValueError(f"this network reads {size} x {size} pixels, got {height} x {width}; resize the image")
        x = self.embed(image, visible)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def init_weights(self) -> None:
        """Glorot's uniform weights, norms as the identity, small tokens, and sinusoids as positions."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        patch = self.embed.patch
        nn.init.xavier_uniform_(patch.weight.flatten(1))
        nn.init.zeros_(patch.bias)  # pyright: ignore[reportArgumentType] - it has one
        nn.init.normal_(self.embed.class_token, std=INIT_STD)
        nn.init.normal_(self.decoder.mask_token, std=INIT_STD)
        with torch.no_grad():
            for positions in (self.embed.positions, self.decoder.positions):
                positions[:, 0] = 0  # the class token lies nowhere
                positions[:, 1:] = sinusoids(positions.shape[-1], self.config.grid)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes; noise is whole numbers, whose order no precision changes."""
        size = self.config.image_size
        return {
            "image": torch.randn(batch_size, self.config.in_channels, size, size),
            "noise": torch.rand(batch_size, self.config.grid**2).argsort(dim=1).float(),
        }


LARGE: dict[str, Any] = {"dim": 1024, "depth": 24, "num_heads": 16, "mlp_dim": 4096}
HUGE: dict[str, Any] = {"dim": 1280, "depth": 32, "num_heads": 16, "mlp_dim": 5120}

ARCHITECTURE = Architecture(
    name="mae",
    model=MAE,
    config=MAEConfig,
    task="image-feature-extraction",
    paper="https://arxiv.org/abs/2111.06377",
    tiny=MAEConfig(
        image_size=16, patch_size=4, dim=16, depth=2, num_heads=2, mlp_dim=24, decoder_dim=12, decoder_depth=1,
        decoder_num_heads=3, decoder_mlp_dim=20,
    ),
    presets={
        "mae_vit_b_16": MAEConfig(),
        "mae_vit_l_16": MAEConfig(**LARGE),
        "mae_vit_h_14": MAEConfig(**HUGE, patch_size=14),
    },
    params={
        "mae": 111_907_840,
        "mae_vit_b_16": 111_907_840,
        "mae_vit_l_16": 329_541_888,
        "mae_vit_h_14": 657_074_508,
    },
    aliases={
        "vit_mae_base": "mae_vit_b_16",
        "vit_mae_large": "mae_vit_l_16",
        "vit_mae_huge": "mae_vit_h_14",
    },
)  # fmt: skip
