"""Cards of the weights that torchvision, timm and open_clip publish, made from the metadata that the libraries carry.

A card is written only for weights that fit: the library's network for them is built without memory, and must have our
preset's tensors, in names, shapes and dtypes, and its norms' eps.
"""

import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from zoo.config import replace, to_dict
from zoo.convert import foreign_tensors, peers
from zoo.convert.published_clip import published_clip
from zoo.registry import Architecture, Weights
from zoo.weights.fit import on_meta

COMMERCIAL = {"apache-2.0": True, "bsd-3-clause": True, "mit": True, "cc-by-nc-4.0": False}
"""Whether a licence permits commercial use; of others that is not known."""
SWAG = "cc-by-nc-4.0"
"""The licence behind the address that torchvision gives for SWAG's weights."""
NETWORKS: Mapping[str, dict[str, Any]] = {
    "googlenet": {"aux_logits": False, "init_weights": False},
    "inception_v3": {"aux_logits": False, "init_weights": False},
}
"""What torchvision's network needs to be the preset."""
HIDDEN_NORMALISATION = ("googlenet", "inception_v3")
"""With their weights, torchvision's networks bring the inputs from mean and std of ImageNet to 0.5 themselves."""


def published(architecture: Architecture) -> Iterator[Weights | str]:
    """The cards of an architecture; for weights that do not fit, a sentence that says why."""
    decided = set()
    for preset, name in peers(architecture.name, "timm").items():
        for card in _timm(architecture, preset, name):
            decided |= {preset} if isinstance(card, Weights) and card.default else set()
            yield card
    for preset, name in peers(architecture.name, "torchvision").items():
        yield from _torchvision(architecture, preset, name, decides=preset not in decided)
    yield from published_clip(architecture)


def _timm(architecture: Architecture, preset: str, name: str) -> Iterator[Weights | str]:
    """The cards of timm's weights, of which timm's own default is the preset's."""
    import timm

    model, _, only = name.partition(".")
    own: Any = timm.get_pretrained_cfg(model)
    every = [full.partition(".")[2] for full in timm.list_pretrained(f"{model}.*")]
    for tag in [only] if only else every:
        cfg: Any = timm.get_pretrained_cfg(f"{model}.{tag}")
        with torch.device("meta"):
            peer = timm.create_model(f"{model}.{tag}", num_classes=cfg.num_classes)
        config = _fitting(architecture, preset, "timm", peer, cfg.num_classes, cfg.input_size[-1])
        if isinstance(config, str):
            yield f"{preset}.{tag}: {config}"
            continue
        yield Weights(
            preset=preset,
            tag=tag,
            source={"repo": cfg.hf_hub_id, "file": "model.safetensors", "pinned": False},
            config=config,
            license=cfg.license or "unknown",
            commercial=COMMERCIAL.get(cfg.license),
            preprocessing={
                "mean": list(cfg.mean),
                "std": list(cfg.std),
                "image_size": cfg.input_size[-1],
                "crop": cfg.crop_pct,
                "interpolation": cfg.interpolation,
                "mirror": True,
                **({"squash": True} if cfg.crop_mode == "squash" else {}),
            },
            label_set="imagenet-1k" if cfg.num_classes == 1000 else None,
            default=tag == (only or own.tag),
        )


def _torchvision(architecture: Architecture, preset: str, name: str, decides: bool) -> Iterator[Weights | str]:
    """The cards of torchvision's weights; `decides` says whether one of them is the preset's default."""
    from torchvision.models import get_model, get_model_weights

    known: Any = get_model_weights(name)
    for weights in known:
        (measured,), labels = weights.meta["_metrics"].values(), weights.meta.get("categories")
        accuracy = measured["acc@1"]
        if not labels or math.isnan(accuracy):
            yield f"{preset}.{weights.name.lower()}: these are features without a head"
            continue
        record = _record(name, weights.transforms())
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peer = get_model(name, **NETWORKS.get(name, {}), **_image_size(name, record))
        config = _fitting(architecture, preset, "torchvision", peer, len(labels), record["image_size"])
        if isinstance(config, str):
            yield f"{preset}.{weights.name.lower()}: {config}"
            continue
        swag = "SWAG" in weights.name
        yield Weights(
            preset=preset,
            tag=weights.name.lower(),
            source={"torchvision": str(weights)},
            config=config,
            license=SWAG if swag else "bsd-3-clause",
            commercial=not swag,
            metrics={"accuracy": round(accuracy / 100, 5), "top5_accuracy": round(measured["acc@5"] / 100, 5)},
            preprocessing=record,
            label_set={1000: "imagenet-1k", 400: "kinetics-400"}[len(labels)],
            default=decides and weights == known.DEFAULT,
        )


def _image_size(name: str, record: Mapping[str, Any]) -> dict[str, int]:
    """A vision transformer has as many positions as its weights' images."""
    return {"image_size": record["image_size"]} if name.startswith("vit") else {}


def _record(name: str, transform: Any) -> dict[str, Any]:
    """torchvision's transform as our record."""
    hidden = name in HIDDEN_NORMALISATION
    record = {
        "mean": [0.5] * 3 if hidden else list(transform.mean),
        "std": [0.5] * 3 if hidden else list(transform.std),
        "image_size": transform.crop_size[-1],
        "resize": list(transform.resize_size),
        "interpolation": transform.interpolation.value,
        "mirror": True,
    }
    if not hasattr(transform, "antialias"):  # videos: 16 frames are what the networks were trained on
        record |= {"antialias": False, "frames": 16}
    return record


def _fitting(
    architecture: Architecture, preset: str, format: str, peer: nn.Module, num_classes: int, image_size: int
) -> dict[str, Any] | str:
    """In which fields the weights' network differs from our preset, or why it is none of ours."""
    own = architecture.preset(preset)
    asked = {"num_classes": num_classes, "image_size": image_size, "norm_eps": _norm_eps(peer)}
    fields = to_dict(own)
    changes = {key: value for key, value in asked.items() if key in fields and fields[key] != value}
    if format == "timm" and isinstance(getattr(peer, "fc_norm", None), nn.LayerNorm):
        changes |= {"pool": "mean"}
    try:
        model = on_meta(architecture, replace(own, changes, preset))
        written = foreign_tensors(model, format)
    except ValueError as error:
        return f"cannot be built: {error}"
    ours = {name: (tensor.shape, tensor.dtype) for name, tensor in written.items()}
    theirs = {name: (tensor.shape, tensor.dtype) for name, tensor in peer.state_dict().items()}
    odd = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
    if odd:
        return f"{odd[0]!r} and {len(odd) - 1} more tensors differ"
    if _norm_eps(model) != _norm_eps(peer):
        return f"its norms have eps {_norm_eps(peer)}, ours {_norm_eps(model)}"
    return changes


def _norm_eps(model: nn.Module) -> float | None:
    """The eps of a network's norms."""
    found: list[Any] = [getattr(module, "eps", None) for module in model.modules()]
    return next((eps for eps in found if isinstance(eps, float)), None)
