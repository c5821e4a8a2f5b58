"""The peer libraries' networks that ours must equal, one line for each pair of preset and library."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import nn

from zoo.convert import peers
from zoo.registry import ARCHITECTURES


@dataclass(frozen=True)
class Peer:
    """A network of another library and what ours is called."""

    preset: str
    format: str
    """The library."""
    name: str
    """What it calls this network."""
    options: dict[str, Any] = field(default_factory=dict)
    """What ours needs besides the preset."""
    theirs: dict[str, Any] = field(default_factory=dict)
    """What theirs needs."""
    sizes: tuple[tuple[int, ...], ...] = ((96, 96), (97, 75))
    """Heights and widths (for videos with the frames before them) to compare outputs at."""
    heads: tuple[str, ...] = ("fc",)
    """The last parts of the names of its heads."""

    @property
    def id(self) -> str:
        """For the test's name."""
        return f"{self.preset}-{self.format}"

    def build(self) -> nn.Module:
        """The peer's network; within `torch.device("meta")` it takes no memory."""
        return LIBRARIES[self.format](self.name, self.theirs)


def torchvision(name: str, options: dict[str, Any]) -> nn.Module:
    import torchvision.models as models

    return models.get_model(name, **options)


def timm(name: str, options: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, **options)


LIBRARIES: dict[str, Callable[[str, dict[str, Any]], nn.Module]] = {"torchvision": torchvision, "timm": timm}

EQUAL = [
    Peer("resnet18", "torchvision", "resnet18"),
    Peer("resnet50", "timm", "resnet50"),
    Peer("resnext50_32x4d", "torchvision", "resnext50_32x4d"),
    Peer("resnet26d", "timm", "resnet26d"),
    Peer("seresnet50", "timm", "seresnet50"),
    Peer(
        "resnet26", "timm", "resnet26", {"stem": "deep", "shortcut": "average", "squeeze": 16},
        {"stem_type": "deep", "stem_width": 32, "avg_down": True, "block_args": {"attn_layer": "se"}},
    ),
    Peer("alexnet", "torchvision", "alexnet", sizes=((224, 224), (131, 97))),
    Peer("vgg11", "torchvision", "vgg11", sizes=((96, 96), (75, 289))),
    Peer("vgg11_bn", "timm", "vgg11_bn"),
    Peer("squeezenet1_0", "torchvision", "squeezenet1_0"),
    Peer("squeezenet1_1", "torchvision", "squeezenet1_1"),
    Peer("efficientnet_b0", "torchvision", "efficientnet_b0"),
    Peer("tf_efficientnet_b0", "timm", "tf_efficientnet_b0"),
    Peer(
        "efficientnet_b0", "torchvision", "efficientnet_b0", {"norm_eps": 1e-2},
        {"norm_layer": partial(nn.BatchNorm2d, eps=1e-2)},
    ),
    Peer(
        "efficientnet_b0", "timm", "efficientnet_b0", {"padding": "same", "norm_eps": 1e-2},
        {"pad_type": "same", "bn_eps": 1e-2},
    ),
    Peer("efficientnet_v2_s", "torchvision", "efficientnet_v2_s", sizes=((64, 64), (97, 75))),
    Peer("efficientnetv2_rw_s", "timm", "efficientnetv2_rw_s", sizes=((64, 64), (97, 75))),
    Peer("convnext_tiny", "torchvision", "convnext_tiny"),
    Peer("convnext_tiny", "timm", "convnext_tiny"),
    Peer(
        "convnext_tiny", "timm", "convnext_tiny", {"norm_eps": 1e-2, "patch_size": 1, "kernel_size": 3},
        {"norm_eps": 1e-2, "patch_size": 1, "kernel_sizes": 3}, sizes=((16, 16), (24, 16)),
    ),
    Peer("r3d_18", "torchvision", "r3d_18", sizes=((8, 32, 32), (5, 49, 37))),
    Peer("mc3_18", "torchvision", "mc3_18", sizes=((4, 32, 32), (5, 49, 37))),
    Peer("r2plus1d_18", "torchvision", "r2plus1d_18", sizes=((8, 32, 32), (5, 49, 37))),
    Peer("vit_ti_16", "timm", "vit_tiny_patch16_224", theirs={"dynamic_img_size": True}, sizes=((224, 224), (96, 160))),
    Peer("vit_b_32", "torchvision", "vit_b_32", sizes=((224, 224),)),
    Peer(
        "vit_b_32", "torchvision", "vit_b_32", {"norm_eps": 1e-2, "image_size": 64},
        {"norm_layer": partial(nn.LayerNorm, eps=1e-2), "image_size": 64}, sizes=((64, 64),),
    ),
    Peer(
        "vit_ti_16", "timm", "vit_tiny_patch16_224", {"norm_eps": 1e-2, "num_heads": 2, "image_size": 64},
        {"norm_layer": partial(nn.LayerNorm, eps=1e-2), "num_heads": 2, "img_size": 64}, sizes=((64, 64),),
    ),
    Peer(
        "deit_ti_16_distilled", "timm", "deit_tiny_distilled_patch16_224", {"image_size": 64}, {"img_size": 64},
        sizes=((64, 64),),
    ),
    Peer("deit3_s_16", "timm", "deit3_small_patch16_224", {"image_size": 64}, {"img_size": 64}, sizes=((64, 64),)),
    Peer(
        "vit_ti_16", "timm", "vit_tiny_patch16_224", {"image_size": 64, "pool": "mean"},
        {"img_size": 64, "global_pool": "avg", "dynamic_img_size": True}, sizes=((64, 64), (48, 80)),
    ),
    Peer("densenet121", "torchvision", "densenet121", sizes=((64, 64), (75, 97))),
    Peer("densenet121", "timm", "densenet121", sizes=((64, 64), (75, 97))),
    Peer(
        "googlenet", "torchvision", "googlenet", {"aux_heads": True}, {"init_weights": False},
        sizes=((64, 64), (75, 97)),
    ),
    Peer(
        "inception_v3", "torchvision", "inception_v3", {}, {"aux_logits": False, "init_weights": False},
        sizes=((112, 112), (109, 141)),
    ),
    Peer("inception_v3", "timm", "inception_v3", sizes=((112, 112), (109, 141))),
]  # fmt: skip
"""Compared in outputs, gradients and keys; one or two of each architecture."""

