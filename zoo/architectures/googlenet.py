"""GoogLeNet (Szegedy et al., 2014), https://arxiv.org/abs/1409.4842: table 1 and figures 2b and 3.

Differences from the paper, all of them as in the public weights:
- every convolution is followed by a batch norm (Ioffe and Szegedy, 2015), and the local response norms are gone;
- the "5x5" branches convolve 3x3, a mistake of the first release that its weights made permanent;
- the dropout before the head is 0.2 rather than 0.4;
- the auxiliary heads average to 4x4 positions whatever the image's size, and not by 5x5 with stride 3.
`stem="small"`, for small images, leaves out what divides the resolution by eight before the first inception module.

Glossary (our word, the paper's):
    reduce       the 1x1 convolution before a larger one    #3x3 reduce, #5x5 reduce
    projection   the 1x1 convolution after a pooling        pool proj
    aux_heads    classifiers on inception 4a and 4d, which only train what is below them

Input: image (batch, in_channels, height, width), float, normalised per channel, 15 pixels at least and also oblong;
with `stem="small"` 2 pixels. The last stage has a stride of 32, or of 4.
Output: logits (batch, num_classes); with `aux_heads` in train and eval alike `Logits`.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

WIDTH = 64
"""Channels of the paper's first convolution, to which the numbers below belong."""
CONV2 = (64, 192)
"""Table 1: the 1x1 and the 3x3 convolution."""
INCEPTION = (
    # Table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj. A stage ends where an auxiliary head reads it.
    {
        "inception3a": (64, 96, 128, 16, 32, 32),
        "inception3b": (128, 128, 192, 32, 96, 64),
    },
    {
        "inception4a": (192, 96, 208, 16, 48, 64),
    },
    {
        "inception4b": (160, 112, 224, 24, 64, 64),
        "inception4c": (128, 128, 256, 24, 64, 64),
        "inception4d": (112, 144, 288, 32, 64, 64),
    },
    {
        "inception4e": (256, 160, 320, 32, 128, 128),
    },
    {
        "inception5a": (256, 160, 320, 32, 128, 128),
        "inception5b": (384, 192, 384, 48, 128, 128),
    },
)
AUX_STAGES = (2, 3)
"""Those after which section 5 puts its auxiliary heads: they end with inception 4a and 4d."""
AUX = (128, 1024)
"""Channels of an auxiliary head's convolution and of its hidden layer."""
AUX_POSITIONS = 4
AUX_DROPOUT = 0.7
NORM_EPS = 1e-3


@dataclass(frozen=True, kw_only=True)
class GoogLeNetConfig:
    """The shape of an Inception v1 network; by default the paper's."""

    width: int = WIDTH
    """Channels of the first convolution, a multiple of 8; all others keep their ratio to it."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """A 7x7 convolution with stride 2 and two max-poolings on the way, or a 3x3 convolution and neither."""
    dropout: float = 0.2
    """Of the features that the head reads."""
    aux_heads: bool = False
    """Two more classifiers in the middle; their losses count 0.3 in the paper."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def scaled(self, *channels: int) -> list[int]:
        """The paper's numbers in a network of this width."""
        return [number * self.width // WIDTH for number in channels]

    def __post_init__(self) -> None:
        """Refuse empty layers, widths that the table does not divide by, and what is no probability."""
        check_num_classes(self.num_classes)
        for name in ("width", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.width % 8:
            raise ValueError(f"width {self.width} is not a multiple of 8, so that table 1 could not be scaled to it")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1); 0 leaves it out")


class Logits(NamedTuple):
    """What a network with auxiliary heads puts out."""

    logits: Tensor
    """(batch, num_classes)."""
    aux: tuple[Tensor, ...]
    """The same of inception 4a's and 4d's heads."""


def conv_norm_relu(in_channels: int, channels: int, kernel_size: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the resolution but for its stride; the norm has the bias."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, channels, kernel_size, stride, kernel_size // 2, bias=False),
            norm=nn.BatchNorm2d(channels, NORM_EPS),
            relu=nn.ReLU(inplace=True),
        )
    )


def halve(kernel_size: int) -> nn.MaxPool2d:
    """A max-pooling to half the resolution; its last window may reach over the border."""
    return nn.MaxPool2d(kernel_size, stride=2, ceil_mode=True)


