"""DenseNet's names in torchvision's and timm's checkpoints, which are the same."""

from functools import partial

from zoo.architectures.densenet import DenseNetConfig
from zoo.convert.keymap import Layout, require

RESPELT = ((r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2."),)
"""torchvision's files are older than the rule that a module's name has no dot, and say `norm.1`."""


def layout(library: str, config: DenseNetConfig) -> Layout:
    """`features.denseblock1.denselayer1.conv1` is the first dense layer's 1x1 convolution."""
    require(library, config, stem="imagenet")
    renamed = {
        "stem.conv": "features.conv0",
        "stem.norm": "features.norm0",
        f"stages.{len(config.depths) - 1}.norm": "features.norm5",
        "head": "classifier",
    }
    for stage, depth in enumerate(config.depths):
        renamed[f"stages.{stage}.transition"] = f"features.transition{stage}"
        for layer in range(depth):
            ours = f"stages.{stage}.block.layers.{layer}"
            theirs = f"features.denseblock{stage + 1}.denselayer{layer + 1}"
            for part, number in (("bottleneck", 1), ("growth", 2)):
                renamed |= {
                    f"{ours}.{part}.norm": f"{theirs}.norm{number}",
                    f"{ours}.{part}.conv": f"{theirs}.conv{number}",
                }
    return Layout(renamed=renamed, respelt=RESPELT)


FORMATS = {library: partial(layout, library) for library in ("torchvision", "timm")}

ALL = ("densenet121", "densenet161", "densenet169", "densenet201")
NAMES = {"torchvision": ALL, "timm": ALL}
"""The presets that the libraries have, under the same names."""
