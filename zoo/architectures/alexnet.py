"""AlexNet in one column (Krizhevsky, 2014), https://arxiv.org/abs/1404.5997: footnote 1 on page 5.

It is AlexNet (Krizhevsky, Sutskever and Hinton, 2012: figure 2 of
https://papers.nips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html) without the split of its layers
over two GPUs, and with fewer channels:

    conv1 11x11/4 - pool - conv2 5x5 - pool - conv3 3x3 - conv4 3x3 - conv5 3x3 - pool - three full connections

Differences from the papers:
- conv4 has 256 channels, as in the author's configuration file and torchvision's weights; the footnote says 384;
- no local response normalisation, and dropout before both hidden layers rather than after them: as in those weights;
- weights start uniform with a variance of 1 / (3 fan_in), as those did, rather than normal with a deviation of 0.01;
- maps of another size than the 6x6 of a 224x224 image are averaged or repeated to 6x6 before the first full connection.

Glossary (our word, the papers'):
    stem     conv1 and the max-pooling after it
    stages   the layers up to the next max-pooling: conv2; conv3 to conv5
    hidden   the first two fully-connected layers

Input: image (batch, in_channels, height, width), float, normalised per channel, of any size from 63 x 63 on, also
oblong. The last map has a stride of 32.
Output: logits (batch, num_classes).
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

STEM_KERNEL_SIZE = 11
MAP_SIZE = 6
"""Height and width of the maps that the hidden layers read."""
SMALLEST = 63
"""The last pooling needs 3 positions, the second 7 and the first 15, for which conv1 needs 63 pixels."""


@dataclass(frozen=True, kw_only=True)
class AlexNetConfig:
    """The shape of an AlexNet; by default the one of the public weights."""

    widths: tuple[int, int, int, int, int] = (64, 192, 384, 256, 256)
    """Channels of the convolutions."""
    hidden_width: int = 4096
    dropout: float = 0.5
    """Probability that an input of a hidden layer is dropped in training."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def __post_init__(self) -> None:
        """Refuse empty layers and a dropout that keeps nothing."""
        check_num_classes(self.num_classes)
        for size in (*self.widths, self.hidden_width, self.in_channels):
            if size < 1:
                raise ValueError(f"a layer of {size} units is below 1; see widths, hidden_width and in_channels")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")


def convolution(in_channels: int, channels: int, kernel_size: int, stride: int, padding: int) -> nn.Sequential:
    """(batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride), about."""
    conv = nn.Conv2d(in_channels, channels, kernel_size, stride, padding)
    return nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU(inplace=True)))


def overlapping_pool() -> nn.MaxPool2d:
    """Windows of three positions, two apart (2012, section 3.4)."""
    return nn.MaxPool2d(kernel_size=3, stride=2)


def full_connection(in_features: int, width: int, dropout: float) -> nn.Sequential:
    """(batch, in_features) -> (batch, width)."""
    return nn.Sequential(
        OrderedDict(dropout=nn.Dropout(dropout), linear=nn.Linear(in_features, width), relu=nn.ReLU(inplace=True))
    )


class AlexNet(nn.Module):
    """Five convolutions and three full connections."""

    def __init__(self, config: AlexNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        c1, c2, c3, c4, c5 = config.widths
        self.stem = nn.Sequential(
            convolution(config.in_channels, c1, STEM_KERNEL_SIZE, stride=4, padding=2),
            overlapping_pool(),
        )
        self.stages = nn.Sequential(
            nn.Sequential(
                convolution(c1, c2, kernel_size=5, stride=1, padding=2),
                overlapping_pool(),
            ),
            nn.Sequential(
                convolution(c2, c3, kernel_size=3, stride=1, padding=1),
                convolution(c3, c4, kernel_size=3, stride=1, padding=1),
                convolution(c4, c5, kernel_size=3, stride=1, padding=1),
                overlapping_pool(),
            ),
        )
        self.hidden = nn.Sequential(
            full_connection(c5 * MAP_SIZE * MAP_SIZE, config.hidden_width, config.dropout),
            full_connection(config.hidden_width, config.hidden_width, config.dropout),
        )
        self.num_features = config.hidden_width
        self.head = classifier(config.hidden_width, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The maps of conv5, pooled: (batch, channels, 6, 6) where the image is 224 x 224."""
        check_image(self, image, SMALLEST)
        return last_map(self.stages(self.stem(image)))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last maps."""
        features = F.adaptive_avg_pool2d(features, MAP_SIZE).flatten(1)  # (batch, channels * 6 * 6)
        return self.head(self.hidden(features))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw weights and biases uniformly from -1 / sqrt(fan_in) to 1 / sqrt(fan_in)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size of ImageNet's crops."""
        return {"image": torch.randn(batch_size, self.config.in_channels, 224, 224)}


ARCHITECTURE = Architecture(
    name="alexnet",
    model=AlexNet,
    config=AlexNetConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/1404.5997",
    tiny=AlexNetConfig(widths=(4, 6, 8, 6, 6), hidden_width=16, num_classes=5),
    presets={},
    params={"alexnet": 61_100_840},
    aliases={},
)
