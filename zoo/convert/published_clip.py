"""Cards of CLIP's public weights, made from the metadata that open_clip carries.

All are in open_clip's layout, as safetensors. A card is written only for weights that fit: open_clip's network for them
is built without memory, and must have our preset's tensors. No commit and sha256 is given, for none is certain.
"""

import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from zoo.config import replace
from zoo.convert import foreign_tensors
from zoo.registry import Architecture, Weights
from zoo.weights import TOKENIZER
from zoo.weights.fit import on_meta

FILE = "open_clip_model.safetensors"
VOCABULARY = "openai/clip-vit-base-patch32"
"""The repository whose tokenizer.json all of them were trained with."""
LICENSE = "mit"
"""Of OpenAI's, LAION's and DataComp's weights, as their authors say; it permits commercial use."""


class Published(NamedTuple):
    """What open_clip calls the network and the weights, and what its tables measure on ImageNet, without training."""

    model: str
    tag: str
    accuracy: float | None = None


WEIGHTS: Mapping[str, Published] = {
    "clip_vit_b_32.openai": Published("ViT-B-32-quickgelu", "openai", 0.633),
    "clip_vit_b_32.laion2b": Published("ViT-B-32", "laion2b_s34b_b79k", 0.666),
    "clip_vit_b_32.datacomp": Published("ViT-B-32", "datacomp_xl_s13b_b90k", 0.692),
    "clip_vit_b_16.openai": Published("ViT-B-16-quickgelu", "openai", 0.683),
    "clip_vit_b_16.laion2b": Published("ViT-B-16", "laion2b_s34b_b88k", 0.702),
    "clip_vit_b_16.datacomp": Published("ViT-B-16", "datacomp_xl_s13b_b90k", 0.735),
    "clip_vit_l_14.openai": Published("ViT-L-14-quickgelu", "openai", 0.755),
    "clip_vit_l_14.laion2b": Published("ViT-L-14", "laion2b_s32b_b82k", 0.753),
    "clip_vit_l_14.datacomp": Published("ViT-L-14", "datacomp_xl_s13b_b90k", 0.792),
    "clip_vit_l_14_336.openai": Published("ViT-L-14-336-quickgelu", "openai"),
    "clip_resnet50.openai": Published("RN50-quickgelu", "openai", 0.598),
    "clip_resnet101.openai": Published("RN101-quickgelu", "openai", 0.623),
}
"""`preset.tag` -> what it is there; the first of a preset is its default."""


def published_clip(architecture: Architecture) -> Iterator[Weights | str]:
    """The cards of an architecture, which others than CLIP have none of; where weights do not fit, a sentence why."""
    decided: set[str] = set()
    for name, where in WEIGHTS.items():
        preset, _, tag = name.partition(".")
        if preset not in architecture.names():
            continue
        found = _card(architecture, preset, tag, where)
        if isinstance(found, str):
            yield f"{name}: {found}"
            continue
        yield replace(found, {"default": preset not in decided}, name)
        decided.add(preset)


def _card(architecture: Architecture, preset: str, tag: str, where: Published) -> Weights | str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its imports
        import open_clip
    facts: Any = open_clip.get_pretrained_cfg(where.model, where.tag)
    settings: Any = open_clip.get_model_config(where.model)
    quick = facts.get("quick_gelu", settings.get("quick_gelu", False))
    changes = {} if quick else {"activation": "gelu"}
    config = replace(architecture.preset(preset), changes, preset)
    if (odd := _difference(architecture, config, open_clip, settings)) is not None:
        return odd
    return Weights(
        preset=preset,
        tag=tag,
        source={"repo": facts["hf_hub"].strip("/"), "file": FILE, "pinned": False, "tokenizer": VOCABULARY},
        config=changes,
        license=LICENSE,
        commercial=True,
        metrics={} if where.accuracy is None else {"zero_shot_accuracy": where.accuracy},
        preprocessing={
            "mean": list(facts["mean"]),
            "std": list(facts["std"]),
            "image_size": config.image_size,
            "interpolation": facts["interpolation"],
            **({"squash": True} if facts["resize_mode"] == "squash" else {}),
        },
        tokenizer=TOKENIZER,
    )


def _difference(architecture: Architecture, config: Any, open_clip: Any, settings: Mapping[str, Any]) -> str | None:
    """Why open_clip's network is none of ours, or None."""
    import torch

    with torch.device("meta"):
        theirs = open_clip.model.CLIP(**{key: value for key, value in settings.items() if key != "custom_text"})
    ours = foreign_tensors(on_meta(architecture, config), "open_clip")
    shapes = {name: tensor.shape for name, tensor in ours.items()}
    expected = {name: tensor.shape for name, tensor in theirs.state_dict().items()}
    odd = [name for name in {**shapes, **expected} if shapes.get(name) != expected.get(name)]
    return f"{odd[0]!r} and {len(odd) - 1} more tensors differ" if odd else None
