"""Folders of open_clip: what open_clip_config.json says of the network, and of the images that it reads."""

import sys
from collections.abc import Mapping
from typing import Any

from zoo.config import ConfigError
from zoo.convert.translate import translate

CONFIG, STEM = "open_clip_config.json", "open_clip_model"
"""How its files are named, where those of transformers are config.json and model.safetensors."""
PLAIN = {
    "ls_init_value": (None,),
    "final_ln_after_pool": (False,),
    "act_kwargs": (None, {}),
    "norm_kwargs": (None, {}),
    "block_type": (None, "default"),
    "qk_norm": (False,),
    "scaled_cosine_attn": (False,),
    "scale_heads": (False,),
    "scale_attn_inner": (False,),
    "scale_attn": (False,),
    "scale_fc": (False,),
}
"""Settings of a tower that ours has one value of."""
IMAGE = {
    "attentional_pool": (False,),
    "no_ln_pre": (False,),
    "pos_embed_type": ("learnable",),
    "pool_type": ("tok",),
    "timm_model_name": (None,),
}
TEXT = {
    "embed_cls": (False,),
    "no_causal_mask": (False,),
    "pool_type": ("argmax", "eos"),
    "proj_bias": (False,),
    "proj_type": ("linear",),
    "hf_model_name": (None,),
}


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from the object in such a file; sizes that it leaves out are open_clip's own.

    Raises:
        ConfigError: it says nothing of the network, or a setting asks for what ours cannot do.
    """
    if theirs.get("model_cfg") is None:
        raise ConfigError("model_cfg, which describes the network, is missing; use another copy")
    model = part(theirs, "model_cfg")
    image, text = part(model, "vision_cfg"), part(model, "text_cfg")
    layers, width = image.get("layers", 12), number(image, "width", 768)
    fields: dict[str, Any] = {
        "dim": model.get("embed_dim", 512),
        "activation": "quick_gelu" if model.get("quick_gelu") else "gelu",
        "logit_bias": None if model.get("init_logit_bias") is None else number(model, "init_logit_bias", 0),
        "image_size": _side(image.get("image_size", 224)),
        **translate(image, {}, PLAIN | IMAGE),
        **translate(
            text,
            {
                "vocab_size": ("vocab_size", 49408),
                "max_seq_len": ("context_length", 77),
                "text_dim": ("width", 512),
                "text_depth": ("layers", 12),
                "text_num_heads": ("heads", 8),
            },
            PLAIN | TEXT,
        ),
        "text_mlp_dim": int(number(text, "width", 512) * number(text, "mlp_ratio", 4.0)),
        "end_token": text.get("eos_id", 2) if text.get("pool_type") == "eos" else None,
    }
    head_dim = max(1, int(number(image, "head_width", 64)))
    if isinstance(layers, list):
        resnet = {"vision": "resnet", "vision_depths": layers, "vision_width": width}
        return fields | resnet | {"vision_num_heads": int(32 * width) // head_dim}
    return fields | {
        "patch_size": image.get("patch_size", 16),
        "vision_dim": width,
        "vision_depth": layers,
        "vision_num_heads": int(width) // head_dim,
        "vision_mlp_dim": int(width * number(image, "mlp_ratio", 4.0)),
    }


def preprocessing(theirs: Mapping[str, Any], image_size: int) -> dict[str, Any] | None:
    """The record of how images are prepared; None where it is in no way of ours."""
    facts = part(theirs, "preprocess_cfg")
    if not facts or facts.get("resize_mode", "shortest") not in ("shortest", "squash"):
        return None
    return {
        "mean": facts.get("mean", []),
        "std": facts.get("std", []),
        "image_size": image_size,
        "interpolation": facts.get("interpolation", "bicubic"),
        "squash": facts.get("resize_mode") == "squash",
    }


def part(theirs: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """An object within a config; where there is none, an empty one."""
    found = theirs.get(name) or {}
    if not isinstance(found, Mapping):
        raise ConfigError(f"{name} must be an object, got {found!r}")
    return found


def number(theirs: Mapping[str, Any], name: str, default: float) -> Any:
    """A number within a config, which JSON of Python's lets be infinite or none at all."""
    found = theirs.get(name, default)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise ConfigError(f"{name} must be a number, got {found!r}")
    if not abs(found) <= sys.float_info.max:
        raise ConfigError(f"{name} must be a finite number, got {str(found)[:9]}")
    return found


def _side(image_size: Any) -> Any:
    """Height and width where they are the same; anything else stays, to be refused."""
    if isinstance(image_size, list) and len(image_size) == 2 and image_size[0] == image_size[1]:
        return image_size[0]
    return image_size
