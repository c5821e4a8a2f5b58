"""SqueezeNet (Iandola et al., 2016), https://arxiv.org/abs/1602.07360: table 1, and the authors' release 1.1.

AlexNet's accuracy with a fiftieth of its parameters: most convolutions are 1x1, the others read few channels, and the
resolution falls late. Release 1.1, https://github.com/forresti/SqueezeNet/tree/master/SqueezeNet_v1.1, has a smaller
stem and earlier poolings, and 2.4 times less to compute.

    1.0   conv1 7x7/2, 96 - pool - fire2 fire3 fire4 - pool - fire5 ... fire8 - pool - fire9 - conv10
    1.1   conv1 3x3/2, 64 - pool - fire2 fire3 - pool - fire4 fire5 - pool - fire6 ... fire9 - conv10

Differences from the paper:
- the stem does not pad, so that a 224x224 image leaves it as a map of 109x109 and not 111x111; poolings round up, as
  in the authors' Caffe, and leave 54, 27 and 13 positions a side rather than 55, 27 and 13;
- the variants with bypass connections (figure 2) are left out.

Glossary (our word, the paper's symbol in section 5.1):
    width           expand filters of the first fire module     base_e
    width_step      how many more after every second one        incr_e, freq = 2
    squeeze_ratio   squeeze filters for each expand filter      SR
    share_3x3       expand filters that are 3x3                 pct_3x3
    stage           a pooling and the fire modules after it
    head            the convolution before the mean             conv10

Input: image (batch, in_channels, height, width), float, normalised per channel, of any size from 21 x 21 on (1.1: from
17 x 17), also oblong. The last map has a stride of 16.
Output: logits (batch, num_classes); none is negative, for the head's maps are rectified before the mean.
"""

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, last_map, reset_classifier
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class SqueezeNetConfig:
    """The shape of a SqueezeNet; by default the paper's, release 1.0."""

    depths: tuple[int, ...] = (3, 4, 1)
    """Fire modules of each stage; every stage begins with a pooling that halves the resolution."""
    stem_width: int = 96
    stem_kernel_size: int = 7
    width: int = 128
    width_step: int = 128
    squeeze_ratio: float = 0.125
    share_3x3: float = 0.5
    dropout: float = 0.5
    """Probability that an input of the head is dropped in training."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def fire(self, index: int) -> tuple[int, int, int]:
        """The channels s_1x1, e_1x1 and e_3x3 of a fire module; the first, fire2, has index 0."""
        expand = self.width + self.width_step * (index // 2)
        expand_3x3 = round(self.share_3x3 * expand)
        return round(self.squeeze_ratio * expand), expand - expand_3x3, expand_3x3

    def __post_init__(self) -> None:
        """Refuse empty layers and a dropout that keeps nothing."""
        check_num_classes(self.num_classes)
        for name in ("stem_width", "stem_kernel_size", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if min(self.depths, default=0) < 1:
            raise ValueError(f"depths {self.depths} has a stage without fire modules")
        for index in (0, sum(self.depths) - 1):  # between them the widths rise or fall steadily
            if min(self.fire(index)) < 1:
                raise ValueError(
                    f"fire{index + 2} has {self.fire(index)} channels (squeeze, 1x1, 3x3), of which one is below 1; "
                    "see width, width_step, squeeze_ratio and share_3x3"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1)")


class Fire(nn.Module):
    """A squeeze layer of 1x1 convolutions, and an expand layer of 1x1 and 3x3 ones (figure 1)."""

    def __init__(self, in_channels: int, squeeze: int, expand_1x1: int, expand_3x3: int) -> None:
        """Build from the channels of the three convolutions."""
        super().__init__()
        self.squeeze = nn.Conv2d(in_channels, squeeze, kernel_size=1)
        self.expand_1x1 = nn.Conv2d(squeeze, expand_1x1, kernel_size=1)
        self.expand_3x3 = nn.Conv2d(squeeze, expand_3x3, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, expand_1x1 + expand_3x3, height, width)."""
        x = F.relu(self.squeeze(x), inplace=True)
        return torch.cat([F.relu(self.expand_1x1(x), inplace=True), F.relu(self.expand_3x3(x), inplace=True)], dim=1)


class SqueezeNet(nn.Module):
    """A stem, stages of fire modules, and a 1x1 convolution whose mean over all positions classifies."""

    def __init__(self, config: SqueezeNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(config.in_channels, config.stem_width, config.stem_kernel_size, stride=2),
                relu=nn.ReLU(inplace=True),
            )
        )
        self.stages = nn.Sequential()
        channels, index = config.stem_width, 0
        for depth in config.depths:
            stage = nn.Sequential(nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True))
            for _ in range(depth):
                squeeze, expand_1x1, expand_3x3 = config.fire(index)
                stage.append(Fire(channels, squeeze, expand_1x1, expand_3x3))
                channels, index = expand_1x1 + expand_3x3, index + 1
            self.stages.append(stage)
        self.dropout = nn.Dropout(config.dropout)
        self.num_features = channels
        has_head = config.num_classes > 0
        self.head = nn.Conv2d(channels, config.num_classes, kernel_size=1) if has_head else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, num_features, height / 16, width / 16), about."""
        # A pooling leaves half of its positions, rounded down, so 2 ** poolings must come out of the stem.
        smallest = self.config.stem_kernel_size + 2 * (2 ** len(self.config.depths) - 1)
        check_image(self, image, smallest)
        return last_map(self.stages(self.stem(image)))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        return F.relu(self.head(self.dropout(features))).mean((-2, -1))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw convolutions from He et al.'s uniform distribution (2015), the head with a deviation of 0.01."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.get_parameter("bias"))
        if self.config.num_classes:
            nn.init.normal_(self.head.get_parameter("weight"), std=0.01)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size of ImageNet's crops, or smaller where there are fewer stages."""
        size = 28 * 2 ** len(self.config.depths)
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="squeezenet",
    model=SqueezeNet,
    config=SqueezeNetConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/1602.07360",
    tiny=SqueezeNetConfig(depths=(2, 1), stem_width=6, stem_kernel_size=3, width=16, width_step=8, num_classes=5),
    presets={
        "squeezenet1_0": SqueezeNetConfig(depths=(3, 4, 1), stem_width=96, stem_kernel_size=7),
        "squeezenet1_1": SqueezeNetConfig(depths=(2, 2, 4), stem_width=64, stem_kernel_size=3),
    },
    params={"squeezenet": 1_248_424, "squeezenet1_0": 1_248_424, "squeezenet1_1": 1_235_496},
    aliases={"squeezenet1.0": "squeezenet1_0", "squeezenet1.1": "squeezenet1_1"},
)
