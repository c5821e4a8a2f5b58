"""EfficientNet (Tan and Le, 2019), https://arxiv.org/abs/1905.11946: table 1, scaled by equation 3; and EfficientNetV2
(Tan and Le, 2021), https://arxiv.org/abs/2104.00298: table 4, with Fused-MBConv in its early stages (figure 2).

Differences from the papers, which follow the weights that are public:
- those of torchvision and most of timm's were trained in PyTorch: strided convolutions pad both sides alike, and B0
  to B4 have PyTorch's batch norms. The presets `tf_*` are for weights trained in TensorFlow, whose padding depends
  on the image's size (`padding="same"`) and whose norms add 1e-3 to the variance;
- the running statistics move as `norm_momentum` says, 0.1 where the papers have 0.01;
- V2-M and V2-L come from the authors' code; the paper gives their sizes only.

Glossary (our word, meaning, the papers' symbol):
    depths, channels              blocks and output channels of each stage, before scaling     L_i, C_i
    depth_factor, width_factor    what these are multiplied by                                 d, w
    residual                      the layers of a block, which a shortcut spans if shapes agree
    expansion                     inner channels of a block for each of its input's            6 in MBConv6
    mbconv, fused                 an inverted bottleneck; one with fewer, full convolutions    MBConv, Fused-MBConv
    single                        what is left of the latter where nothing is expanded         Fused-MBConv1

Input: image (batch, in_channels, height, width), float, normalised per channel, of any size, also oblong; the last
stage has a stride of 32, and sizes that it does not divide are rounded up.
Output: logits (batch, num_classes).
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.drop import DropPath, rates
from zoo.nn.image import check_image, check_num_classes, classifier, last_map, reset_classifier
from zoo.registry import Architecture

DIVISOR = 8
"""Scaled numbers of channels are multiples of this, as in the authors' code."""
SQUEEZE = 4
"""A block's input channels for each hidden one of its squeeze-and-excitation, as in the authors' code."""


