"""Inception v3 (Szegedy et al., 2015), https://arxiv.org/abs/1512.00567: table 1 and figures 5, 6, 7, 8 and 10.

Differences from the paper, all of them as in the authors' own release and its ports:
- the stem's second part is a 1x1 convolution, a 3x3 one and a max-pooling rather than three 3x3 convolutions;
- in figure 5 one branch keeps its 5x5 convolution;
- the reduction to 8x8 positions has 1x7 and 7x1 convolutions before its last 3x3;
- the auxiliary head is a pooling, a 1x1 and a 5x5 convolution, each with a batch norm, and a linear layer.
The paper does not give the branches' channels; they are the release's.
`stem="small"`, for small images, leaves out what divides the resolution by eight before the first module.

Glossary (our word, the paper's):
    figure5, 6, 7   the module of that figure; "figure 10" are the two reductions
    double3x3       two 3x3 convolutions in place of a 5x5 (section 3.1)
    aux_heads       the auxiliary classifier on the last 17x17 maps (figure 8)

Input: image (batch, in_channels, height, width), float, normalised per channel, of 299 x 299 pixels by design. At
least 75 are needed, also oblong, with `aux_heads` 299; with `stem="small"` 13 and 41. Borders are cut, not padded, so
that 299 pixels leave 8 positions and, with `stem="small"`, 32 pixels 5.
Output: logits (batch, num_classes); with `aux_heads` in train and eval alike `Logits`.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

WIDTH = 32
"""Channels of the paper's first convolution, to which the numbers below belong."""
STEM = (32, 32, 64)
CONV = (80, 192)
"""The 1x1 and the 3x3 convolution between the two poolings."""
AUX = (128, 768)
"""The auxiliary head's two convolutions."""
NORM_EPS = 1e-3


@dataclass(frozen=True, kw_only=True)
class InceptionV3Config:
    """The shape of an Inception v3 network; by default the paper's."""

    width: int = WIDTH
    """Channels of the first convolution, an even number; all others keep their ratio to it."""
    depths: tuple[int, int, int] = (3, 5, 3)
    """Modules for 35x35, 17x17 and 8x8 positions; fewer are the first ones, two, one and two at least."""
    stem: Literal["imagenet", "small"] = "imagenet"
    """With a stride of 2 in the first convolution and two max-poolings on the way, or with neither."""
    dropout: float = 0.5
    """Of the features that the head reads."""
    aux_heads: bool = False
    """One more classifier on the last 17x17 maps."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    @property
    def smallest(self) -> int:
        """The least height and width of an image, from the back: unpadded 3x3 layers with these strides."""
        size = 17 if self.aux_heads else 3
        for stride in {"imagenet": (2, 2, 1, 2, 1, 2), "small": (2, 1, 1, 1)}[self.stem]:
            size = stride * (size - 1) + 3
        return size

    def scaled(self, *channels: int) -> list[int]:
        """The release's numbers in a network of this width."""
        return [number * self.width // WIDTH for number in channels]

    def __post_init__(self) -> None:
        """Refuse empty layers, widths that the table does not divide by, and what is no probability."""
        check_num_classes(self.num_classes)
        for name in ("width", "in_channels"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.width % 2:
            raise ValueError(f"width {self.width} is odd, so that channels could not be scaled to it; make it even")
        if any(
            not least <= depth <= most for depth, least, most in zip(self.depths, (2, 1, 2), (3, 5, 3), strict=True)
        ):
            raise ValueError(f"depths {self.depths} must lie between (2, 1, 2) and (3, 5, 3)")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout {self.dropout} is not in [0, 1); 0 leaves it out")


class Logits(NamedTuple):
    """What a network with an auxiliary head puts out."""

    logits: Tensor
    """(batch, num_classes)."""
    aux: tuple[Tensor, ...]
    """The same of the auxiliary head."""


def conv(
    in_channels: int, channels: int, kernel_size: int | tuple[int, int], stride: int = 1, padded: bool = True
) -> nn.Sequential:
    """A convolution, its norm, which has the bias, and a ReLU; padded, it keeps the resolution."""
    height, width = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    padding = (height // 2, width // 2) if padded else 0
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, channels, (height, width), stride, padding, bias=False),
            norm=nn.BatchNorm2d(channels, NORM_EPS),
            relu=nn.ReLU(inplace=True),
        )
    )


