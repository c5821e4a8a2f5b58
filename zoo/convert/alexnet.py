"""AlexNet's names in torchvision's checkpoints."""

from zoo.architectures.alexnet import AlexNetConfig
from zoo.convert.keymap import Layout


def layout(config: AlexNetConfig) -> Layout:  # noqa: ARG001 - every config has the same names
    """Positions in two sequences, rectifiers, poolings and dropouts counted."""
    return Layout(
        renamed={
            "stem.0.conv": "features.0",
            "stages.0.0.conv": "features.3",
            "stages.1.0.conv": "features.6",
            "stages.1.1.conv": "features.8",
            "stages.1.2.conv": "features.10",
            "hidden.0.linear": "classifier.1",
            "hidden.1.linear": "classifier.4",
            "head": "classifier.6",
        },
        # PyTorch's ImageNet example trains with the features alone in DataParallel.
        respelt=((r"^features\.module\.", "features."),),
    )


FORMATS = {"torchvision": layout}

NAMES = {"torchvision": ("alexnet",)}
"""The presets that the libraries have, under the same names."""
