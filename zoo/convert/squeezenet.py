"""SqueezeNet's names in torchvision's checkpoints."""

from zoo.architectures.squeezenet import SqueezeNetConfig
from zoo.convert.keymap import Layout


def layout(config: SqueezeNetConfig) -> Layout:
    """`features` is one sequence: the stem's two layers, then the stages' poolings and fire modules."""
    renamed, position = {"stem.conv": "features.0", "head": "classifier.1"}, 2
    for stage, depth in enumerate(config.depths):
        for layer in range(1, depth + 1):
            ours, theirs = f"stages.{stage}.{layer}", f"features.{position + layer}"
            renamed |= {
                f"{ours}.squeeze": f"{theirs}.squeeze",
                f"{ours}.expand_1x1": f"{theirs}.expand1x1",
                f"{ours}.expand_3x3": f"{theirs}.expand3x3",
            }
        position += 1 + depth
    return Layout(renamed=renamed)


FORMATS = {"torchvision": layout}

NAMES = {"torchvision": ("squeezenet1_0", "squeezenet1_1")}
"""The presets that the libraries have, under the same names."""
