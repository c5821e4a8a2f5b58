"""ConvNeXt (Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, 2022), https://arxiv.org/abs/2201.03545: table 9, figure 4.

A ResNet rebuilt step by step with what vision transformers do: patches for a stem, one large depthwise convolution
for attention, an inverted bottleneck for the MLP, layer norms, GELU, and resolution halved between the stages.

Glossary (our word, meaning, the paper's symbol):
    width          channels of the first stage; each later one doubles them     C
    depths         blocks in each stage                                         B
    scale          the factor per channel at the end of a branch                layer scale (A.1)
    downsample     a norm and a 2x2 convolution with stride 2 before a stage    section 2.6

Input: image (batch, in_channels, height, width), float, normalised per channel, of any size from 32 x 32 pixels on,
also oblong. The last stage has a stride of 32; rows and columns that a stride leaves over are not read.
Output: logits (batch, num_classes).
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.drop import DropPath, rates
from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

EXPANSION = 4
"""Hidden channels of a block's MLP for each of its own (section 2.4)."""
INIT_STD = 0.02
"""Of the truncated normal distribution that all weights start from, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class ConvNeXtConfig:
    """The shape of a ConvNeXt; by default ConvNeXt-T."""

    depths: tuple[int, ...] = (3, 3, 9, 3)
    """Blocks in each stage; every stage after the first halves the resolution and doubles the channels."""
    width: int = 96
    """Channels of the stem and of the first stage."""
    patch_size: int = 4
    """Kernel size and stride of the stem; 1 or 2 suit small images."""
    kernel_size: int = 7
    """Of the depthwise convolutions; odd."""
    norm_eps: float = 1e-6
    layer_scale: float = 1e-6
    """What each branch is multiplied by at first, for every channel by a factor of its own that is learnt."""
    drop_path: float = 0.1
    """The rate at the last block; it rises linearly from 0 at the first."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    @property
    def stride(self) -> int:
        """Pixels of the image for each position of the last stage."""
        return self.patch_size * 2 ** (len(self.depths) - 1)

    def __post_init__(self) -> None:
        """Refuse empty layers, kernels without a centre and rates that are none."""
        check_num_classes(self.num_classes)
        for name in ("depths", "width", "patch_size", "kernel_size", "in_channels"):
            value = getattr(self, name)
            if value == () or min(value if isinstance(value, tuple) else (value,)) < 1:
                raise ValueError(f"{name} {value} is empty or below 1")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {self.kernel_size} is even and would shift the image; make it odd")
        if not self.norm_eps > 0:
            raise ValueError(f"norm_eps {self.norm_eps} is not positive")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path {self.drop_path} is not in [0, 1)")


class ChannelNorm(nn.Module):
    """A layer norm over the channels of each position of a map."""

    def __init__(self, channels: int, eps: float) -> None:
        """Parameters as nn.LayerNorm has them."""
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(channels)), nn.Parameter(torch.empty(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same, stored with the channels last."""
        return F.layer_norm(x.movedim(1, -1), self.weight.shape, self.weight, self.bias, self.eps).movedim(-1, 1)

    def reset_parameters(self) -> None:
        """Start as the plain norm."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)


class Block(nn.Module):
    """y = x + scale * mlp(norm(conv(x))), figure 4; all but the convolution acts on each position by itself."""

    def __init__(self, channels: int, kernel_size: int, norm_eps: float, drop_path: float) -> None:
        """The MLP is linear layers over the last axis, faster than 1x1 convolutions and equal to them."""
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=norm_eps)
        self.mlp = nn.Sequential(
            OrderedDict(
                expand=nn.Linear(channels, EXPANSION * channels),
                gelu=nn.GELU(),
                project=nn.Linear(EXPANSION * channels, channels),
            )
        )
        self.scale = nn.Parameter(torch.empty(channels))
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        branch = self.mlp(self.norm(self.conv(x).movedim(1, -1)))  # (batch, height, width, channels)
        return x + self.drop_path(self.scale * branch).movedim(-1, 1)


def downsample(channels: int, norm_eps: float) -> nn.Sequential:
    """Half the resolution, twice the channels."""
    return nn.Sequential(
        OrderedDict(norm=ChannelNorm(channels, norm_eps), conv=nn.Conv2d(channels, 2 * channels, 2, stride=2))
    )


class ConvNeXt(nn.Module):
    """A stem of patches, stages of blocks, and a linear head on the normalised mean over all positions."""

    def __init__(self, config: ConvNeXtConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        channels = config.width
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(config.in_channels, channels, config.patch_size, stride=config.patch_size),
                norm=ChannelNorm(channels, config.norm_eps),
            )
        )
        drop_path = iter(rates(config.drop_path, sum(config.depths)))
        self.stages = nn.Sequential()
        for stage, depth in enumerate(config.depths):
            blocks = nn.Sequential()
            if stage > 0:
                blocks.add_module("downsample", downsample(channels, config.norm_eps))
                channels *= 2
            for position in range(depth):
                block = Block(channels, config.kernel_size, config.norm_eps, next(drop_path))
                blocks.add_module(str(position), block)
            self.stages.append(blocks)
        self.num_features = channels
        self.norm = nn.LayerNorm(channels, eps=config.norm_eps)
        self.head = classifier(channels, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, num_features, height / stride, width / stride)."""
        check_image(self, image, smallest=self.config.stride)
        return last_map(self.stages(self.stem(image)))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        return self.head(self.norm(features.mean((-2, -1))))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw as the authors' code does; every branch starts with next to no effect."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.get_parameter("bias"))
            elif isinstance(module, ChannelNorm | nn.LayerNorm):
                module.reset_parameters()
            elif isinstance(module, Block):
                nn.init.constant_(module.scale, self.config.layer_scale)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size that leaves 7 x 7 positions: 224 x 224 pixels for the presets."""
        size = 7 * self.config.stride
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="convnext",
    model=ConvNeXt,
    config=ConvNeXtConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/2201.03545",
    tiny=ConvNeXtConfig(depths=(1, 1), width=8, num_classes=5),
    presets={
        "convnext_tiny": ConvNeXtConfig(depths=(3, 3, 9, 3), width=96, drop_path=0.1),
        "convnext_small": ConvNeXtConfig(depths=(3, 3, 27, 3), width=96, drop_path=0.4),
        "convnext_base": ConvNeXtConfig(depths=(3, 3, 27, 3), width=128, drop_path=0.5),
        "convnext_large": ConvNeXtConfig(depths=(3, 3, 27, 3), width=192, drop_path=0.5),
    },
    params={
        "convnext": 28_589_128,
        "convnext_tiny": 28_589_128,
        "convnext_small": 50_223_688,
        "convnext_base": 88_591_464,
        "convnext_large": 197_767_336,
    },
    aliases={},
)
