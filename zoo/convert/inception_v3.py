"""Inception v3's names in torchvision's and timm's checkpoints, which are the same."""

from functools import partial

from zoo.architectures.inception_v3 import MODULES, InceptionV3Config
from zoo.convert.keymap import Layout, require

STEM = {
    "stem.0": "Conv2d_1a_3x3",
    "stem.1": "Conv2d_2a_3x3",
    "stem.2": "Conv2d_2b_3x3",
    "stages.0.reduce": "Conv2d_3b_1x1",
    "stages.0.conv": "Conv2d_4a_3x3",
}
BRANCHES = {
    "conv1x1": "branch1x1",
    "conv3x3": "branch3x3",
    "conv5x5": "branch5x5",
    "conv7x7": "branch7x7",
    "double3x3": "branch3x3dbl",
    "double7x7": "branch7x7dbl",
}
STEPS = 5
"""Convolutions of the longest branch."""


def layout(library: str, config: InceptionV3Config) -> Layout:
    """`Mixed_5b.branch5x5_2.bn` is the norm after the first module's 5x5 convolution."""
    require(library, config, stem="imagenet")
    units = dict(STEM)
    for stage, names in enumerate(MODULES, start=1):
        for name in names:
            block, theirs = f"stages.{stage}.{name}", name.capitalize()
            units[f"{block}.pool.1"] = f"{theirs}.branch_pool"
            for ours, branch in BRANCHES.items():
                branch = "branch7x7x3" if (name, ours) == ("mixed_7a", "conv7x7") else branch
                units[f"{block}.{ours}"] = f"{theirs}.{branch}"
                for step in range(STEPS):
                    units |= {
                        f"{block}.{ours}.{step}": f"{theirs}.{branch}_{step + 1}",
                        f"{block}.{ours}.{step}.row": f"{theirs}.{branch}_{step + 1}a",
                        f"{block}.{ours}.{step}.column": f"{theirs}.{branch}_{step + 1}b",
                    }
    units |= {"aux_heads.0.reduce": "AuxLogits.conv0", "aux_heads.0.conv": "AuxLogits.conv1"}
    renamed = {"head": "fc", "aux_heads.0.head": "AuxLogits.fc"}
    for ours, theirs in units.items():
        renamed |= {f"{ours}.conv": f"{theirs}.conv", f"{ours}.norm": f"{theirs}.bn"}
    return Layout(renamed=renamed, unused=() if config.aux_heads else (r"AuxLogits\..*",))


FORMATS = {library: partial(layout, library) for library in ("torchvision", "timm")}

NAMES = {"torchvision": ("inception_v3",), "timm": ("inception_v3",)}
"""The presets that the libraries have, under the same names."""
