"""LeNet-5 (LeCun, Bottou, Bengio and Haffner, 1998), https://doi.org/10.1109/5.726791: section II-B and figure 2.

    C1 6@28x28 - S2 6@14x14 - C3 16@10x10 - S4 16@5x5 - C5 120@1x1 - F6 84 - output 10

Every C is a convolution of 5x5 and every S halves the resolution; C5 is one too, but a 32x32 image leaves it a map
of 5x5 and thus a single position. Units squash their sums to f(a) = A tanh(S a) with A = 1.7159 and S = 2/3, so that
f(1) = 1, f(-1) = -1, and f bends most about there: values of this size neither saturate a unit nor make it linear
(appendix A).

Differences from the paper:
- every map of C3 reads all maps of S2; the paper connects 60 of these 96 pairs (table I), to break symmetry and to
  save work;
- S2 and S4 are plain means; the paper scales and shifts them by two trained numbers per map and squashes them;
- the output layer is linear and meant for softmax and cross-entropy; in the paper it has the squared distances from
  F6 to fixed bitmaps of the ten digits, 7x12 = 84 pixels each;
- in a larger image C5 has many positions; the paper reads each as a character of its own (section VII), this network
  averages them into the features of one image.

Glossary (our word, the paper's symbol):
    stem     C1
    stages   S2 with C3, and S4 with C5
    hidden   F6

Input: image (batch, in_channels, height, width), float, about standardised: the paper's background is -0.1 and its ink
1.175. Of any size from 32 x 32 on, or from 28 x 28 with `padding=2`; positions that do not fill a mean are dropped.
Output: logits (batch, num_classes).
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, classifier, reset_classifier
from zoo.registry import Architecture

KERNEL_SIZE = 5
FIELD = 32
"""Pixels that one position of C5 sees: 5, by S2 6, by C3 6 + 4 * 2 = 14, by S4 16, and by C5 16 + 4 * 4."""


@dataclass(frozen=True, kw_only=True)
class LeNetConfig:
    """The shape of a LeNet; by default LeNet-5."""

    widths: tuple[int, int, int] = (6, 16, 120)
    """Channels of C1, C3 and C5."""
    hidden_width: int = 84
    """Units of F6."""
    padding: int = 0
    """Zeros around the image: 2 for MNIST's files of 28 x 28 pixels, which the paper enlarges beforehand."""
    in_channels: int = 1
    num_classes: int = 10
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def __post_init__(self) -> None:
        """Refuse empty layers, and a padding in which a convolution sees nothing else."""
        check_num_classes(self.num_classes)
        for size in (*self.widths, self.hidden_width, self.in_channels):
            if size < 1:
                raise ValueError(f"a layer of {size} units is below 1; see widths, hidden_width and in_channels")
        if not 0 <= self.padding < KERNEL_SIZE:
            raise ValueError(f"padding {self.padding} is not in [0, {KERNEL_SIZE}), the width of the first convolution")


class Squash(nn.Module):
    """f(a) = A tanh(S a), equation 6."""

    def forward(self, sums: Tensor) -> Tensor:
        """Any shape -> the same shape, within (-A, A)."""
        return 1.7159 * torch.tanh(2 / 3 * sums)


def stage(in_channels: int, channels: int) -> nn.Sequential:
    """S2 with C3, or S4 with C5: (batch, in_channels, h, w) -> (batch, channels, h // 2 - 4, w // 2 - 4)."""
    return nn.Sequential(
        OrderedDict(
            pool=nn.AvgPool2d(kernel_size=2),
            conv=nn.Conv2d(in_channels, channels, KERNEL_SIZE),
            squash=Squash(),
        )
    )


class LeNet(nn.Module):
    """Three convolutions with subsampling between them, and two full connections."""

    def __init__(self, config: LeNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        c1, c3, c5 = config.widths
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(config.in_channels, c1, KERNEL_SIZE, padding=config.padding),
                squash=Squash(),
            )
        )
        self.stages = nn.Sequential(stage(c1, c3), stage(c3, c5))
        self.hidden = nn.Sequential(OrderedDict(linear=nn.Linear(c5, config.hidden_width), squash=Squash()))
        self.num_features = config.hidden_width
        self.head = classifier(config.hidden_width, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """C5's maps (batch, channels, height, width), with a single position where the image is 32 x 32."""
        check_image(self, image, smallest=FIELD - 2 * self.config.padding)
        return self.stages(self.stem(image))  # one position is no sign of a small image here, so no `last_map`

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of C5's maps."""
        return self.head(self.hidden(features.mean((-2, -1))))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw weights uniformly from -2.4 / F to 2.4 / F, F being a unit's inputs (appendix A); biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                bound = 2.4 / module.weight[0].numel()
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.get_parameter("bias"))

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the paper's size."""
        return {"image": torch.randn(batch_size, self.config.in_channels, FIELD, FIELD)}


ARCHITECTURE = Architecture(
    name="lenet",
    model=LeNet,
    config=LeNetConfig,
    task="image-classification",
    paper="https://doi.org/10.1109/5.726791",
    tiny=LeNetConfig(widths=(3, 4, 8), hidden_width=6, num_classes=5),
    presets={"lenet5": LeNetConfig(widths=(6, 16, 120), hidden_width=84)},
    params={"lenet": 61_706, "lenet5": 61_706},
    aliases={"lenet_5": "lenet5"},
)
