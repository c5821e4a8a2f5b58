"""ResNet (He, Zhang, Ren and Sun, 2015), https://arxiv.org/abs/1512.03385: table 1 and, for CIFAR-10, section 4.2.

With ResNeXt (Xie et al., 2016), https://arxiv.org/abs/1611.05431, whose bottlenecks convolve in groups, and Wide
ResNet (Zagoruyko and Komodakis, 2016), https://arxiv.org/abs/1605.07146, whose bottlenecks are twice as wide;
SE-ResNet (Hu et al., 2017), https://arxiv.org/abs/1709.01507, whose blocks weigh their channels by what is on the whole
image; and ResNet-D (He et al., 2018), https://arxiv.org/abs/1812.01187, whose stem and shortcuts drop no pixels.

Differences from the paper:
- a bottleneck halves the resolution in its 3x3 convolution and not in the 1x1 before it ("version 1.5", as in
  Torch's and all public weights), which uses every pixel and gains about half a percent;
- convolutions start with the variance 2 / fan_out, as those weights did, rather than 2 / fan_in;
- `stem="small"` is for small images: the ImageNet stem divides the resolution by four before the first block
  and leaves a single position of a 32x32 image at the end. The CIFAR networks are the paper's own.

Glossary (our word, meaning, the paper's symbol):
    residual   the learnt branch of a block                              F(x)
    shortcut   the other branch: x, or x brought to the shape of F(x)    x, W_s x
    stage      the blocks that share a resolution                        conv2_x to conv5_x
    groups     parts of a 3x3 convolution that do not mix                C, cardinality (ResNeXt)

Input: image (batch, in_channels, height, width), float, normalised per channel, of any size, also oblong. The last
stage has a stride of 32, with `stem="small"` of 8, and of 4 in the CIFAR networks; sizes that these do not divide
are rounded up. Training needs more than one value per channel there, as every batch norm does.
Output: logits (batch, num_classes).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """The shape of a residual network; by default ResNet-50."""

    depths: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks in each stage; every stage after the first halves the resolution and doubles the channels."""
    block: Literal["basic", "bottleneck"] = "bottleneck"
    width: int = 64
    """Channels of the stem and of the first stage; a bottleneck puts out four times its stage's."""
    groups: int = 1
    """Groups of a bottleneck's 3x3 convolution."""
    group_width: int = 64
    """Channels of each such group in the first stage: 4 in ResNeXt 32x4d, and 128 of one group in Wide ResNet-50-2."""
    stem: Literal["imagenet", "deep", "small"] = "imagenet"
    """A 7x7 convolution with stride 2, or three of 3x3 (ResNet-C), and a max-pooling; or a 3x3 convolution alone, which
    keeps the resolution."""
    shortcut: Literal["projection", "average", "pad"] = "projection"
    """Where shapes change: option B, a 1x1 convolution; this after an average (ResNet-D); or option A, subsampling and
    zero channels."""
    squeeze: int = 0
    """By how much the hidden layer of squeeze-and-excitation is narrower than a block's output; 0 leaves it out."""
    zero_init_residual: bool = False
    """Start with every block as the identity (Goyal et al., 2017, section 5.1)."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def channels(self, stage: int) -> int:
        """What the blocks of a stage put out; stages count from 0."""
        return self.width * 2**stage * {"basic": 1, "bottleneck": 4}[self.block]

    def __post_init__(self) -> None:
        """Refuse empty layers, and options that this block does not have."""
        check_num_classes(self.num_classes)
        for name in ("depths", "width", "groups", "group_width", "in_channels"):
            value = getattr(self, name)
            if value == () or min(value if isinstance(value, tuple) else (value,)) < 1:
                raise ValueError(f"{name} {value} is empty or below 1")
        if not 0 <= self.squeeze <= self.channels(0):
            raise ValueError(f"squeeze {self.squeeze} is not in [0, {self.channels(0)}], the first stage's channels")
        if self.block == "basic" and (self.groups, self.group_width) != (1, 64):
            raise ValueError(
                f"groups {self.groups} and group_width {self.group_width} are for block 'bottleneck', not 'basic'"
            )


def conv(in_channels: int, channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """A convolution that keeps the resolution but for its stride; the norm that follows has the bias."""
    padding = kernel_size // 2
    return nn.Conv2d(in_channels, channels, kernel_size, stride, padding, groups=groups, bias=False)


def basic_residual(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """F of ResNet-18 and -34 (figure 5, left)."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv(in_channels, channels, 3, stride),
            norm1=nn.BatchNorm2d(channels),
            relu1=nn.ReLU(inplace=True),
            conv2=conv(channels, channels, 3),
            norm2=nn.BatchNorm2d(channels),
        )
    )


