"""ConvNeXt's names in torchvision's and timm's checkpoints, and in the authors' own."""

from zoo.architectures.convnext import ConvNeXtConfig
from zoo.convert.keymap import Layout, require


def torchvision(config: ConvNeXtConfig) -> Layout:
    """`features` is the stem, then stages and what stands between them by turns: a stage has an odd number."""
    require("torchvision", config, norm_eps=1e-6, patch_size=4, kernel_size=7)
    renamed = {
        "stem.conv": "features.0.0",
        "stem.norm": "features.0.1",
        "norm": "classifier.0",
        "head": "classifier.2",
    }
    shaped = {}
    for stage, depth in enumerate(config.depths):
        for layer, theirs in (("norm", 0), ("conv", 1)):
            renamed[f"stages.{stage}.downsample.{layer}"] = f"features.{2 * stage}.{theirs}"
        for block in range(depth):
            ours, theirs = f"stages.{stage}.{block}", f"features.{2 * stage + 1}.{block}"
            renamed[f"{ours}.scale"] = f"{theirs}.layer_scale"
            shaped[f"{ours}.scale"] = (config.width * 2**stage, 1, 1)
            for layer, position in {"conv": 0, "norm": 2, "mlp.expand": 3, "mlp.project": 5}.items():
                renamed[f"{ours}.{layer}"] = f"{theirs}.block.{position}"
    return Layout(renamed=renamed, shaped=shaped)


def timm(config: ConvNeXtConfig) -> Layout:
    """As timm saves it; the authors' checkpoints, which it reads too, have other names for most of it."""
    require("timm", config, patch_size={1, 4})  # after others it keeps to a stride of 32 in all, or begins with 2
    renamed = {"stem.conv": "stem.0", "stem.norm": "stem.1", "norm": "head.norm", "head": "head.fc"}
    for stage, depth in enumerate(config.depths):
        for layer, theirs in (("norm", 0), ("conv", 1)):
            renamed[f"stages.{stage}.downsample.{layer}"] = f"stages.{stage}.downsample.{theirs}"
        for block in range(depth):
            ours, theirs = f"stages.{stage}.{block}", f"stages.{stage}.blocks.{block}"
            renamed |= {
                f"{ours}.conv": f"{theirs}.conv_dw",
                f"{ours}.norm": f"{theirs}.norm",
                f"{ours}.mlp.expand": f"{theirs}.mlp.fc1",
                f"{ours}.mlp.project": f"{theirs}.mlp.fc2",
                f"{ours}.scale": f"{theirs}.gamma",
            }
    return Layout(
        renamed=renamed,
        respelt=(
            (r"^downsample_layers\.0\.", "stem."),
            (r"^downsample_layers\.(\d+)\.", r"stages.\1.downsample."),
            (r"^stages\.(\d+)\.(\d+)\.", r"stages.\1.blocks.\2."),
            (r"\.dwconv\.", ".conv_dw."),
            (r"\.pwconv([12])\.", r".mlp.fc\1."),
            (r"^norm\.", "head.norm."),
            (r"^head\.(weight|bias)$", r"head.fc.\1"),
        ),
    )


FORMATS = {"torchvision": torchvision, "timm": timm}

ALL = ("convnext_tiny", "convnext_small", "convnext_base", "convnext_large")
NAMES = {"torchvision": ALL, "timm": ALL}
"""The presets that the libraries have, under the same names."""
