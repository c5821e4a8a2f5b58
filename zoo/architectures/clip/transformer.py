"""The blocks of CLIP's transformers, and the towers made of them: one reads images, one reads texts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.architectures.clip.config import CLIPConfig
from zoo.nn.checks import check_tokens
from zoo.nn.drop import DropPath, rates
from zoo.nn.image import check_image
from zoo.nn.patches import resample

QUICK = 1.702
"""With which x * sigmoid(1.702 x) is nearest to GELU (Hendrycks and Gimpel, 2016)."""
TOKEN_STD, POSITION_STD = 0.02, 0.01
"""Of the text tower's embeddings, as in the released code."""


class Attention(nn.Module):
    """Every token looks at every other one, or with `causal` at itself and those before it."""

    def __init__(self, dim: int, num_heads: int, *, causal: bool) -> None:
        """Give every head a share of the width."""
        super().__init__()
        self.num_heads, self.causal = num_heads, causal
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.transpose(1, 3).unbind(2)  # each (batch, heads, seq, head_dim)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape -> the same shape."""
        return x * torch.sigmoid(QUICK * x)


class MLP(nn.Module):
    """Two layers with an activation between."""

    def __init__(self, dim: int, mlp_dim: int, activation: str) -> None:
        """Keep the widths."""
        super().__init__()
        self.up = nn.Linear(dim, mlp_dim)
        self.activation = QuickGELU() if activation == "quick_gelu" else nn.GELU()
        self.down = nn.Linear(mlp_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """x + attn(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: CLIPConfig, tower: str, drop_path: float, *, causal: bool) -> None:
        """Build one of `tower`, `vision` or `text`; `drop_path` is this block's own rate."""
        super().__init__()
        dim, num_heads, mlp_dim = _sizes(config, tower)
        self.norm1 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.attn = Attention(dim, num_heads, causal=causal)
        self.norm2 = nn.LayerNorm(dim, eps=config.norm_eps)
        self.mlp = MLP(dim, mlp_dim, config.activation)
        self.dropout = nn.Dropout(config.dropout)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        x = x + self.drop_path(self.dropout(self.attn(self.norm1(x))))
        return x + self.drop_path(self.dropout(self.mlp(self.norm2(x))))


def _sizes(config: CLIPConfig, tower: str) -> tuple[int, int, int]:
    """Width, heads and hidden width of a tower."""
    if tower == "vision":
        return config.vision_dim, config.vision_num_heads, config.vision_mlp_dim
    return config.text_dim, config.text_num_heads, config.text_mlp_dim


class PatchEmbed(nn.Module):
    """A linear projection of every patch, without a bias, after the class token, plus positions."""

    def __init__(self, config: CLIPConfig) -> None:
        """Build from a config."""
        super().__init__()
        dim, size = config.vision_dim, config.patch_size
        self.patch = nn.Conv2d(config.in_channels, dim, size, size, bias=False)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, 1 + config.grid**2, dim))

    def forward(self, image: Tensor) -> Tensor:
        """Tokens (batch, 1 + patches, dim)."""
        patches = self.patch(image)
        positions = resample(self.positions, patches.shape[-2:])
        class_token = self.class_token.expand(patches.shape[0], -1, -1)
        return torch.cat([class_token, patches.flatten(2).mT], dim=1) + positions


