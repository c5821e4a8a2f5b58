"""EfficientNet's names in torchvision's and timm's checkpoints."""

import math
from collections.abc import Iterator, Mapping

from zoo.architectures.efficientnet import EfficientNetConfig
from zoo.convert.keymap import Layout, require

EXCITATION = {"reduce": "se.conv_reduce", "expand": "se.conv_expand"}
LAYERS = {
    "single": {"conv": {"conv": "conv", "norm": "bn1"}},
    "fused": {
        "expand": {"conv": "conv_exp", "norm": "bn1"},
        "project": {"conv": "conv_pwl", "norm": "bn2"},
    },
    "mbconv": {
        "expand": {"conv": "conv_pw", "norm": "bn1"},
        "depthwise": {"conv": "conv_dw", "norm": "bn2"},
        "squeeze_excitation": EXCITATION,
        "project": {"conv": "conv_pwl", "norm": "bn3"},
    },
    "mbconv without expansion": {
        "depthwise": {"conv": "conv_dw", "norm": "bn1"},
        "squeeze_excitation": EXCITATION,
        "project": {"conv": "conv_pw", "norm": "bn2"},
    },
}
"""The layers of each kind of block in their order, and what timm calls their parts."""
NUMBERED = {"conv": "0", "norm": "1", "reduce": "fc1", "expand": "fc2"}
"""What torchvision calls the parts of any layer."""
STRIDES = (1, 2, 2, 2, 1, 2, 1)
"""Of every network's stages."""

LARGEST_WITH_ANY_EPS = 1.4
"""The width of B4; up to there torchvision takes the norm as an argument."""


def blocks(config: EfficientNetConfig) -> Iterator[tuple[int, int, Mapping[str, Mapping[str, str]]]]:
    """Of every block the stage, the position in it, and the layers."""
    columns = zip(config.blocks, config.expansions, config.depths, strict=True)
    for stage, (kind, expansion, depth) in enumerate(columns):
        bare = " without expansion" if kind == "mbconv" and expansion == 1 else ""
        for position in range(math.ceil(depth * config.depth_factor)):
            yield stage, position, LAYERS[kind + bare]


def torchvision(config: EfficientNetConfig) -> Layout:
    """Numbers throughout: `features` is the stem, the stages and the last convolution."""
    require("torchvision", config, padding="symmetric", strides=STRIDES[: len(config.blocks)])
    if set(config.blocks) != {"mbconv"} or config.width_factor > LARGEST_WITH_ANY_EPS:
        require("torchvision", config, norm_eps=1e-3)
    last = len(config.blocks) + 1
    renamed = {
        "stem.conv": "features.0.0",
        "stem.norm": "features.0.1",
        "last.conv": f"features.{last}.0",
        "last.norm": f"features.{last}.1",
        "head": "classifier.1",
    }
    for stage, position, layers in blocks(config):
        ours, theirs = f"stages.{stage}.{position}.residual", f"features.{stage + 1}.{position}.block"
        for number, (layer, parts) in enumerate(layers.items()):
            for part in parts:
                renamed[f"{ours}.{layer}.{part}"] = f"{theirs}.{number}.{NUMBERED[part]}"
    return Layout(renamed=renamed)


def timm(config: EfficientNetConfig) -> Layout:
    """Convolutions are called by their purpose, norms numbered within a block."""
    require("timm", config, strides=STRIDES[: len(config.blocks)])
    renamed = {
        "stem.conv": "conv_stem",
        "stem.norm": "bn1",
        "last.conv": "conv_head",
        "last.norm": "bn2",
        "head": "classifier",
    }
    for stage, position, layers in blocks(config):
        ours, theirs = f"stages.{stage}.{position}.residual", f"blocks.{stage}.{position}"
        for layer, parts in layers.items():
            for part, name in parts.items():
                renamed[f"{ours}.{layer}.{part}"] = f"{theirs}.{name}"
    return Layout(renamed=renamed)


FORMATS = {"torchvision": torchvision, "timm": timm}

NAMES = {
    "torchvision": (
        *(f"efficientnet_b{size}" for size in range(8)),
        *(f"efficientnet_v2_{size}" for size in "sml"),
    ),
    "timm": {
        **{f"efficientnet_b{size}": f"efficientnet_b{size}" for size in range(8)},
        **{f"efficientnet_v2_{size}": f"efficientnetv2_{size}" for size in "sml"},
        **{name: name for name in ("tf_efficientnet_b0", "tf_efficientnetv2_s", "efficientnetv2_rw_s")},
    },
}
"""The presets that the libraries have, and their names where they differ."""
