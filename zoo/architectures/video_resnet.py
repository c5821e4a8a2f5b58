"""R(2+1)D, R3D and MC3 (Tran, Wang, Torresani, Ray, LeCun and Paluri, 2018), https://arxiv.org/abs/1711.11248:
figure 1 and table 1, residual networks for videos that differ in the kind of their convolutions.

Differences from the paper, all of them those of the public weights:
- both convolutions of a block that are split have the hidden width of the first, which keeps the block's number of
  parameters only where the block does not change its channels;
- the split stem has 45 hidden channels, where the formula of section 3.5 gives 83.

Glossary (our word, meaning, the paper's symbol):
    convolutions   for each of the five groups "3d", t x d x d; "2d", 1 x d x d;   conv1 to conv5_x
                   or "2plus1d", 1 x d x d in space and then t x 1 x 1 in time
    between        channels between the halves of a split convolution              M_i
    residual       the learnt branch of a block                                    F

Input: image (batch, in_channels, frames, height, width), float, normalised per channel, of any size and length. The
last stage has a stride of 16 in space; in time each stage but the first has one of 2, except where it is "2d". What
these do not divide is rounded up.
Output: logits (batch, num_classes), one for each clip.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

Kind = Literal["2d", "3d", "2plus1d"]
Triple = tuple[int, int, int]
"""Along frames, height and width."""
STEM_SIZE, SIZE, FRAMES = 7, 3, 3
"""d of the stem, d of all blocks, and t of both (table 1)."""
STEM_BETWEEN = 45
"""M_1 of the released R(2+1)D networks."""
HEAD_STD = 0.01
"""Of the normal distribution that the head starts from, as in torchvision."""


@dataclass(frozen=True, kw_only=True)
class VideoResNetConfig:
    """The shape of a residual network for videos; by default R(2+1)D-18."""

    convolutions: tuple[Kind, ...] = ("2plus1d", "2plus1d", "2plus1d", "2plus1d", "2plus1d")
    """The kind of the stem's convolution, and then of each stage's."""
    depths: tuple[int, ...] = (2, 2, 2, 2)
    """Blocks in each stage; every stage after the first halves the resolution and doubles the channels."""
    width: int = 64
    """Channels of the stem and of the first stage."""
    in_channels: int = 3
    num_classes: int = 400
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def __post_init__(self) -> None:
        """Refuse empty layers and stages without a kind."""
        check_num_classes(self.num_classes)
        for name in ("depths", "width", "in_channels"):
            value = getattr(self, name)
            if value == () or min(value if isinstance(value, tuple) else (value,)) < 1:
                raise ValueError(f"{name} {value} is empty or below 1")
        if len(self.convolutions) != 1 + len(self.depths):
            raise ValueError(
                f"convolutions has {len(self.convolutions)} kinds for a stem and {len(self.depths)} stages; give "
                f"{1 + len(self.depths)}"
            )


def conv(in_channels: int, channels: int, kernel_size: Triple, stride: Triple) -> nn.Conv3d:
    """A convolution that keeps the resolution but for its stride; the norm that follows has the bias."""
    frames, height, width = kernel_size
    return nn.Conv3d(
        in_channels, channels, kernel_size, stride, padding=(frames // 2, height // 2, width // 2), bias=False
    )


def convolution(kind: Kind, in_channels: int, between: int, channels: int, size: int, stride: Triple) -> nn.Module:
    """What figure 1 calls a convolution: `size` is d, and `between` is for "2plus1d" alone."""
    if kind == "3d":
        return conv(in_channels, channels, (FRAMES, size, size), stride)
    if kind == "2d":
        return conv(in_channels, channels, (1, size, size), stride)
    frames, height, width = stride
    return nn.Sequential(
        OrderedDict(
            space=conv(in_channels, between, (1, size, size), (1, height, width)),
            norm=nn.BatchNorm3d(between),
            relu=nn.ReLU(inplace=True),
            time=conv(between, channels, (FRAMES, 1, 1), (frames, 1, 1)),
        )
    )


class Block(nn.Module):
    """y = relu(F(x) + shortcut(x)), with a projection for the shortcut wherever shapes change."""

    def __init__(self, kind: Kind, in_channels: int, channels: int, stride: Triple) -> None:
        """Build both branches."""
        super().__init__()
        # Section 3.5: as many parameters as the 3d convolution has.
        between = FRAMES * SIZE**2 * in_channels * channels // (SIZE**2 * in_channels + FRAMES * channels)
        self.residual = nn.Sequential(
            OrderedDict(
                conv1=convolution(kind, in_channels, between, channels, SIZE, stride),
                norm1=nn.BatchNorm3d(channels),
                relu1=nn.ReLU(inplace=True),
                conv2=convolution(kind, channels, between, channels, SIZE, (1, 1, 1)),
                norm2=nn.BatchNorm3d(channels),
            )
        )
        self.shortcut = nn.Identity() if in_channels == channels else projection(in_channels, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, frames, height, width) -> (batch, channels, each of these divided by its stride)."""
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