class ImageTransformer(nn.Module):
    """A ViT with one more norm, before its blocks; the class token is what it reads."""

    def __init__(self, config: CLIPConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        depths = rates(config.drop_path, config.vision_depth)
        self.embed = PatchEmbed(config)
        self.norm_pre = nn.LayerNorm(config.vision_dim, eps=config.norm_eps)
        self.blocks = nn.ModuleList(Block(config, "vision", rate, causal=False) for rate in depths)
        self.norm = nn.LayerNorm(config.vision_dim, eps=config.norm_eps)
        self.head = nn.Linear(config.vision_dim, config.dim, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, dim) in the common space, of any length."""
        return self.head(self.norm(self.forward_features(image)[:, 0]))

    def forward_features(self, image: Tensor) -> Tensor:
        """What the blocks make of an image: the class token and the patches, (batch, 1 + patches, vision_dim)."""
        size = self.config.patch_size
        check_image(self, image, size)
        if image.shape[-2] % size or image.shape[-1] % size:
            height, width = image.shape[-2:]
            raise ValueError(f"an image of {height} x {width} pixels is not made of {size} x {size} patches; resize it")
        tokens = self.norm_pre(self.embed(image))
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def to_maps(self, tokens: Tensor, image: Tensor) -> Tensor:
        """The patches among `tokens` as maps (batch, vision_dim, rows, columns) of the image that they came from."""
        return tokens[:, 1:].mT.unflatten(-1, tuple(side // self.config.patch_size for side in image.shape[-2:]))

    def init_weights(self) -> None:
        """PyTorch's own draws in the layers, and deviations of 1 / sqrt(dim) elsewhere, as in the released code."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.LayerNorm):
                module.reset_parameters()
            if isinstance(module, Attention):
                nn.init.xavier_uniform_(module.qkv.weight)
                nn.init.zeros_(module.qkv.bias)
                nn.init.zeros_(module.proj.bias)
        for weight in (self.embed.class_token, self.embed.positions, self.head.weight):
            nn.init.normal_(weight, std=self.norm.normalized_shape[0] ** -0.5)


class TextEmbed(nn.Module):
    """What a token is, plus where it stands."""

    def __init__(self, vocab_size: int, max_seq_len: int, dim: int) -> None:
        """Keep the sizes."""
        super().__init__()
        self.token = nn.Embedding(vocab_size, dim)
        self.positions = nn.Parameter(torch.empty(max_seq_len, dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, seq) -> (batch, seq, dim)."""
        return self.token(tokens) + self.positions[: tokens.shape[1]]


class TextTransformer(nn.Module):
    """A causal transformer, which reads a text at its end."""

    def __init__(self, config: CLIPConfig, tower: str = "text") -> None:
        """Build from the fields of a tower, `vision` or `text`."""
        super().__init__()
        dim = _sizes(config, tower)[0]
        depth = config.text_depth if tower == "text" else config.vision_depth
        self.max_seq_len, self.end_token = config.max_seq_len, config.end_token
        self.embed = TextEmbed(config.vocab_size, config.max_seq_len, dim)
        self.blocks = nn.ModuleList(Block(config, tower, rate, causal=True) for rate in rates(config.drop_path, depth))
        self.norm = nn.LayerNorm(dim, eps=config.norm_eps)
        self.head = nn.Linear(dim, config.dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(batch, seq) -> (batch, dim) in the common space, of any length."""
        check_tokens(tokens)
        if tokens.shape[1] > self.max_seq_len:
            raise ValueError(f"{tokens.shape[1]} tokens are more than max_seq_len {self.max_seq_len}; cut the text")
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x)
        rows = torch.arange(x.shape[0], device=x.device)
        return self.head(self.norm(x[rows, end_of(tokens, self.end_token)]))

    def init_weights(self) -> None:
        """Normal draws, narrower where branches add to the residual stream, as in the released code."""
        dim, depth = self.norm.normalized_shape[0], len(self.blocks)
        nn.init.normal_(self.embed.token.weight, std=TOKEN_STD)
        nn.init.normal_(self.embed.positions, std=POSITION_STD)
        nn.init.normal_(self.head.weight, std=dim**-0.5)
        for module in self.modules():
            if isinstance(module, nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, Attention):
                _draw(module.qkv, dim**-0.5)
                _draw(module.proj, (2 * depth * dim) ** -0.5)
            elif isinstance(module, MLP):
                _draw(module.up, (2 * dim) ** -0.5)
                _draw(module.down, (2 * depth * dim) ** -0.5)


def _draw(layer: nn.Linear, std: float) -> None:
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)


def end_of(tokens: Tensor, end_token: int | None) -> Tensor:
    """Where each text ends.

    Args:
        tokens: (batch, seq).
        end_token: which token ends a text; None takes the largest for it.

    Returns:
        Positions, (batch,): of the first such token; of the last of all where a text has none, for it was cut.
    """
    if end_token is None:
        return tokens.argmax(-1)
    ends = tokens == end_token
    ends = torch.cat([ends[:, :-1], torch.ones_like(ends[:, -1:])], dim=1)
    return ends.to(torch.uint8).argmax(-1)
