"""GoogLeNet's names in torchvision's checkpoints."""

from zoo.architectures.googlenet import AUX_STAGES, INCEPTION, GoogLeNetConfig
from zoo.convert.keymap import Layout, require

BRANCHES = {
    "conv1x1": "branch1",
    "conv3x3.0": "branch2.0",
    "conv3x3.1": "branch2.1",
    "conv5x5.0": "branch3.0",
    "conv5x5.1": "branch3.1",
    "pool.1": "branch4.1",
}


def layout(config: GoogLeNetConfig) -> Layout:
    """`inception3a.branch2.1.bn` is the norm after the 3x3 convolution of the first inception module."""
    require("torchvision", config, stem="imagenet")
    units = {"stem": "conv1", "stages.0.reduce": "conv2", "stages.0.conv": "conv3"}
    for stage, names in enumerate(INCEPTION, start=1):
        for name in names:
            units |= {f"stages.{stage}.{name}.{ours}": f"{name}.{theirs}" for ours, theirs in BRANCHES.items()}
    renamed = {"head": "fc"}
    for i in range(len(AUX_STAGES)):
        units[f"aux_heads.{i}.conv"] = f"aux{i + 1}.conv"
        renamed |= {f"aux_heads.{i}.hidden": f"aux{i + 1}.fc1", f"aux_heads.{i}.head": f"aux{i + 1}.fc2"}
    for ours, theirs in units.items():
        renamed |= {f"{ours}.conv": f"{theirs}.conv", f"{ours}.norm": f"{theirs}.bn"}
    return Layout(renamed=renamed, unused=() if config.aux_heads else (r"aux[12]\..*",))


FORMATS = {"torchvision": layout}

NAMES = {"torchvision": ("googlenet",)}
"""The presets that the libraries have, under the same names."""