def bottleneck_residual(in_channels: int, inner: int, channels: int, stride: int, groups: int) -> nn.Sequential:
    """F of ResNet-50 and deeper (figure 5, right), and with groups of ResNeXt (its figure 3c)."""
    return nn.Sequential(
        OrderedDict(
            conv1=conv(in_channels, inner, 1),
            norm1=nn.BatchNorm2d(inner),
            relu1=nn.ReLU(inplace=True),
            conv2=conv(inner, inner, 3, stride, groups),
            norm2=nn.BatchNorm2d(inner),
            relu2=nn.ReLU(inplace=True),
            conv3=conv(inner, channels, 1),
            norm3=nn.BatchNorm2d(channels),
        )
    )


class SqueezeExcitation(nn.Module):
    """Channels weighed by what is on the whole image: x * sigmoid(W_2 relu(W_1 mean(x))) (SENet, equations 2 to 4)."""

    def __init__(self, channels: int, hidden: int) -> None:
        """Build from the widths of both layers."""
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, kernel_size=1)
        self.expand = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        hidden = F.relu(self.reduce(x.mean((-2, -1), keepdim=True)), inplace=True)
        return x * self.expand(hidden).sigmoid()


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the channels that x lacks; it has no parameters."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        """Keep the shapes that it joins."""
        super().__init__()
        self.missing, self.stride = channels - in_channels, stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride)."""
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


def projection_shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Option B: W_s x."""
    return nn.Sequential(OrderedDict(conv=conv(in_channels, channels, 1, stride), norm=nn.BatchNorm2d(channels)))


def average_shortcut(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """W_s of the mean of `stride` x `stride` pixels (ResNet-D, figure 2c)."""
    pool = nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
    layers = [pool] if stride > 1 else [nn.Identity()]
    return nn.Sequential(
        OrderedDict(pool=layers[0], conv=conv(in_channels, channels, 1), norm=nn.BatchNorm2d(channels))
    )


def make_shortcut(kind: str, in_channels: int, channels: int, stride: int) -> nn.Module:
    """The identity wherever shapes agree."""
    if in_channels == channels and stride == 1:
        return nn.Identity()
    kinds = {"projection": projection_shortcut, "average": average_shortcut, "pad": PadShortcut}
    return kinds[kind](in_channels, channels, stride)


class Block(nn.Module):
    """y = relu(F(x) + shortcut(x)), equations 1 and 2."""

    def __init__(self, residual: nn.Sequential, shortcut: nn.Module) -> None:
        """Join the two branches."""
        super().__init__()
        self.residual, self.shortcut = residual, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride)."""
        return F.relu(self.residual(x) + self.shortcut(x), inplace=True)


