"""DenseNet-BC (Huang, Liu, van der Maaten and Weinberger, 2017), https://arxiv.org/abs/1608.06993: table 1 and, for
CIFAR-10, section 3.

Differences from the paper:
- dropout, where asked for, comes once at the end of each dense layer and not after each of its convolutions, as in
  the public implementations;
- DenseNet-161 is not in the paper's table; it came with the authors' code, with k = 48.

Glossary (our word, meaning, the paper's symbol):
    dense layer        norm, relu, 1x1 convolution, norm, relu, 3x3 convolution     H_l, "B" its 1x1 convolution
    dense block        dense layers of which each reads what all before it put out  x_l = H_l([x_0, ..., x_{l-1}])
    growth_rate        channels that a dense layer adds                             k
    transition         halves channels and resolution between dense blocks          theta = 0.5, "C"
    memory_efficient   joined maps are computed again for the gradient, not kept    Pleiss et al. (2017)

Input: image (batch, in_channels, height, width), float, normalised per channel, 29 pixels at least and also oblong.
The last stage has a stride of 32; with `stem="small"` of 4 after three dense blocks, which takes 4 pixels at least.
Output: logits (batch, num_classes).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

BOTTLENECK = 4
"""A dense layer's 1x1 convolution puts out 4k channels (section 3, "Bottleneck layers")."""


@dataclass(frozen=True, kw_only=True)
class DenseNetConfig:
    """The shape of a densely connected network; by default DenseNet-121."""

    depths: tuple[int, ...] = (6, 12, 24, 16)
    """Dense layers in each dense block."""
    growth_rate: int = 32
    """Channels that each dense layer adds; the stem has twice as many."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """A 7x7 convolution with stride 2 and a max-pooling, or a 3x3 convolution that keeps the resolution."""
    dropout: float = 0.0
    """Of what each dense layer adds; 0.2 in the paper where data is not augmented."""
    memory_efficient: bool = False
    """Keep less for the gradient and compute it again: the same numbers with less memory, in more time."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def __post_init__(self) -> None:
        """Refuse empty layers and what is no probability."""
        check_num_classes(self.num_classes)
        for name in ("depths", "growth_rate", "in_channels"):
            value = getattr(self, name)
            if value == () or min(value if isinstance(value, tuple) else (value,)) < 1:
                raise ValueError(f"{name} {value} is empty or below 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1); 0 leaves it out")


def norm_relu_conv(in_channels: int, channels: int, kernel_size: int) -> nn.Sequential:
    """The order of pre-activation (He et al., 2016), at the same resolution."""
    return nn.Sequential(
        OrderedDict(
            norm=nn.BatchNorm2d(in_channels),
            relu=nn.ReLU(inplace=True),
            conv=nn.Conv2d(in_channels, channels, kernel_size, padding=kernel_size // 2, bias=False),
        )
    )


class DenseLayer(nn.Module):
    """H, the map from all that was put out before to `growth_rate` new channels."""

    def __init__(self, in_channels: int, growth_rate: int, dropout: float, memory_efficient: bool) -> None:
        """Build from channels; `in_channels` are those of all maps together."""
        super().__init__()
        self.memory_efficient = memory_efficient
        self.bottleneck = norm_relu_conv(in_channels, BOTTLENECK * growth_rate, 1)
        self.growth = norm_relu_conv(BOTTLENECK * growth_rate, growth_rate, 3)
        self.dropout = nn.Dropout(dropout)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Several (batch, channels, height, width) -> (batch, growth_rate, height, width)."""
        if self.memory_efficient and torch.is_grad_enabled():
            hidden = self._join_again(maps)
        else:
            hidden = self.bottleneck(torch.cat(maps, 1))
        return self.dropout(self.growth(hidden))

    def _join_again(self, maps: list[Tensor]) -> Tensor:
        """Join for the output and again for the gradient; on copies of the norm's statistics the batch counts once."""
        statistics = {name: buffer.clone() for name, buffer in self.bottleneck.named_buffers()}

        def join(*maps: Tensor) -> Tensor:
            return functional_call(self.bottleneck, statistics, torch.cat(maps, 1))

        hidden = checkpoint(join, *maps, use_reentrant=False, preserve_rng_state=False)
        for name, buffer in self.bottleneck.named_buffers():
            buffer.copy_(statistics[name])
        return hidden


class DenseBlock(nn.Module):
    """Dense layers and, at the end, all that they and the block's input hold."""

    def __init__(self, layers: list[DenseLayer]) -> None:
        """Take the layers in order."""
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, in_channels + depth * growth_rate, height, width)."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps))
        return torch.cat(maps, 1)


