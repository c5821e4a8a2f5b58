"""CLIP's ResNet (section 2.4): three convolutions first, strides by averaging, attention instead of pooling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.architectures.clip.config import REDUCTION, CLIPConfig
from zoo.nn.image import check_image
from zoo.nn.patches import resample

EXPANSION = 4
"""A block puts out this many times the channels that it computes with."""


class Stem(nn.Module):
    """Three convolutions with norms, the first of stride 2, and a mean over 2 x 2 pixels: a quarter of each side."""

    def __init__(self, in_channels: int, width: int) -> None:
        """Half the width, and at the end the whole."""
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width // 2, 3, stride=2, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.norm3 = nn.BatchNorm2d(width)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, width, rows, columns)."""
        x = F.relu(self.norm1(self.conv1(image)), inplace=True)
        x = F.relu(self.norm2(self.conv2(x)), inplace=True)
        x = F.relu(self.norm3(self.conv3(x)), inplace=True)
        return F.avg_pool2d(x, 2)


class Shortcut(nn.Module):
    """A mean over stride x stride pixels, then a convolution to as many channels as the block puts out."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        """Keep the stride."""
        super().__init__()
        self.stride = stride
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, rows, columns) -> (batch, out_channels, rows / stride, columns / stride)."""
        return self.norm(self.conv(_pooled(x, self.stride)))


class Block(nn.Module):
    """1 x 1, 3 x 3 and 1 x 1 convolutions; a stride is a mean before the last one (Zhang, 2019)."""

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        """Compute with `width` channels and put out four times as many."""
        super().__init__()
        out_channels, self.stride = width * EXPANSION, stride
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(out_channels)
        changes = stride > 1 or in_channels != out_channels
        self.shortcut = Shortcut(in_channels, out_channels, stride) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, rows, columns) -> (batch, out_channels, rows / stride, columns / stride)."""
        out = F.relu(self.norm1(self.conv1(x)), inplace=True)
        out = F.relu(self.norm2(self.conv2(out)), inplace=True)
        out = self.norm3(self.conv3(_pooled(out, self.stride)))
        out += self.shortcut(x)
        return F.relu(out, inplace=True)


def _pooled(x: Tensor, stride: int) -> Tensor:
    return F.avg_pool2d(x, stride) if stride > 1 else x


class AttentionPool(nn.Module):
    """One layer of attention in which the mean of all positions asks, and they and the mean itself answer."""

    def __init__(self, dim: int, num_heads: int, grid: int, out_dim: int) -> None:
        """Keep the sizes; `grid` is the side of the map for which there are positions."""
        super().__init__()
        self.num_heads = num_heads
        self.positions = nn.Parameter(torch.empty(1, 1 + grid**2, dim))
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, dim, rows, columns) -> (batch, out_dim)."""
        positions = resample(self.positions, x.shape[-2:])
        tokens = x.flatten(2).mT  # (batch, rows * columns, dim)
        tokens = torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1) + positions
        query, key, value = (
            layer(read).unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch, heads, seq, head_dim)
            for layer, read in ((self.query, tokens[:, :1]), (self.key, tokens), (self.value, tokens))
        )
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(1))


class ImageResNet(nn.Module):
    """The stem, four stages, and attention over the last map."""

    def __init__(self, config: CLIPConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        channels = config.vision_width
        self.stem = Stem(config.in_channels, channels)
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(config.vision_depths):
            width = config.vision_width * 2**stage
            strides = [2 if stage else 1] + [1] * (depth - 1)
            blocks = []
            for stride in strides:
                blocks.append(Block(channels, width, stride))
                channels = width * EXPANSION
            self.stages.append(nn.Sequential(*blocks))
        self.head = AttentionPool(channels, config.vision_num_heads, config.grid, config.dim)

    def forward(self, image: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, dim) in the common space, of any length."""
        return self.head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last map, (batch, 32 vision_width, rows, columns)."""
        check_image(self, image, REDUCTION)
        x = self.stem(image)
        for stage in self.stages:
            x = stage(x)
        return x

    def init_weights(self) -> None:
        """PyTorch's own draws in the convolutions; every block starts as its shortcut, as in the released code."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                module.reset_parameters()
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.norm3.weight)
        std = self.head.positions.shape[-1] ** -0.5
        nn.init.normal_(self.head.positions, std=std)
        for layer in (self.head.query, self.head.key, self.head.value, self.head.proj):
            layer.reset_parameters()
            nn.init.normal_(layer.weight, std=std)
