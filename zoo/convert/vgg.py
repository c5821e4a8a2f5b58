"""VGG's names in torchvision's and timm's checkpoints, which differ in the full connections."""

from zoo.architectures.vgg import MAP_SIZE, VGGConfig
from zoo.convert.keymap import Layout


def convolutions(config: VGGConfig) -> dict[str, str]:
    """`features` is one sequence of convolutions, norms, rectifiers and poolings."""
    renamed, position = {}, 0
    for stage, depth in enumerate(config.depths):
        prefix = "stem" if stage == 0 else f"stages.{stage - 1}"
        for layer in range(depth):
            renamed[f"{prefix}.{layer}.conv"] = f"features.{position}"
            if config.batch_norm:
                renamed[f"{prefix}.{layer}.norm"] = f"features.{position + 1}"
            position += 3 if config.batch_norm else 2
        position += 1
    return renamed


def torchvision(config: VGGConfig) -> Layout:
    """`classifier` is a sequence too, rectifiers and dropouts counted."""
    linears = {"hidden.0.linear": "classifier.0", "hidden.1.linear": "classifier.3", "head": "classifier.6"}
    # PyTorch's ImageNet example trains with the features alone in DataParallel.
    return Layout(renamed=convolutions(config) | linears, respelt=((r"^features\.module\.", "features."),))


def timm(config: VGGConfig) -> Layout:
    """The hidden layers are convolutions, of which the first covers the whole map."""
    linears = {"hidden.0.linear": "pre_logits.fc1", "hidden.1.linear": "pre_logits.fc2", "head": "head.fc"}
    width = config.hidden_width
    return Layout(
        renamed=convolutions(config) | linears,
        shaped={
            "hidden.0.linear.weight": (width, config.widths[-1], MAP_SIZE, MAP_SIZE),
            "hidden.1.linear.weight": (width, width, 1, 1),
        },
    )


FORMATS = {"torchvision": torchvision, "timm": timm}

ALL = tuple(f"vgg{layers}{norm}" for layers in (11, 13, 16, 19) for norm in ("", "_bn"))
NAMES = {"torchvision": ALL, "timm": ALL}
"""The presets that the libraries have, under the same names."""