class Join(nn.Module):
    """Branches that read the same maps, joined along the channels."""

    def __init__(self, **branches: nn.Module) -> None:
        """Take the branches in order."""
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, the branches' channels, ...)."""
        return torch.cat([branch(x) for branch in self.children()], 1)


def pool(in_channels: int, channels: int) -> nn.Sequential:
    """The pooling branch of modules that keep the resolution."""
    return nn.Sequential(nn.AvgPool2d(3, stride=1, padding=1), conv(in_channels, channels, 1))


def figure5(in_channels: int, plain: int, reduce5: int, conv5: int, reduce3: int, conv3: int, pooled: int) -> Join:
    """The module for 35x35 positions."""
    return Join(
        conv1x1=conv(in_channels, plain, 1),
        conv5x5=nn.Sequential(conv(in_channels, reduce5, 1), conv(reduce5, conv5, 5)),
        double3x3=nn.Sequential(conv(in_channels, reduce3, 1), conv(reduce3, conv3, 3), conv(conv3, conv3, 3)),
        pool=pool(in_channels, pooled),
    )


def figure6(in_channels: int, channels: int, inner: int) -> Join:
    """The module for 17x17 positions, with 7x7 convolutions taken apart."""
    return Join(
        conv1x1=conv(in_channels, channels, 1),
        conv7x7=nn.Sequential(conv(in_channels, inner, 1), conv(inner, inner, (1, 7)), conv(inner, channels, (7, 1))),
        double7x7=nn.Sequential(
            conv(in_channels, inner, 1),
            conv(inner, inner, (7, 1)),
            conv(inner, inner, (1, 7)),
            conv(inner, inner, (7, 1)),
            conv(inner, channels, (1, 7)),
        ),
        pool=pool(in_channels, channels),
    )


def figure7(in_channels: int, plain: int, reduce: int, split: int, pooled: int) -> Join:
    """The module for 8x8 positions, with 3x3 convolutions taken apart side by side."""
    return Join(
        conv1x1=conv(in_channels, plain, 1),
        conv3x3=nn.Sequential(conv(in_channels, split, 1), both(split)),
        double3x3=nn.Sequential(conv(in_channels, reduce, 1), conv(reduce, split, 3), both(split)),
        pool=pool(in_channels, pooled),
    )


def both(channels: int) -> Join:
    """A row and a column that read the same maps."""
    return Join(row=conv(channels, channels, (1, 3)), column=conv(channels, channels, (3, 1)))


def figure10(in_channels: int, plain: int, reduce: int, double: int) -> Join:
    """From 35x35 positions to 17x17."""
    return Join(
        conv3x3=conv(in_channels, plain, 3, stride=2, padded=False),
        double3x3=nn.Sequential(
            conv(in_channels, reduce, 1), conv(reduce, double, 3), conv(double, double, 3, stride=2, padded=False)
        ),
        pool=nn.MaxPool2d(3, stride=2),
    )


def figure10_with_7x7(in_channels: int, plain: int, inner: int) -> Join:
    """From 17x17 positions to 8x8."""
    return Join(
        conv3x3=nn.Sequential(conv(in_channels, inner, 1), conv(inner, plain, 3, stride=2, padded=False)),
        conv7x7=nn.Sequential(
            conv(in_channels, inner, 1),
            conv(inner, inner, (1, 7)),
            conv(inner, inner, (7, 1)),
            conv(inner, inner, 3, stride=2, padded=False),
        ),
        pool=nn.MaxPool2d(3, stride=2),
    )


MODULES: tuple[dict[str, tuple[Callable[..., Join], tuple[int, ...]]], ...] = (
    # 35x35, 17x17 and 8x8 positions; of each module the figure, the channels that it reads, and its branches'.
    {
        "mixed_5b": (figure5, (192, 64, 48, 64, 64, 96, 32)),
        "mixed_5c": (figure5, (256, 64, 48, 64, 64, 96, 64)),
        "mixed_5d": (figure5, (288, 64, 48, 64, 64, 96, 64)),
    },
    {
        "mixed_6a": (figure10, (288, 384, 64, 96)),
        "mixed_6b": (figure6, (768, 192, 128)),
        "mixed_6c": (figure6, (768, 192, 160)),
        "mixed_6d": (figure6, (768, 192, 160)),
        "mixed_6e": (figure6, (768, 192, 192)),
    },
    {
        "mixed_7a": (figure10_with_7x7, (768, 320, 192)),
        "mixed_7b": (figure7, (1280, 320, 448, 384, 192)),
        "mixed_7c": (figure7, (2048, 320, 448, 384, 192)),
    },
)
MIDDLE, LAST = 768, 2048
"""Channels after the stages of 17x17 and of 8x8 positions, which the two heads read."""


