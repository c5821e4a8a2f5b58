"""ViT (Dosovitskiy et al., 2020), https://arxiv.org/abs/2010.11929: figure 1, equations 1 to 4, table 1.

With DeiT (Touvron et al., 2020), https://arxiv.org/abs/2012.12877, which is the same network trained on ImageNet
alone, or with a second token that learns from a teacher; and DeiT III (2022), https://arxiv.org/abs/2204.07118, whose
branches are scaled per channel. The encoder of MAE (He et al., 2021), https://arxiv.org/abs/2111.06377, is the same
network too: `num_classes=0` leaves the head out, and `pool="mean"` reads all patches as its fine-tuning does.

Differences from the paper:
- the head is a single linear layer, as in the paper's fine-tuning; its pre-training has a hidden layer more;
- an image of another size than `image_size` gets position embeddings that are interpolated as in section 3.2.

Glossary (our word, meaning, the paper's symbol):
    dim          width of every token                            D
    mlp_dim      hidden width of a block's MLP                   "MLP size"
    patch_size   height and width of a patch, in pixels          P
    embed        image to tokens, class token and positions      z_0, equation 1
    attn, mlp    the two branches of a block                     MSA, MLP, equations 2 and 3

Input: image (batch, in_channels, height, width), float, normalised per channel; height and width are multiples of
`patch_size`, and may differ. Output: logits (batch, num_classes).
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.attention import Attention
from zoo.nn.drop import DropPath, rates
from zoo.nn.image import check_image, check_num_classes, classifier, reset_classifier
from zoo.nn.patches import resample
from zoo.registry import Architecture

INIT_STD = 0.02
"""Of the truncated normal distribution that linear layers and embeddings start from."""


@dataclass(frozen=True, kw_only=True)
class ViTConfig:
    """The shape of a vision transformer; by default ViT-B/16."""

    image_size: int = 224
    """Height and width for which there are position embeddings of its own."""
    patch_size: int = 16
    dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_dim: int = 3072
    norm_eps: float = 1e-6
    pool: Literal["token", "mean"] = "token"
    """What the head reads: the class token after the last norm, or the normalised mean of all patches."""
    distilled: bool = False
    """Whether a second token and head learn from a teacher (DeiT); the logits are then the mean of both heads."""
    class_position: bool = True
    """Whether the class token has a position embedding."""
    layer_scale: float | None = None
    """The initial factor per channel at the end of both branches (Touvron et al., 2021); None leaves it out."""
    dropout: float = 0.0
    drop_path: float = 0.0
    """The rate at the last block; it rises linearly from 0 at the first."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    @property
    def num_prefix(self) -> int:
        """The tokens before the patches."""
        return 2 if self.distilled else 1

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    def __post_init__(self) -> None:
        """Refuse shapes that do not divide, and empty layers."""
        for name in ("image_size", "patch_size", "dim", "depth", "num_heads", "mlp_dim", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        check_num_classes(self.num_classes)
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is not divisible by patch_size {self.patch_size}")
        if not (0 <= self.dropout < 1 and 0 <= self.drop_path < 1):
            raise ValueError(f"dropout {self.dropout} and drop_path {self.drop_path} must lie in [0, 1)")


class Embed(nn.Module):
    """z_0: a linear projection of every patch, after the class token, plus positions (equation 1)."""

    def __init__(self, config: ViTConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.patch = nn.Conv2d(config.in_channels, config.dim, config.patch_size, config.patch_size)
        self.class_token = nn.Parameter(torch.empty(1, 1, config.dim))
        self.teacher_token = nn.Parameter(torch.empty(1, 1, config.dim)) if config.distilled else None
        positions = config.grid**2 + (config.num_prefix if config.class_position else 0)
        self.positions = nn.Parameter(torch.empty(1, positions, config.dim))
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, image: Tensor) -> Tensor:
        """Tokens (batch, prefix + patches, dim)."""
        patches = self.patch(image)
        positions = resample(self.positions, patches.shape[-2:])
        prefix = [
            token.expand(patches.shape[0], -1, -1)
            for token in (self.class_token, self.teacher_token)
            if token is not None
        ]
        tokens = patches.flatten(2).mT  # (batch, patches, dim)
        if positions.shape[1] == tokens.shape[1]:
            return self.dropout(torch.cat([*prefix, tokens + positions], dim=1))
        return self.dropout(torch.cat([*prefix, tokens], dim=1) + positions)


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        """Keep the widths."""
        super().__init__()
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        return self.down(self.dropout(F.gelu(self.up(x))))


class LayerScale(nn.Module):
    """A learnt factor per channel."""

    def __init__(self, dim: int) -> None:
        """Keep the number of channels."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        return x * self.weight


class Block(nn.Module):
    """x + attn(norm(x)), then x + mlp(norm(x)): equations 2 and 3."""

    def __init__(self, config: ViTConfig, drop_path: float) -> None:
        """Build from a config; `drop_path` is this block's own rate."""
        super().__init__()
        scaled = config.layer_scale is not None
        self.norm1 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.attn = Attention(config.dim, config.num_heads)
        self.scale1 = LayerScale(config.dim) if scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.mlp = MLP(config.dim, config.mlp_dim, config.dropout)
        self.scale2 = LayerScale(config.dim) if scaled else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        x = x + self.drop_path(self.scale1(self.dropout(self.attn(self.norm1(x)))))
        return x + self.drop_path(self.scale2(self.dropout(self.mlp(self.norm2(x)))))


class ViT(nn.Module):
    """Tokens of patches, transformer blocks, and a linear head on the class token or on the patches' mean."""

    no_weight_decay = ("embed.class_token", "embed.teacher_token", "embed.positions")

    def __init__(self, config: ViTConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.embed = Embed(config)
        self.blocks = nn.ModuleList(Block(config, rate) for rate in rates(config.drop_path, config.depth))
        self.norm = nn.LayerNorm(config.dim, eps=config.norm_eps)
        self.num_features = config.dim
        self.head = classifier(config.dim, config.num_classes)
        teachers = [classifier(config.dim, config.num_classes)] if config.distilled else []
        self.aux_heads = nn.ModuleList(nn.ModuleDict({"head": head}) for head in teachers)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """What the blocks make of the tokens, (batch, prefix + patches, dim), before the last norm."""
        size = self.config.patch_size
        check_image(self, image, size)
        if image.shape[-2] % size or image.shape[-1] % size:
            height, width = image.shape[-2:]
            raise ValueError(f"an image of {height} x {width} pixels is not made of {size} x {size} patches; resize it")
        tokens = self.embed(image)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of what `forward_features` gives."""
        prefix = self.config.num_prefix
        if self.config.pool == "mean":
            return self.head(self.norm(features[:, prefix:].mean(1)))
        read = self.norm(features[:, :prefix])
        logits = self.head(read[:, 0])
        for teacher in self.aux_heads:
            logits = (logits + teacher.get_submodule("head")(read[:, 1])) / 2
        return logits

    def to_maps(self, tokens: Tensor, image: Tensor) -> Tensor:
        """The patches among `tokens` as maps (batch, dim, rows, columns) of the image that they came from."""
        grid = tuple(side // self.config.patch_size for side in image.shape[-2:])
        return tokens[:, self.config.num_prefix :].mT.unflatten(-1, grid)

    def resample_positions(self, positions: Tensor) -> Tensor:
        """Stored position embeddings, (1, prefix + positions, dim), for the grid of this config."""
        return resample(positions, (self.config.grid, self.config.grid))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Truncated normals of deviation 0.02; the patches' projection keeps their variance; norms are the identity."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, LayerScale):
                nn.init.constant_(module.weight, self.config.layer_scale or 0)
        patch = self.embed.patch
        nn.init.trunc_normal_(patch.weight, std=patch.weight[0].numel() ** -0.5)
        nn.init.zeros_(patch.bias)  # pyright: ignore[reportArgumentType] - it has one
        for embedding in (self.embed.class_token, self.embed.teacher_token, self.embed.positions):
            if embedding is not None:
                nn.init.trunc_normal_(embedding, std=INIT_STD)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes."""
        size = self.config.image_size
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


TINY: dict[str, Any] = {"dim": 192, "num_heads": 3, "mlp_dim": 768}
SMALL: dict[str, Any] = {"dim": 384, "num_heads": 6, "mlp_dim": 1536}
LARGE: dict[str, Any] = {"dim": 1024, "depth": 24, "num_heads": 16, "mlp_dim": 4096}
HUGE: dict[str, Any] = {"dim": 1280, "depth": 32, "num_heads": 16, "mlp_dim": 5120}
"""Table 1; Ti and S are those of Touvron et al. (DeiT, table 1)."""
DEIT3: dict[str, Any] = {"layer_scale": 1e-6, "class_position": False}

ARCHITECTURE = Architecture(
    name="vit",
    model=ViT,
    config=ViTConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/2010.11929",
    tiny=ViTConfig(image_size=16, patch_size=4, dim=16, depth=2, num_heads=2, mlp_dim=24, num_classes=5),
    presets={
        "vit_ti_16": ViTConfig(**TINY),
        "vit_s_16": ViTConfig(**SMALL),
        "vit_s_32": ViTConfig(**SMALL, patch_size=32),
        "vit_b_16": ViTConfig(),
        "vit_b_32": ViTConfig(patch_size=32),
        "vit_b_8": ViTConfig(patch_size=8),
        "vit_l_16": ViTConfig(**LARGE),
        "vit_l_32": ViTConfig(**LARGE, patch_size=32),
        "vit_h_14": ViTConfig(**HUGE, patch_size=14),
        "vit_s_16_384": ViTConfig(**SMALL, image_size=384),
        "vit_b_16_384": ViTConfig(image_size=384),
        "vit_l_16_384": ViTConfig(**LARGE, image_size=384),
        "deit_ti_16": ViTConfig(**TINY),
        "deit_s_16": ViTConfig(**SMALL),
        "deit_b_16": ViTConfig(),
        "deit_ti_16_distilled": ViTConfig(**TINY, distilled=True),
        "deit_s_16_distilled": ViTConfig(**SMALL, distilled=True),
        "deit_b_16_distilled": ViTConfig(distilled=True),
        "deit3_s_16": ViTConfig(**SMALL, **DEIT3),
        "deit3_b_16": ViTConfig(**DEIT3),
        "deit3_l_16": ViTConfig(**LARGE, **DEIT3),
        "mae_b_16": ViTConfig(num_classes=0),
        "mae_l_16": ViTConfig(**LARGE, num_classes=0),
        "mae_h_14": ViTConfig(**HUGE, patch_size=14, num_classes=0),
    },
    params={
        "vit": 86_567_656,
        "vit_ti_16": 5_717_416,
        "vit_s_16": 22_050_664,
        "vit_s_32": 22_878_952,
        "vit_b_16": 86_567_656,
        "vit_b_32": 88_224_232,
        "vit_b_8": 86_576_872,
        "vit_l_16": 304_326_632,
        "vit_l_32": 306_535_400,
        "vit_h_14": 632_045_800,
        "vit_s_16_384": 22_196_584,
        "vit_b_16_384": 86_859_496,
        "vit_l_16_384": 304_715_752,
        "deit_ti_16": 5_717_416,
        "deit_s_16": 22_050_664,
        "deit_b_16": 86_567_656,
        "deit_ti_16_distilled": 5_910_800,
        "deit_s_16_distilled": 22_436_432,
        "deit_b_16_distilled": 87_338_192,
        "deit3_s_16": 22_059_496,
        "deit3_b_16": 86_585_320,
        "deit3_l_16": 304_374_760,
        "mae_b_16": 85_798_656,
        "mae_l_16": 303_301_632,
        "mae_h_14": 630_764_800,
    },
    aliases={
        "vit_tiny_patch16_224": "vit_ti_16",
        "vit_small_patch16_224": "vit_s_16",
        "vit_small_patch32_224": "vit_s_32",
        "vit_base_patch16_224": "vit_b_16",
        "vit_base_patch32_224": "vit_b_32",
        "vit_base_patch8_224": "vit_b_8",
        "vit_large_patch16_224": "vit_l_16",
        "vit_large_patch32_224": "vit_l_32",
        "vit_huge_patch14_224": "vit_h_14",
        "vit_small_patch16_384": "vit_s_16_384",
        "vit_base_patch16_384": "vit_b_16_384",
        "vit_large_patch16_384": "vit_l_16_384",
        "deit_tiny_patch16_224": "deit_ti_16",
        "deit_small_patch16_224": "deit_s_16",
        "deit_base_patch16_224": "deit_b_16",
        "deit_tiny_distilled_patch16_224": "deit_ti_16_distilled",
        "deit_small_distilled_patch16_224": "deit_s_16_distilled",
        "deit_base_distilled_patch16_224": "deit_b_16_distilled",
        "deit3_small_patch16_224": "deit3_s_16",
        "deit3_base_patch16_224": "deit3_b_16",
        "deit3_large_patch16_224": "deit3_l_16",
    },
)
