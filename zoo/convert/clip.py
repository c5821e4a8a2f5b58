"""CLIP's names in OpenAI's own checkpoints, in open_clip's, which are the same, in transformers', and in timm's.

timm has the image tower alone: it is written so, and where it is read, the text tower is drawn anew.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from zoo.architectures.clip import CLIPConfig
from zoo.config import ConfigError
from zoo.convert.keymap import Layout, require
from zoo.convert.open_clip import part
from zoo.convert.open_clip import read_config as read_open_clip
from zoo.convert.translate import translate

HEAD_DIM = 64
"""Of every head in OpenAI's networks, which their tensors do not show."""
LEGACY_END = 2
"""As an eos_token_id it never was true; transformers then reads a text at its largest token, as the original does."""
SQUEEZED = ("logit_scale", "logit_bias")
BLOCK = {
    "norm1": "ln_1",
    "attn.qkv.weight": "attn.in_proj_weight",
    "attn.qkv.bias": "attn.in_proj_bias",
    "attn.proj": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}
RESNET_BLOCK = {f"norm{i}": f"bn{i}" for i in (1, 2, 3)} | {
    "shortcut.conv": "downsample.0",
    "shortcut.norm": "downsample.1",
}
TIMM_BLOCK = {"norm1": "norm1", "attn": "attn", "norm2": "norm2", "mlp.up": "mlp.fc1", "mlp.down": "mlp.fc2"}
TRANSFORMERS_BLOCK = {
    "norm1": "layer_norm1",
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}
ARCHIVE = ("input_resolution", "context_length", "vocab_size")
"""Numbers that OpenAI's archives hold beside the network."""


def open_clip(config: CLIPConfig) -> Layout:
    """The image tower is `visual`, and the text tower has no name; in its newer networks it is called `text`."""
    require("open_clip", config, vision={"vit", "resnet"})
    renamed = {
        "text.embed.token": "token_embedding",
        "text.embed.positions": "positional_embedding",
        "text.norm": "ln_final",
        "text.head.weight": "text_projection",
        **_blocks("text", "transformer.resblocks", config.text_depth, BLOCK),
    }
    vit = config.vision == "vit"
    return Layout(
        renamed=renamed | (_vit(config) if vit else _resnet(config)),
        squeezed=(*SQUEEZED, "vision.embed.positions" if vit else "vision.head.positions"),
        shaped={"vision.embed.class_token": (config.vision_dim,)} if vit else {},
        transposed=("text.head.weight", *(("vision.head.weight",) if vit else ())),
        unused=(*ARCHIVE, r"attn_mask"),
        respelt=((r"^text\.", ""),),
    )