@dataclass(frozen=True, kw_only=True)
class EfficientNetConfig:
    """The shape of an EfficientNet, a stage in each column; by default EfficientNet-B0."""

    blocks: tuple[Literal["mbconv", "fused", "single"], ...] = ("mbconv",) * 7
    """The kind of each stage's blocks; V2 begins with "single" convolutions, as there nothing is expanded."""
    expansions: tuple[int, ...] = (1, 6, 6, 6, 6, 6, 6)
    kernel_sizes: tuple[int, ...] = (3, 3, 5, 3, 5, 5, 3)
    strides: tuple[int, ...] = (1, 2, 2, 2, 1, 2, 1)
    """Of each stage's first block."""
    channels: tuple[int, ...] = (16, 24, 40, 80, 112, 192, 320)
    depths: tuple[int, ...] = (1, 2, 2, 3, 3, 4, 1)
    stem_channels: int = 32
    last_channels: int = 1280
    """Of the 1x1 convolution before the head."""
    width_factor: float = 1.0
    depth_factor: float = 1.0
    image_size: int = 224
    """The height and width that these factors go with; any other is read too."""
    padding: Literal["symmetric", "same"] = "symmetric"
    """Where strided convolutions put their zeros: on both sides alike, or as TensorFlow does."""
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    dropout: float = 0.2
    """Before the head."""
    drop_path: float = 0.2
    """The rate that the blocks approach linearly from 0 at the first."""
    in_channels: int = 3
    num_classes: int = 1000
    """0 leaves the head out: `forward` then gives what it would read, (batch, num_features)."""

    def __post_init__(self) -> None:
        """Refuse columns of other lengths, empty layers, kernels without a centre, and rates that are none."""
        columns = ("blocks", "expansions", "kernel_sizes", "strides", "channels", "depths")
        for name in columns:
            if len(getattr(self, name)) != len(self.blocks) or not self.blocks:
                raise ValueError(f"{name} describes {len(getattr(self, name))} stages, blocks {len(self.blocks)}")
        numbers = (
            "stem_channels",
            "last_channels",
            "width_factor",
            "depth_factor",
            "image_size",
            "norm_eps",
            "in_channels",
        )
        check_num_classes(self.num_classes)
        for name in (*columns[1:], *numbers):
            value = getattr(self, name)
            if not min(value if isinstance(value, tuple) else (value,)) > 0:
                raise ValueError(f"{name} {value} is not positive")
        for kind, expansion in zip(self.blocks, self.expansions, strict=True):
            if kind == "single" and expansion != 1:
                raise ValueError(f"a 'single' block has expansion 1, not {expansion}; take 'fused'")
        if even := [size for size in self.kernel_sizes if size % 2 == 0]:
            raise ValueError(f"kernel_sizes has {even[0]}, which is even and would shift the image; make it odd")
        if not 0 <= self.norm_momentum <= 1:
            raise ValueError(
                f"norm_momentum {self.norm_momentum} is not in [0, 1], the share of a new batch's statistics"
            )
        for name in ("dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in [0, 1)")

    def scaled(self, channels: int) -> int:
        """Channels times `width_factor`, to the nearest multiple of 8 that is no more than a tenth below."""
        exact = channels * self.width_factor
        nearest = max(DIVISOR, int(exact + DIVISOR / 2) // DIVISOR * DIVISOR)
        return nearest if nearest >= 0.9 * exact else nearest + DIVISOR


class SamePadding(nn.Module):
    """TensorFlow's "SAME": just enough zeros for ceil(size / stride) positions, an odd one at the end."""

    def __init__(self, kernel_size: int, stride: int) -> None:
        """Keep the convolution's shape."""
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same with zeros around it."""
        height, width = (max(self.kernel_size - 1 - (size - 1) % self.stride, 0) for size in x.shape[-2:])
        return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2))


Layer = Callable[..., nn.Sequential]
"""`conv_layer` with the padding and the norm of the network."""


def conv_layer(
    in_channels: int,
    channels: int,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    *,
    activation: bool = True,
    padding: str,
    norm: Callable[[int], nn.Module],
) -> nn.Sequential:
    """A convolution, its norm and, but for the last of a block, SiLU."""
    same = padding == "same" and stride > 1  # without a stride the two are equal
    border = 0 if same else kernel_size // 2
    parts: dict[str, nn.Module] = {"pad": SamePadding(kernel_size, stride)} if same else {}
    parts["conv"] = nn.Conv2d(in_channels, channels, kernel_size, stride, border, groups=groups, bias=False)
    parts["norm"] = norm(channels)
    if activation:
        parts["silu"] = nn.SiLU(inplace=True)
    return nn.Sequential(OrderedDict(parts))


class SqueezeExcitation(nn.Module):
    """Each channel times a factor in (0, 1) that is computed from the means of all channels (Hu et al., 2017)."""

    def __init__(self, channels: int, hidden: int) -> None:
        """The two layers act on a single position."""
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, kernel_size=1)
        self.expand = nn.Conv2d(hidden, channels, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape."""
        hidden = F.silu(self.reduce(x.mean((-2, -1), keepdim=True)), inplace=True)
        return x * self.expand(hidden).sigmoid()


def mbconv(layer: Layer, in_channels: int, inner: int, channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """An inverted bottleneck: 1x1 to more channels, depthwise, squeeze-and-excitation, 1x1 to `channels`."""
    parts: dict[str, nn.Module] = {"expand": layer(in_channels, inner)} if inner != in_channels else {}
    parts["depthwise"] = layer(inner, inner, kernel_size, stride, groups=inner)
    parts["squeeze_excitation"] = SqueezeExcitation(inner, hidden=max(1, in_channels // SQUEEZE))
    parts["project"] = layer(inner, channels, activation=False)
    return nn.Sequential(OrderedDict(parts))


def fused(layer: Layer, in_channels: int, inner: int, channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """One full convolution for the first two, which is faster where channels are few (V2, figure 2)."""
    return nn.Sequential(
        OrderedDict(
            expand=layer(in_channels, inner, kernel_size, stride),
            project=layer(inner, channels, activation=False),
        )
    )


def single(layer: Layer, in_channels: int, _inner: int, channels: int, kernel_size: int, stride: int) -> nn.Sequential:
    """What is left of a fused block that expands nothing."""
    return nn.Sequential(OrderedDict(conv=layer(in_channels, channels, kernel_size, stride)))


RESIDUALS = {"mbconv": mbconv, "fused": fused, "single": single}
"""F(x) of each kind of block."""


class Block(nn.Module):
    """x + F(x) where shapes agree, and otherwise F(x)."""

    def __init__(self, residual: nn.Sequential, has_shortcut: bool, drop_path: float) -> None:
        """Only a block with a shortcut can be dropped."""
        super().__init__()
        self.residual, self.has_shortcut, self.drop_path = residual, has_shortcut, DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride)."""
        if not self.has_shortcut:
            return self.residual(x)
        return self.drop_path(self.residual(x)).add_(x)


class EfficientNet(nn.Module):
    """A stem, stages of blocks, a 1x1 convolution, and a linear head on the mean over all positions."""

    def __init__(self, config: EfficientNetConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        norm = partial(nn.BatchNorm2d, eps=config.norm_eps, momentum=config.norm_momentum)
        layer = partial(conv_layer, padding=config.padding, norm=norm)
        channels = config.scaled(config.stem_channels)
        self.stem = layer(config.in_channels, channels, kernel_size=3, stride=2)
        depths = [math.ceil(depth * config.depth_factor) for depth in config.depths]
        drop_path = iter(rates(config.drop_path, sum(depths) + 1))  # the authors' rule stops short of the full rate
        self.stages = nn.Sequential()
        for stage, depth in enumerate(depths):
            blocks = nn.Sequential()
            for position in range(depth):
                before, channels = channels, config.scaled(config.channels[stage])
                stride = config.strides[stage] if position == 0 else 1
                inner = before * config.expansions[stage]
                make = RESIDUALS[config.blocks[stage]]
                residual = make(layer, before, inner, channels, config.kernel_sizes[stage], stride)
                blocks.append(Block(residual, stride == 1 and before == channels, next(drop_path)))
            self.stages.append(blocks)
        self.num_features = config.scaled(config.last_channels)
        self.last = layer(channels, self.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.head = classifier(self.num_features, config.num_classes)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (batch, num_classes) of images (batch, in_channels, height, width)."""
        return self.forward_head(self.forward_features(image))

    def forward_features(self, image: Tensor) -> Tensor:
        """The last convolution's maps (batch, num_features, height / stride, width / stride)."""
        check_image(self, image)
        return last_map(self.last(self.stages(self.stem(image))))

    def forward_head(self, features: Tensor) -> Tensor:
        """Logits (batch, num_classes) of the last convolution's maps."""
        return self.head(self.dropout(features.mean((-2, -1))))

    reset_classifier = reset_classifier

    def init_weights(self) -> None:
        """Draw as the authors' code: normal with the variance 2 / fan_out, the head uniform by its classes."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight[:, 0].numel() / module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
            elif isinstance(module, nn.Linear):
                bound = 1 / math.sqrt(module.out_features)
                nn.init.uniform_(module.weight, -bound, bound)
                nn.init.zeros_(module.bias)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, in the size that the network was scaled for."""
        size = self.config.image_size
        return {"image": torch.randn(batch_size, self.config.in_channels, size, size)}


def v1(width: float, depth: float, image_size: int, dropout: float, **others: Any) -> EfficientNetConfig:
    """B0 scaled: the coefficients w and d, the resolution and the dropout, as in the authors' table."""
    return EfficientNetConfig(width_factor=width, depth_factor=depth, image_size=image_size, dropout=dropout, **others)


def v2(channels: tuple[int, ...], depths: tuple[int, ...], image_size: int, **others: Any) -> EfficientNetConfig:
    """EfficientNetV2, whose sizes differ in channels and depths alone; S ends after six stages."""
    table = {
        "blocks": ("single", "fused", "fused", "mbconv", "mbconv", "mbconv", "mbconv"),
        "expansions": (1, 4, 4, 4, 6, 6, 6),
        "kernel_sizes": (3, 3, 3, 3, 3, 3, 3),
        "strides": (1, 2, 2, 2, 1, 2, 1),
    }
    fields: dict[str, Any] = {name: column[: len(channels)] for name, column in table.items()}
    fields |= {"stem_channels": channels[0], "image_size": image_size, "norm_eps": 1e-3} | others
    return EfficientNetConfig(channels=channels, depths=depths, **fields)


V2_S = (24, 48, 64, 128, 160, 256), (2, 4, 4, 6, 9, 15)
V2_M = (24, 48, 80, 160, 176, 304, 512), (3, 5, 5, 7, 14, 18, 5)
V2_L = (32, 64, 96, 192, 224, 384, 640), (4, 7, 7, 10, 19, 25, 7)
V2_RW_S = (24, 48, 64, 128, 160, 272), (2, 4, 4, 6, 9, 15)

ARCHITECTURE = Architecture(
    name="efficientnet",
    model=EfficientNet,
    config=EfficientNetConfig,
    task="image-classification",
    paper="https://arxiv.org/abs/1905.11946",
    tiny=EfficientNetConfig(
        blocks=("single", "fused", "mbconv"),
        expansions=(1, 2, 2),
        kernel_sizes=(3, 3, 5),
        strides=(1, 2, 1),
        channels=(8, 16, 16),
        depths=(2, 1, 2),
        stem_channels=8,
        last_channels=24,
        image_size=16,
        num_classes=5,
    ),
    presets={
        "efficientnet_b0": v1(1.0, 1.0, 224, 0.2),
        "efficientnet_b1": v1(1.0, 1.1, 240, 0.2),
        "efficientnet_b2": v1(1.1, 1.2, 260, 0.3),
        "efficientnet_b3": v1(1.2, 1.4, 300, 0.3),
        "efficientnet_b4": v1(1.4, 1.8, 380, 0.4),
        "efficientnet_b5": v1(1.6, 2.2, 456, 0.4, norm_eps=1e-3, norm_momentum=0.01),
        "efficientnet_b6": v1(1.8, 2.6, 528, 0.5, norm_eps=1e-3, norm_momentum=0.01),
        "efficientnet_b7": v1(2.0, 3.1, 600, 0.5, norm_eps=1e-3, norm_momentum=0.01),
        "tf_efficientnet_b0": v1(1.0, 1.0, 224, 0.2, norm_eps=1e-3, padding="same"),
        "efficientnet_v2_s": v2(*V2_S, image_size=384, dropout=0.2),
        "efficientnet_v2_m": v2(*V2_M, image_size=480, dropout=0.3),
        "efficientnet_v2_l": v2(*V2_L, image_size=480, dropout=0.4),
        "tf_efficientnetv2_s": v2(*V2_S, image_size=300, padding="same"),
        # Drawn from the paper's figure before the authors' code appeared.
        "efficientnetv2_rw_s": v2(
            *V2_RW_S, image_size=288, blocks=(*("fused",) * 3, *("mbconv",) * 3), last_channels=1792, norm_eps=1e-5
        ),
    },
    params={
        "efficientnet": 5_288_548,
        "efficientnet_b0": 5_288_548,
        "efficientnet_b1": 7_794_184,
        "efficientnet_b2": 9_109_994,
        "efficientnet_b3": 12_233_232,
        "efficientnet_b4": 19_341_616,
        "efficientnet_b5": 30_389_784,
        "efficientnet_b6": 43_040_704,
        "efficientnet_b7": 66_347_960,
        "tf_efficientnet_b0": 5_288_548,
        "efficientnet_v2_s": 21_458_488,
        "efficientnet_v2_m": 54_139_356,
        "efficientnet_v2_l": 118_515_272,
        "tf_efficientnetv2_s": 21_458_488,
        "efficientnetv2_rw_s": 23_941_296,
    },
    aliases={},
)