FOREIGN = [
    ("resnet50d", {}, "torchvision", "timm"),
    ("seresnet50", {}, "torchvision", "timm"),
    ("resnet50", {"stem": "small"}, "torchvision", "zoo"),
    ("resnet20", {}, "timm", "zoo"),
    ("tf_efficientnet_b0", {}, "torchvision", "timm"),
    ("efficientnetv2_rw_s", {}, "torchvision", "timm"),
    ("efficientnet_b5", {"norm_eps": 1e-5}, "torchvision", "timm"),
    ("efficientnet_b0", {"strides": (1, 1, 2, 2, 1, 2, 1)}, "timm", "zoo"),
    ("convnext_tiny", {"norm_eps": 1e-5}, "torchvision", "timm"),
    ("convnext_tiny", {"kernel_size": 3}, "torchvision", "timm"),
    ("convnext_tiny", {"patch_size": 2}, "timm", "zoo"),
    ("densenet121", {"stem": "small"}, "timm", "zoo"),
    ("googlenet", {"stem": "small"}, "torchvision", "zoo"),
    ("inception_v3", {"stem": "small"}, "timm", "zoo"),
    ("vit_b_16", {"pool": "mean"}, "torchvision", "timm"),
    ("vit_b_16", {"num_heads": 6}, "torchvision", "timm"),
    ("deit3_s_16", {}, "torchvision", "timm"),
    ("deit_ti_16_distilled", {}, "torchvision", "timm"),
    ("deit_ti_16_distilled", {"pool": "mean"}, "timm", "zoo"),
]
"""Preset and options, a library that cannot build such a network, and the first format that can."""

OWN = {  # what the library's network needs to be the preset
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3-torchvision": {"aux_logits": False, "init_weights": False},
    "inception_v3-timm": {"aux_logits": False},
    "mae": {"num_classes": 0},
    "timm": {"num_classes": 1000},
}


def options(preset: str, format: str) -> dict[str, Any]:
    known = (f"{preset}-{format}", preset, preset.split("_")[0], format)
    return next((OWN[name] for name in known if name in OWN), {})


COUNTED = [
    *(
        Peer(preset, format, name, theirs=options(preset, format))
        for record in ARCHITECTURES.records().values() for format in ("torchvision", "timm")
        for preset, name in peers(record.name, format).items()
    ),
    *(
        Peer(name, "torchvision", name, {"aux_heads": True}, {"aux_logits": True, "init_weights": False})
        for name in ("googlenet", "inception_v3")
    ),
    Peer("inception_v3", "timm", "inception_v3", {"aux_heads": True}, {"aux_logits": True}),
]  # fmt: skip
"""Compared in names and shapes, on the meta device; every preset that a peer has."""

BARE = [
    Peer("resnet18", "torchvision", "resnet18"),
    Peer("vit_b_32", "torchvision", "vit_b_32", {"image_size": 64}, {"image_size": 64}, ((64, 64),), ("head",)),
    Peer(
        "deit_ti_16_distilled", "timm", "deit_tiny_distilled_patch16_224", {"image_size": 64}, {"img_size": 64},
        ((64, 64),), ("head", "head_dist"),
    ),
    Peer("convnext_tiny", "timm", "convnext_tiny"),
    Peer("googlenet", "torchvision", "googlenet", {}, {"init_weights": False}),
    Peer("r3d_18", "torchvision", "r3d_18", sizes=((4, 32, 32),)),
]  # fmt: skip
"""Compared without their heads, which their checkpoints have."""

HEADLESS = [
    Peer(preset, "timm", name, theirs={"num_classes": 0, **({"aux_logits": False} if "inception" in preset else {})})
    for preset, name in (
        ("resnet18", "resnet18"), ("vgg11", "vgg11"), ("densenet121", "densenet121"),
        ("vit_b_16", "vit_base_patch16_224"),
        ("efficientnet_b0", "efficientnet_b0"), ("convnext_tiny", "convnext_tiny"), ("inception_v3", "inception_v3"),
    )
]  # fmt: skip
"""Compared in the names that they write."""