def projection(in_channels: int, channels: int, stride: Triple) -> nn.Sequential:
    """A shortcut to another shape."""
    return nn.Sequential(
        OrderedDict(conv=conv(in_channels, channels, (1, 1, 1), stride), norm=nn.BatchNorm3d(channels))
    )


class VideoResNet(nn.Module):
    """A stem, stages of residual blocks, and a linear head on the mean over space and time."""

    def __init__(self, config: VideoResNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        channels = config.width
        stem, *kinds = config.convolutions
        self.stem = nn.Sequential(
            OrderedDict(
                conv=convolution(stem, config.in_channels, STEM_BETWEEN, channels, STEM_SIZE, (1, 2, 2)),
                norm=nn.BatchNorm3d(channels),
                relu=nn.ReLU(inplace=True),
            )
        )
        self.stages = nn.Sequential()
        for stage, (kind, depth) in enumerate(zip(kinds, config.depths, strict=True)):
            blocks = nn.Sequential()
            for position in range(depth):
                shrinks = stage > 0 and position == 0
                stride = ((1, 2, 2) if kind == "2d" else (2, 2, 2)) if shrinks else (1, 1, 1)
                blocks.append(Block(kind, channels, config.width * 2**stage, stride))
                channels = config.width * 2**stage
            self.stages.append(blocks)
        self.num_features = channels
        self.head = classifier(channels, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of clips (batch, in_channels, frames, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, num_features, frames / stride, height / stride, width / stride)."""
        check_image(self, image, axes="frames, height, width")
        return last_map(self.stages(self.stem(image)))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        return self.head(features.mean((-3, -2, -1)))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw convolutions from He et al.'s normal distribution (2015); norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm3d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=HEAD_STD)
                nn.init.zeros_(module.bias)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes: clips of 16 frames of 112 x 112 pixels for four stages, half of each for three."""
        stages = len(self.config.depths)
        frames, size = 2**stages, 7 * 2**stages
        return {"image": torch.randn(batch_size, self.config.in_channels, frames, size, size)}


ARCHITECTURE = Architecture(
    name="video_resnet",
    model=VideoResNet,
    config=VideoResNetConfig,
    task="video-classification",
    paper="https://arxiv.org/abs/1711.11248",
    tiny=VideoResNetConfig(convolutions=("2plus1d", "3d", "2plus1d"), depths=(1, 1), width=8, num_classes=5),
    presets={
        "r3d_18": VideoResNetConfig(convolutions=("3d", "3d", "3d", "3d", "3d")),
        "mc3_18": VideoResNetConfig(convolutions=("3d", "3d", "2d", "2d", "2d")),
        "r2plus1d_18": VideoResNetConfig(convolutions=("2plus1d", "2plus1d", "2plus1d", "2plus1d", "2plus1d")),
    },
    params={
        "video_resnet": 31_505_325,
        "r3d_18": 33_371_472,
        "mc3_18": 11_695_440,
        "r2plus1d_18": 31_505_325,
    },
    aliases={},
)
