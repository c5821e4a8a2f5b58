"""ResNet's names in torchvision's and timm's checkpoints, which are the same; torchvision has fewer variants."""

from zoo.architectures.resnet import ResNetConfig
from zoo.convert.keymap import Layout, require


def torchvision(config: ResNetConfig) -> Layout:
    """The paper's network and those with groups or more width."""
    require("torchvision", config, stem="imagenet", shortcut="projection", squeeze=0)
    return timm(config)


def timm(config: ResNetConfig) -> Layout:
    """`layer1.0.conv1` is the first convolution of the first block of the first stage."""
    require("timm", config, stem={"imagenet", "deep"}, shortcut={"projection", "average"})
    renamed = {"stem.norm": "bn1", "head": "fc"} | _stem(config.stem)
    first = {"projection": 0, "average": 1}[config.shortcut]  # an average comes before the convolution
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            ours, theirs = f"stages.{stage}.{block}", f"layer{stage + 1}.{block}"
            renamed |= {
                f"{ours}.shortcut.conv": f"{theirs}.downsample.{first}",
                f"{ours}.shortcut.norm": f"{theirs}.downsample.{first + 1}",
                f"{ours}.residual.squeeze.reduce": f"{theirs}.se.fc1",
                f"{ours}.residual.squeeze.expand": f"{theirs}.se.fc2",
            }
            for layer in (1, 2, 3):
                renamed |= {
                    f"{ours}.residual.conv{layer}": f"{theirs}.conv{layer}",
                    f"{ours}.residual.norm{layer}": f"{theirs}.bn{layer}",
                }
    return Layout(renamed=renamed)


def _stem(kind: str) -> dict[str, str]:
    """The deep stem is one sequence, but for its last norm."""
    if kind != "deep":
        return {"stem.conv": "conv1"}
    return {
        "stem.conv1": "conv1.0",
        "stem.norm1": "conv1.1",
        "stem.conv2": "conv1.3",
        "stem.norm2": "conv1.4",
        "stem.conv": "conv1.6",
    }


FORMATS = {"torchvision": torchvision, "timm": timm}

NAMES = {
    "torchvision": (
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnext50_32x4d", "resnext101_32x8d",
        "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2",
    ),
    "timm": (
        "resnet18", "resnet26", "resnet34", "resnet50", "resnet101", "resnet152", "resnet26d", "resnet50d",
        "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2", "seresnet50",
    ),
}  # fmt: skip
"""The presets that the libraries have, under the same names."""