def make_stem(kind: str, in_channels: int, width: int) -> nn.Sequential:
    """(batch, in_channels, height, width) -> (batch, width, height / 2, width / 2), or of the same size if small."""

    def layers(channels: int, out: int, kernel_size: int, stride: int) -> list[nn.Module]:
        return [conv(channels, out, kernel_size, stride), nn.BatchNorm2d(out), nn.ReLU(inplace=True)]

    if kind == "deep":
        rows = [(in_channels, width // 2, 3, 2), (width // 2, width // 2, 3, 1), (width // 2, width, 3, 1)]
        names = ("1", "2", "")
    else:
        rows, names = [(in_channels, width, *((7, 2) if kind == "imagenet" else (3, 1)))], ("",)
    stem = nn.Sequential()
    for row, number in zip(rows, names, strict=True):
        for name, layer in zip(("conv", "norm", "relu"), layers(*row), strict=True):
            stem.add_module(name + number, layer)
    return stem


class ResNet(nn.Module):
    """A stem, stages of residual blocks, and a linear head on the mean over all positions."""

    def __init__(self, config: ResNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.stem = make_stem(config.stem, config.in_channels, config.width)
        small = config.stem == "small"
        self.pool = nn.Identity() if small else nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.stages = nn.Sequential()
        channels = config.width
        for stage, depth in enumerate(config.depths):
            blocks = nn.Sequential()
            for position in range(depth):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(self._block(channels, stage, stride))
                channels = config.channels(stage)
            self.stages.append(blocks)
        self.num_features = channels
        self.head = classifier(channels, config.num_classes)

    def _block(self, in_channels: int, stage: int, stride: int) -> Block:
        config, channels = self.config, self.config.channels(stage)
        if config.block == "basic":
            residual = basic_residual(in_channels, channels, stride)
        else:
            inner = config.groups * config.group_width * 2**stage
            residual = bottleneck_residual(in_channels, inner, channels, stride, config.groups)
        if config.squeeze:
            residual.add_module("squeeze", SqueezeExcitation(channels, channels // config.squeeze))
        return Block(residual, make_shortcut(config.shortcut, in_channels, channels, stride))

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, num_features, height / stride, width / stride), stride as the file says."""
        check_image(self, image)
        return last_map(self.stages(self.pool(self.stem(image))))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        return self.head(features.mean((-2, -1)))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw convolutions from He et al.'s normal distribution (2015); norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:  # of squeeze-and-excitation
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()
        if self.config.zero_init_residual:
            last = {"basic": "norm2", "bottleneck": "norm3"}[self.config.block]
            for module in self.modules():
                if isinstance(module, Block):
                    nn.init.zeros_(module.residual.get_parameter(f"{last}.weight"))

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size of ImageNet's crops or of CIFAR's images."""
        size = 32 if self.config.stem == "small" else 224
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="resnet",
    model=ResNet,
    config=ResNetConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/1512.03385",
    tiny=ResNetConfig(depths=(1, 1), block="basic", width=8, stem="small", num_classes=5),
    presets={
        "resnet18": ResNetConfig(depths=(2, 2, 2, 2), block="basic"),
        "resnet26": ResNetConfig(depths=(2, 2, 2, 2)),
        "resnet34": ResNetConfig(depths=(3, 4, 6, 3), block="basic"),
        "resnet50": ResNetConfig(depths=(3, 4, 6, 3)),
        "resnet101": ResNetConfig(depths=(3, 4, 23, 3)),
        "resnet152": ResNetConfig(depths=(3, 8, 36, 3)),
        "resnet26d": ResNetConfig(depths=(2, 2, 2, 2), stem="deep", shortcut="average"),
        "resnet50d": ResNetConfig(depths=(3, 4, 6, 3), stem="deep", shortcut="average"),
        "seresnet50": ResNetConfig(depths=(3, 4, 6, 3), squeeze=16),
        "resnext50_32x4d": ResNetConfig(depths=(3, 4, 6, 3), groups=32, group_width=4),
        "resnext101_32x8d": ResNetConfig(depths=(3, 4, 23, 3), groups=32, group_width=8),
        "resnext101_64x4d": ResNetConfig(depths=(3, 4, 23, 3), groups=64, group_width=4),
        "wide_resnet50_2": ResNetConfig(depths=(3, 4, 6, 3), group_width=128),
        "wide_resnet101_2": ResNetConfig(depths=(3, 4, 23, 3), group_width=128),
        # Section 4.2: 6n + 2 layers, three stages of n blocks with two layers each.
        **{
            f"resnet{6 * n + 2}": ResNetConfig(
                depths=(n, n, n), block="basic", width=16, stem="small", shortcut="pad", num_classes=10
            )
            for n in (3, 5, 7, 9, 18)
        },
    },
    params={
        "resnet": 25_557_032,
        "resnet18": 11_689_512,
        "resnet26": 15_995_176,
        "resnet34": 21_797_672,
        "resnet50": 25_557_032,
        "resnet101": 44_549_160,
        "resnet152": 60_192_808,
        "resnet26d": 16_014_408,
        "resnet50d": 25_576_264,
        "seresnet50": 28_088_024,
        "resnext50_32x4d": 25_028_904,
        "resnext101_32x8d": 88_791_336,
        "resnext101_64x4d": 83_455_272,
        "wide_resnet50_2": 68_883_240,
        "wide_resnet101_2": 126_886_696,
        "resnet20": 269_722,
        "resnet32": 464_154,
        "resnet44": 658_586,
        "resnet56": 853_018,
        "resnet110": 1_727_962,
    },
    aliases={f"microsoft/resnet-{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
)