def openai(config: CLIPConfig) -> Layout:
    """The same names; in these networks more is fixed."""
    require("openai", config, activation="quick_gelu", norm_eps=1e-5, logit_bias=None)
    require("openai", config, end_token={None, config.vocab_size - 1})
    require("openai", config, text_num_heads=config.text_dim // HEAD_DIM)
    require("openai", config, vision_num_heads=config.vision_features // HEAD_DIM)
    return open_clip(config)


def _blocks(ours: str, theirs: str, depth: int, names: Mapping[str, str]) -> dict[str, str]:
    return {f"{ours}.blocks.{i}.{our}": f"{theirs}.{i}.{their}" for i in range(depth) for our, their in names.items()}


def _vit(config: CLIPConfig) -> dict[str, str]:
    return {
        "vision.embed.patch": "visual.conv1",
        "vision.embed.class_token": "visual.class_embedding",
        "vision.embed.positions": "visual.positional_embedding",
        "vision.norm_pre": "visual.ln_pre",
        "vision.norm": "visual.ln_post",
        "vision.head.weight": "visual.proj",
        **_blocks("vision", "visual.transformer.resblocks", config.vision_depth, BLOCK),
    }


def _resnet(config: CLIPConfig) -> dict[str, str]:
    renamed = {"vision.head.positions": "visual.attnpool.positional_embedding"}
    for ours, theirs in {"query": "q_proj", "key": "k_proj", "value": "v_proj", "proj": "c_proj"}.items():
        renamed[f"vision.head.{ours}"] = f"visual.attnpool.{theirs}"
    for i in (1, 2, 3):
        renamed |= {f"vision.stem.conv{i}": f"visual.conv{i}", f"vision.stem.norm{i}": f"visual.bn{i}"}
    for stage, depth in enumerate(config.vision_depths):
        for block in range(depth):
            ours, theirs = f"vision.stages.{stage}.{block}", f"visual.layer{stage + 1}.{block}"
            renamed[ours] = theirs
            renamed |= {f"{ours}.{our}": f"{theirs}.{their}" for our, their in RESNET_BLOCK.items()}
    return renamed


def timm(config: CLIPConfig) -> Layout:
    """The image tower alone, whose head has a bias there; of a ResNet's, every convolution stands beside its norm."""
    require("timm", config, vision={"vit", "resnet"})
    lacking = ("text", "logit_scale", "logit_bias")
    if config.vision == "resnet":
        return Layout(renamed=_timm_resnet(config), squeezed=("vision.head.positions",), lacking=lacking)
    renamed = {
        "vision.embed.patch": "patch_embed.proj",
        "vision.embed.class_token": "cls_token",
        "vision.embed.positions": "pos_embed",
        "vision.norm_pre": "norm_pre",
        "vision.norm": "norm",
        "vision.head": "head",
        **_blocks("vision", "blocks", config.vision_depth, TIMM_BLOCK),
    }
    return Layout(renamed=renamed, lacking=lacking, constants={"head.bias": partial(torch.zeros, config.dim)})


def _timm_resnet(config: CLIPConfig) -> dict[str, str]:
    renamed = {"vision.head.positions": "head.pos_embed", "vision.head.proj": "head.proj"}
    renamed |= {f"vision.head.{name}": f"head.{name[0]}" for name in ("query", "key", "value")}
    for i in (1, 2, 3):
        renamed |= {f"vision.stem.conv{i}": f"stem.conv{i}.conv", f"vision.stem.norm{i}": f"stem.conv{i}.bn"}
    for stage, depth in enumerate(config.vision_depths):
        for block in range(depth):
            ours, theirs = f"vision.stages.{stage}.{block}", f"stages.{stage}.{block}"
            for i, size in ((1, "1x1"), (2, "kxk"), (3, "1x1")):
                renamed[f"{ours}.conv{i}"] = f"{theirs}.conv{i}_{size}.conv"
                renamed[f"{ours}.norm{i}"] = f"{theirs}.conv{i}_{size}.bn"
            renamed[f"{ours}.shortcut.conv"] = f"{theirs}.shortcut.conv.conv"
            renamed[f"{ours}.shortcut.norm"] = f"{theirs}.shortcut.conv.bn"
    return renamed


def transformers(config: CLIPConfig) -> Layout:
    """Queries, keys and values stand apart; `pre_layrnorm` is how they spell it."""
    require("transformers", config, vision="vit", logit_bias=None)
    renamed = {
        "vision.embed.patch": "vision_model.embeddings.patch_embedding",
        "vision.embed.class_token": "vision_model.embeddings.class_embedding",
        "vision.embed.positions": "vision_model.embeddings.position_embedding.weight",
        "vision.norm_pre": "vision_model.pre_layrnorm",
        "vision.norm": "vision_model.post_layernorm",
        "vision.head": "visual_projection",
        "text.embed.token": "text_model.embeddings.token_embedding",
        "text.embed.positions": "text_model.embeddings.position_embedding.weight",
        "text.norm": "text_model.final_layer_norm",
        "text.head": "text_projection",
    }
    joined = {}
    for tower, depth in (("vision", config.vision_depth), ("text", config.text_depth)):
        renamed |= _blocks(tower, f"{tower}_model.encoder.layers", depth, TRANSFORMERS_BLOCK)
        for i in range(depth):
            for kind in ("weight", "bias"):
                parts = (f"{tower}_model.encoder.layers.{i}.self_attn.{part}_proj.{kind}" for part in "qkv")
                joined[f"{tower}.blocks.{i}.attn.qkv.{kind}"] = tuple(parts)
    return Layout(
        renamed=renamed,
        joined=joined,
        squeezed=(*SQUEEZED, "vision.embed.positions"),
        shaped={"vision.embed.class_token": (config.vision_dim,)},
        unused=(r"(text|vision)_model\.embeddings\.position_ids",),
    )


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json, in which each tower has a config of its own.

    What only further training would notice, such as `initializer_factor`, is not kept.
    """
    named = theirs.get("architectures")
    kind = str(named[0]) if isinstance(named, list) and named else "CLIPModel"
    if kind != "CLIPModel":
        raise ConfigError(f"architectures names {kind!r}, and this architecture is CLIPModel, with both towers")
    image, text = (_tower(theirs, name) for name in ("vision", "text"))
    fields = {"dim": theirs.get("projection_dim", 512)}
    fields |= translate(
        image,
        {
            "image_size": ("image_size", 224),
            "patch_size": ("patch_size", 32),
            "in_channels": ("num_channels", 3),
            "vision_dim": ("hidden_size", 768),
            "vision_depth": ("num_hidden_layers", 12),
            "vision_num_heads": ("num_attention_heads", 12),
            "vision_mlp_dim": ("intermediate_size", 3072),
        },
        {"attention_dropout": (0.0, 0)},
    )
    end = text.get("eos_token_id", 49407)
    return (
        fields
        | translate(
            text,
            {
                "text_dim": ("hidden_size", 512),
                "text_depth": ("num_hidden_layers", 12),
                "text_num_heads": ("num_attention_heads", 8),
                "text_mlp_dim": ("intermediate_size", 2048),
                "vocab_size": ("vocab_size", 49408),
                "max_seq_len": ("max_position_embeddings", 77),
                "activation": ("hidden_act", "quick_gelu"),
                "norm_eps": ("layer_norm_eps", 1e-5),
            },
            {
                "attention_dropout": (0.0, 0),
                "hidden_act": (image.get("hidden_act", "quick_gelu"),),
                "layer_norm_eps": (image.get("layer_norm_eps", 1e-5),),
            },
        )
        | {"end_token": None if end == LEGACY_END else end}
    )


def _tower(theirs: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The config of a tower; what stands under the older name wins, as in transformers."""
    return {**part(theirs, f"{name}_config"), **part(theirs, f"{name}_config_dict")}


FORMATS = {"open_clip": open_clip, "openai": openai, "transformers": transformers, "timm": timm}
MODEL_TYPES = {"clip": read_config, "open_clip": read_open_clip}
NAMES = {
    "open_clip": {
        "clip_vit_b_32": "ViT-B-32-quickgelu",
        "clip_vit_b_16": "ViT-B-16-quickgelu",
        "clip_vit_l_14": "ViT-L-14-quickgelu",
        "clip_vit_l_14_336": "ViT-L-14-336-quickgelu",
        "clip_resnet50": "RN50-quickgelu",
        "clip_resnet101": "RN101-quickgelu",
    },
    "openai": {
        "clip_vit_b_32": "ViT-B/32",
        "clip_vit_b_16": "ViT-B/16",
        "clip_vit_l_14": "ViT-L/14",
        "clip_vit_l_14_336": "ViT-L/14@336px",
        "clip_resnet50": "RN50",
        "clip_resnet101": "RN101",
    },
    "transformers": {
        "clip_vit_b_32": "openai/clip-vit-base-patch32",
        "clip_vit_b_16": "openai/clip-vit-base-patch16",
        "clip_vit_l_14": "openai/clip-vit-large-patch14",
        "clip_vit_l_14_336": "openai/clip-vit-large-patch14-336",
    },
}
