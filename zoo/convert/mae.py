"""MAE's names in transformers' checkpoints of ViTMAEForPreTraining."""

from collections.abc import Mapping
from typing import Any

from zoo.architectures.mae import MAEConfig
from zoo.convert.keymap import Layout
from zoo.convert.translate import translate

RENAMED = {
    "embed.class_token": "vit.embeddings.cls_token",
    "embed.positions": "vit.embeddings.position_embeddings",
    "embed.patch": "vit.embeddings.patch_embeddings.projection",
    "norm": "vit.layernorm",
    "decoder.embed": "decoder.decoder_embed",
    "decoder.positions": "decoder.decoder_pos_embed",
    "decoder.norm": "decoder.decoder_norm",
    "decoder.proj": "decoder.decoder_pred",
}
BLOCK = {
    "norm1": "layernorm_before",
    "attn.proj": "attention.output.dense",
    "norm2": "layernorm_after",
    "mlp.up": "intermediate.dense",
    "mlp.down": "output.dense",
}


def layout(config: MAEConfig) -> Layout:
    """`vit.encoder.layer.0` and `decoder.decoder_encoder.layer.0` are the first blocks.

    The files on the Hub have `decoder.decoder_layers.0`. Version 5 of transformers reads that and writes the other.
    """
    renamed, joined = dict(RENAMED), {}
    stacks = (
        ("blocks", "vit.encoder.layer", config.depth),
        ("decoder.blocks", "decoder.decoder_encoder.layer", config.decoder_depth),
    )
    for our_stack, their_stack, depth in stacks:
        for block in range(depth):
            ours, theirs = f"{our_stack}.{block}", f"{their_stack}.{block}"
            renamed |= {f"{ours}.{name}": f"{theirs}.{their}" for name, their in BLOCK.items()}
            for kind in ("weight", "bias"):
                parts = (f"{theirs}.attention.attention.{part}.{kind}" for part in ("query", "key", "value"))
                joined[f"{ours}.attn.qkv.{kind}"] = tuple(parts)
    respelt = ((r"^decoder\.decoder_layers\.", "decoder.decoder_encoder.layer."),)
    return Layout(renamed=renamed, joined=joined, respelt=respelt)


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json.

    Raises:
        ConfigError: a setting asks for what ours cannot do.
    """
    return translate(
        theirs,
        {
            "image_size": ("image_size", 224),
            "patch_size": ("patch_size", 16),
            "dim": ("hidden_size", 768),
            "depth": ("num_hidden_layers", 12),
            "num_heads": ("num_attention_heads", 12),
            "mlp_dim": ("intermediate_size", 3072),
            "decoder_dim": ("decoder_hidden_size", 512),
            "decoder_depth": ("decoder_num_hidden_layers", 8),
            "decoder_num_heads": ("decoder_num_attention_heads", 16),
            "decoder_mlp_dim": ("decoder_intermediate_size", 2048),
            "norm_eps": ("layer_norm_eps", 1e-12),
            "mask_ratio": ("mask_ratio", 0.75),
            "in_channels": ("num_channels", 3),
        },
        {
            "hidden_act": ("gelu",),
            "qkv_bias": (True,),
            "hidden_dropout_prob": (0.0,),
            "attention_probs_dropout_prob": (0.0,),
        },
    )


FORMATS = {"transformers": layout}
MODEL_TYPES = {"vit_mae": read_config}
NAMES = {
    "transformers": {
        "mae_vit_b_16": "facebook/vit-mae-base",
        "mae_vit_l_16": "facebook/vit-mae-large",
        "mae_vit_h_14": "facebook/vit-mae-huge",
    }
}