class AuxHead(nn.Module):
    """A classifier on the 17x17 maps (figure 8)."""

    def __init__(self, in_channels: int, reduced: int, channels: int, num_classes: int) -> None:
        """Build from channels."""
        super().__init__()
        self.pool = nn.AvgPool2d(5, stride=3)
        self.reduce = conv(in_channels, reduced, 1)
        self.conv = conv(reduced, channels, 5, padded=False)
        self.head = classifier(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, num_classes)."""
        return self.head(self.conv(self.reduce(self.pool(x))).mean((-2, -1)))


class InceptionV3(nn.Module):
    """A stem, stages of inception modules, and a linear head on the mean over all positions."""

    def __init__(self, config: InceptionV3Config) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        imagenet, scaled = config.stem == "imagenet", config.scaled

        def halve() -> nn.Module:
            return nn.MaxPool2d(3, stride=2) if imagenet else nn.Identity()

        first, second, third = scaled(*STEM)
        self.stem = nn.Sequential(
            conv(config.in_channels, first, 3, stride=2 if imagenet else 1, padded=False),
            conv(first, second, 3, padded=False),
            conv(second, third, 3),
        )
        reduced, channels = scaled(*CONV)
        convs = OrderedDict(pool=halve(), reduce=conv(third, reduced, 1), conv=conv(reduced, channels, 3, padded=False))
        self.stages = nn.Sequential(nn.Sequential(convs))
        for number, (modules, depth) in enumerate(zip(MODULES, config.depths, strict=True), start=1):
            stage = nn.Sequential(OrderedDict(pool=halve()) if number == 1 else OrderedDict())
            for name, (figure, row) in islice(modules.items(), depth):
                stage.add_module(name, figure(*scaled(*row)))
            self.stages.append(stage)
        self.aux_heads = nn.ModuleList()
        if config.aux_heads:
            self.aux_heads.append(AuxHead(*scaled(MIDDLE, *AUX), num_classes=config.num_classes))
        self.dropout = nn.Dropout(config.dropout)
        (self.num_features,) = scaled(LAST)
        self.head = classifier(self.num_features, config.num_classes)

    def forward(self, image: Tensor) -> Tensor | Logits:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        features, middle = self._read(image)
        logits = self.forward_head(features)
        return Logits(logits, tuple(head(middle) for head in self.aux_heads)) if self.config.aux_heads else logits

    def forward_features(self, image: Tensor) -> Tensor:
        """The last stage's maps (batch, num_features, height, width), 8 x 8 of them for images of 299 x 299."""
        return self._read(image)[0]

    def _read(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The last stage's maps, and those that the auxiliary head reads."""
        check_image(self, image, self.config.smallest)
        middle = self.stem(image)
        *stages, last = self.stages
        for stage in stages:
            middle = stage(middle)
        return last_map(last(middle)), middle

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last stage's maps."""
        return self.head(self.dropout(features.mean((-2, -1))))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw weights from normal distributions, as the release's ports; norms start as the identity."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.1)
        for aux in self.aux_heads:
            nn.init.trunc_normal_(aux.get_parameter("conv.conv.weight"), std=0.01)
            if self.config.num_classes:
                nn.init.trunc_normal_(aux.get_parameter("head.weight"), std=0.001)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size of the paper's crops, or of CIFAR's images where those are large enough."""
        size = max({"imagenet": 299, "small": 32}[self.config.stem], self.config.smallest)
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


ARCHITECTURE = Architecture(
    name="inception_v3",
    model=InceptionV3,
    config=InceptionV3Config,
    task="image-classification",
    paper="https://arxiv.org/abs/1512.00567",
    tiny=InceptionV3Config(width=4, depths=(3, 3, 2), stem="small", num_classes=5),
    presets={},
    params={"inception_v3": 23_834_568},
    aliases={},
)
