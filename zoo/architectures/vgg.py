"""VGG (Simonyan and Zisserman, 2014), https://arxiv.org/abs/1409.1556: columns A, B, D and E of table 1.

Convolutions of 3x3 alone: two in a row see 5x5 pixels and three see 7x7, with fewer weights than one convolution of
that size, and with a rectifier after each.

    A, vgg11    64     -  128     -  256 x 2  -  512 x 2  -  512 x 2  -  4096  -  4096  -  classes
    B, vgg13    64 x 2 -  128 x 2 -  256 x 2  -  512 x 2  -  512 x 2  -  ...
    D, vgg16    64 x 2 -  128 x 2 -  256 x 3  -  512 x 3  -  512 x 3  -  ...
    E, vgg19    64 x 2 -  128 x 2 -  256 x 4  -  512 x 4  -  512 x 4  -  ...

Differences from the paper:
- `batch_norm=True` (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167) normalises before each rectifier, as
  in the weights called vgg11_bn to vgg19_bn; it came after the paper;
- convolutions start with the variance 2 / fan_out (He et al., 2015) and full connections with 0.01 ** 2, as those
  weights did; the paper drew A with the variance 0.01 and started deeper columns from a trained A;
- maps of another size than the 7x7 of a 224x224 image are averaged or repeated to 7x7 before the first full
  connection, as in torchvision; over maps with a larger side the paper, and timm, slide the full connections and
  average what they say. Up to 255 pixels a side the libraries agree;
- A-LRN, whose normalisation brought nothing, and C, with convolutions of 1x1, are left out.

Glossary (our word, the paper's):
    stage    the convolutions that share a resolution, and the max-pooling after them     conv3-128 ... maxpool
    stem     the first stage                                                              conv3-64 ... maxpool
    hidden   the first two full connections                                               FC-4096

Input: image (batch, in_channels, height, width), float, normalised per channel, of any size from 32 x 32 on, also
oblong. The last map has a stride of 32.
Output: logits (batch, num_classes).
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

MAP_SIZE = 7
"""Height and width of the maps that the hidden layers read."""


@dataclass(frozen=True, kw_only=True)
class VGGConfig:
    """The shape of a VGG; by default the paper's D, with 16 layers."""

    depths: tuple[int, ...] = (2, 2, 3, 3, 3)
    """Convolutions of each stage, the stem first; every stage halves the resolution."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 512)
    """Channels of each stage."""
    batch_norm: bool = False
    hidden_width: int = 4096
    dropout: float = 0.5
    """Probability that a hidden unit is dropped in training."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def __post_init__(self) -> None:
        """Refuse empty layers, stages without channels and a dropout that keeps nothing."""
        if len(self.depths) != len(self.widths) or not self.depths:
            raise ValueError(f"depths {self.depths} and widths {self.widths} need one number each for every stage")
        check_num_classes(self.num_classes)
        for size in (*self.depths, *self.widths, self.hidden_width, self.in_channels):
            if size < 1:
                raise ValueError(f"{size} is below 1; see depths, widths, hidden_width and in_channels")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")


def convolution(in_channels: int, channels: int, batch_norm: bool) -> nn.Sequential:
    """conv3-<channels>: (batch, in_channels, height, width) -> (batch, channels, height, width)."""
    norm = {"norm": nn.BatchNorm2d(channels)} if batch_norm else {}
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, channels, kernel_size=3, padding=1),
            **norm,
            relu=nn.ReLU(inplace=True),
        )
    )


def make_stage(in_channels: int, channels: int, depth: int, batch_norm: bool) -> nn.Sequential:
    """(batch, in_channels, height, width) -> (batch, channels, height // 2, width // 2)."""
    stage = nn.Sequential(convolution(in_channels, channels, batch_norm))
    for _ in range(depth - 1):
        stage.append(convolution(channels, channels, batch_norm))
    return stage.append(nn.MaxPool2d(kernel_size=2))


def full_connection(in_features: int, width: int, dropout: float) -> nn.Sequential:
    """FC-<width>: (batch, in_features) -> (batch, width)."""
    return nn.Sequential(
        OrderedDict(
            linear=nn.Linear(in_features, width),
            relu=nn.ReLU(inplace=True),
            dropout=nn.Dropout(dropout),
        )
    )


class VGG(nn.Module):
    """Stages of convolutions, and three full connections."""

    def __init__(self, config: VGGConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        sizes = pairwise((config.in_channels, *config.widths))
        stages = [
            make_stage(a, b, depth, config.batch_norm) for (a, b), depth in zip(sizes, config.depths, strict=True)
        ]
        self.stem, self.stages = stages[0], nn.Sequential(*stages[1:])
        self.hidden = nn.Sequential(
            full_connection(config.widths[-1] * MAP_SIZE * MAP_SIZE, config.hidden_width, config.dropout),
            full_connection(config.hidden_width, config.hidden_width, config.dropout),
        )
        self.num_features = config.hidden_width
        self.head = classifier(config.hidden_width, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, channels, height // 32, width // 32)."""
        check_image(self, image, smallest=2 ** len(self.config.depths))
        return last_map(self.stages(self.stem(image)))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        features = F.adaptive_avg_pool2d(features, MAP_SIZE).flatten(1)  # (batch, channels * 7 * 7)
        return self.head(self.hidden(features))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw convolutions from He et al.'s normal distribution; biases are zero, norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.get_parameter("bias"))
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=0.01)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size whose last map is as large as the hidden layers want it."""
        size = MAP_SIZE * 2 ** len(self.config.depths)
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="vgg",
    model=VGG,
    config=VGGConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/1409.1556",
    tiny=VGGConfig(depths=(1, 2), widths=(4, 6), batch_norm=True, hidden_width=16, num_classes=5),
    presets={
        "vgg11": VGGConfig(depths=(1, 1, 2, 2, 2)),
        "vgg13": VGGConfig(depths=(2, 2, 2, 2, 2)),
        "vgg16": VGGConfig(depths=(2, 2, 3, 3, 3)),
        "vgg19": VGGConfig(depths=(2, 2, 4, 4, 4)),
        "vgg11_bn": VGGConfig(depths=(1, 1, 2, 2, 2), batch_norm=True),
        "vgg13_bn": VGGConfig(depths=(2, 2, 2, 2, 2), batch_norm=True),
        "vgg16_bn": VGGConfig(depths=(2, 2, 3, 3, 3), batch_norm=True),
        "vgg19_bn": VGGConfig(depths=(2, 2, 4, 4, 4), batch_norm=True),
    },
    params={
        "vgg": 138_357_544,
        "vgg11": 132_863_336,
        "vgg13": 133_047_848,
        "vgg16": 138_357_544,
        "vgg19": 143_667_240,
        "vgg11_bn": 132_868_840,
        "vgg13_bn": 133_053_736,
        "vgg16_bn": 138_365_992,
        "vgg19_bn": 143_678_248,
    },
    aliases={},
)