class Inception(nn.Module):
    """Four views of the same maps, joined along the channels (figure 2b)."""

    def __init__(
        self, in_channels: int, conv1: int, reduce3: int, conv3: int, reduce5: int, conv5: int, projection: int
    ):
        """Build from a row of table 1."""
        super().__init__()
        self.conv1x1 = conv_norm_relu(in_channels, conv1, 1)
        self.conv3x3 = nn.Sequential(conv_norm_relu(in_channels, reduce3, 1), conv_norm_relu(reduce3, conv3, 3))
        self.conv5x5 = nn.Sequential(conv_norm_relu(in_channels, reduce5, 1), conv_norm_relu(reduce5, conv5, 3))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), conv_norm_relu(in_channels, projection, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, joined channels, height, width)."""
        return torch.cat([self.conv1x1(x), self.conv3x3(x), self.conv5x5(x), self.pool(x)], 1)


class AuxHead(nn.Module):
    """A classifier on maps from the middle of the network (section 5)."""

    def __init__(self, in_channels: int, channels: int, hidden: int, num_classes: int) -> None:
        """Build from channels."""
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(AUX_POSITIONS)
        self.conv = conv_norm_relu(in_channels, channels, 1)
        self.hidden = nn.Linear(channels * AUX_POSITIONS**2, hidden)
        self.dropout = nn.Dropout(AUX_DROPOUT)
        self.head = classifier(hidden, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, num_classes)."""
        hidden = self.hidden(self.conv(self.pool(x)).flatten(1))
        return self.head(self.dropout(hidden.relu_()))


class GoogLeNet(nn.Module):
    """A stem, stages of inception modules, and a linear head on the mean over all positions."""

    def __init__(self, config: GoogLeNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        imagenet, scaled = config.stem == "imagenet", config.scaled
        self.stem = conv_norm_relu(config.in_channels, config.width, *((7, 2) if imagenet else (3, 1)))
        reduced, channels = scaled(*CONV2)
        conv2: OrderedDict[str, nn.Module] = OrderedDict(
            pool=halve(3) if imagenet else nn.Identity(),
            reduce=conv_norm_relu(config.width, reduced, 1),
            conv=conv_norm_relu(reduced, channels, 3),
        )
        self.stages = nn.Sequential(nn.Sequential(conv2))
        self.aux_heads = nn.ModuleList()
        pools = {1: halve(3) if imagenet else nn.Identity(), 2: halve(3), 5: halve(2)}
        for number, table in enumerate(INCEPTION, start=1):
            stage = nn.Sequential(OrderedDict({"pool": pools[number]} if number in pools else {}))
            for name, row in table.items():
                stage.add_module(name, Inception(channels, *scaled(*row)))
                channels = sum(scaled(row[0], row[2], row[4], row[5]))
            self.stages.append(stage)
            if config.aux_heads and number in AUX_STAGES:
                self.aux_heads.append(AuxHead(channels, *scaled(*AUX), num_classes=config.num_classes))
        self.dropout = nn.Dropout(config.dropout)
        self.num_features = channels
        self.head = classifier(channels, config.num_classes)

    def forward(self, image: Tensor) -> Tensor | Logits:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        features, middle = self._read(image)
        logits = self.forward_head(features)
        if not self.config.aux_heads:
            return logits
        return Logits(logits, tuple(head(x) for head, x in zip(self.aux_heads, middle, strict=True)))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, num_features, height / stride, width / stride), stride as the file says."""
        return self._read(image)[0]

    def _read(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The last stage's maps, and those that auxiliary heads read."""
        # A pooling of 3x3 needs two positions; there are three before the last, which needs one.
        check_image(self, image, {"imagenet": 15, "small": 2}[self.config.stem])
        x, middle = self.stem(image), []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            if self.config.aux_heads and number in AUX_STAGES:
                middle.append(x)
        return last_map(x), middle

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        return self.head(self.dropout(features.mean((-2, -1))))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw weights from a narrow normal distribution, as torchvision; norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.01)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size of ImageNet's crops or of CIFAR's images."""
        size = {"imagenet": 224, "small": 32}[self.config.stem]
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="googlenet",
    model=GoogLeNet,
    config=GoogLeNetConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/1409.4842",
    tiny=GoogLeNetConfig(width=32, stem="small", num_classes=5),
    presets={},
    params={"googlenet": 6_624_904},
    aliases={"inception_v1": "googlenet"},
)