def transition(in_channels: int) -> nn.Sequential:
    """Half the channels at half the resolution, rounded down."""
    layers = norm_relu_conv(in_channels, in_channels // 2, 1)
    layers.add_module("pool", nn.AvgPool2d(kernel_size=2))
    return layers


class DenseNet(nn.Module):
    """A stem, stages of a transition and a dense block, and a linear head on the mean over all positions."""

    def __init__(self, config: DenseNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        channels = 2 * config.growth_rate
        self.stem = nn.Sequential()
        if config.stem == "imagenet":
            conv = nn.Conv2d(config.in_channels, channels, kernel_size=7, stride=2, padding=3, bias=False)
            self.stem.add_module("conv", conv)
            self.stem.add_module("norm", nn.BatchNorm2d(channels))
            self.stem.add_module("relu", nn.ReLU(inplace=True))
            self.pool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        else:  # the first dense layer begins with the norm
            conv = nn.Conv2d(config.in_channels, channels, kernel_size=3, padding=1, bias=False)
            self.stem.add_module("conv", conv)
            self.pool = nn.Identity()
        self.stages = nn.Sequential()
        for depth in config.depths:
            stage = nn.Sequential()
            if len(self.stages) > 0:
                stage.add_module("transition", transition(channels))
                channels //= 2
            stage.add_module("block", self._block(channels, depth))
            self.stages.append(stage)
            channels += depth * config.growth_rate
        self.stages[-1].add_module("norm", nn.BatchNorm2d(channels))
        self.stages[-1].add_module("relu", nn.ReLU(inplace=True))
        self.num_features = channels
        self.head = classifier(channels, config.num_classes)

    def _block(self, in_channels: int, depth: int) -> DenseBlock:
        config, growth_rate = self.config, self.config.growth_rate
        return DenseBlock(
            [
                DenseLayer(in_channels + layer * growth_rate, growth_rate, config.dropout, config.memory_efficient)
                for layer in range(depth)
            ]
        )

    @property
    def smallest(self) -> int:
        """The least height and width of an image: every transition halves, rounding down; the stem rounds up."""
        positions = 2 ** (len(self.config.depths) - 1)
        return {"imagenet": 4 * positions - 3, "small": positions}[self.config.stem]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, num_features, height / stride, width / stride), stride as the file says."""
        check_image(self, image, self.smallest)
        return last_map(self.stages(self.pool(self.stem(image))))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        return self.head(features.mean((-2, -1)))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw convolutions from He et al.'s normal distribution (2015); norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                module.reset_parameters()
                nn.init.zeros_(module.bias)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size of ImageNet's crops or of CIFAR's images."""
        size = {"imagenet": 224, "small": 32}[self.config.stem]
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="densenet",
    model=DenseNet,
    config=DenseNetConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/1608.06993",
    tiny=DenseNetConfig(depths=(2, 2), growth_rate=4, stem="small", num_classes=5),
    presets={
        "densenet121": DenseNetConfig(depths=(6, 12, 24, 16)),
        "densenet169": DenseNetConfig(depths=(6, 12, 32, 32)),
        "densenet201": DenseNetConfig(depths=(6, 12, 48, 32)),
        "densenet161": DenseNetConfig(depths=(6, 12, 36, 24), growth_rate=48),
        # Table 2: L = 100 layers, two in each dense layer, and k = 12.
        "densenet_bc_100_12": DenseNetConfig(depths=(16, 16, 16), growth_rate=12, stem="small", num_classes=10),
    },
    params={
        "densenet": 7_978_856,
        "densenet121": 7_978_856,
        "densenet169": 14_149_480,
        "densenet201": 20_013_928,
        "densenet161": 28_681_000,
        "densenet_bc_100_12": 769_162,
    },
    aliases={},
)
