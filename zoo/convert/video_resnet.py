"""The names of R3D, MC3 and R(2+1)D in torchvision's checkpoints."""

from zoo.architectures.video_resnet import VideoResNetConfig
from zoo.convert.keymap import Layout

SPLIT = {"space": 0, "norm": 1, "time": 3}
"""Our names and torchvision's numbers for the parts of a split convolution, which it puts flat into the stem."""


def torchvision(config: VideoResNetConfig) -> Layout:
    """`layer1.0.conv1.0` is the first convolution of the first block of the first stage."""
    stem_norm = 4 if config.convolutions[0] == "2plus1d" else 1
    renamed = {"stem.conv": "stem.0", "stem.norm": f"stem.{stem_norm}", "head": "fc"}
    renamed |= {f"stem.conv.{part}": f"stem.{number}" for part, number in SPLIT.items()}
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            ours, theirs = f"stages.{stage}.{block}", f"layer{stage + 1}.{block}"
            renamed |= {
                f"{ours}.shortcut.conv": f"{theirs}.downsample.0",
                f"{ours}.shortcut.norm": f"{theirs}.downsample.1",
            }
            for layer in (1, 2):
                renamed |= {
                    f"{ours}.residual.conv{layer}": f"{theirs}.conv{layer}.0",
                    f"{ours}.residual.norm{layer}": f"{theirs}.conv{layer}.1",
                }
                for part, number in SPLIT.items():
                    renamed[f"{ours}.residual.conv{layer}.{part}"] = f"{theirs}.conv{layer}.0.{number}"
    return Layout(renamed=renamed)


FORMATS = {"torchvision": torchvision}

NAMES = {"torchvision": ("r3d_18", "mc3_18", "r2plus1d_18")}
"""The presets that the libraries have, under the same names."""
