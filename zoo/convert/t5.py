"""T5's names in transformers' checkpoints, versions 1.0 and 1.1, FLAN included."""

from collections.abc import Mapping
from typing import Any

from zoo.architectures.t5 import T5Config
from zoo.convert.keymap import Layout
from zoo.convert.translate import translate

ATTENTION = {"query": "q", "key": "k", "value": "v", "proj": "o"}
MLP = {False: {"up": "wi", "proj": "wo"}, True: {"gate": "wi_0", "up": "wi_1", "proj": "wo"}}
"""Without a gate, and with one."""
PARTS = {
    "encoder": (("norm1", "attn", "SelfAttention"), ("norm2", "mlp", "DenseReluDense")),
    "decoder": (
        ("norm1", "attn", "SelfAttention"),
        ("norm2", "cross", "EncDecAttention"),
        ("norm3", "mlp", "DenseReluDense"),
    ),
}
"""The sub-blocks of a block, in their order: our norm, our name, and theirs, which did not change with the MLP."""


def layout(config: T5Config) -> Layout:
    """`decoder.block.0.layer.1.EncDecAttention.q` is what asks the source in the decoder's first block."""
    renamed = {"embed": "shared", "head": "lm_head"}
    for half, parts in PARTS.items():
        relative = "block.0.layer.0.SelfAttention.relative_attention_bias"  # of the first block, for all of them
        renamed |= {f"{half}.position.embed": f"{half}.{relative}", f"{half}.norm": f"{half}.final_layer_norm"}
        for block in range(config.depth):
            for number, (norm, name, their) in enumerate(parts):
                ours, theirs = f"{half}.blocks.{block}", f"{half}.block.{block}.layer.{number}"
                renamed[f"{ours}.{norm}"] = f"{theirs}.layer_norm"
                inner = MLP[config.gated] if name == "mlp" else ATTENTION
                renamed |= {f"{ours}.{name}.{our}": f"{theirs}.{their}.{t}" for our, t in inner.items()}
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    copies += ("lm_head.weight",) if config.tie_embeddings else ()
    return Layout(
        renamed=renamed,
        copies=dict.fromkeys(copies, "shared.weight"),
        stand_ins={} if config.tie_embeddings else {"lm_head.weight": "shared.weight"},
        unused=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
    )


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json.

    Whether the logits are scaled tells version 1.0 from 1.1. Files say so by `tie_word_embeddings`; from transformers 5
    on that is always true, and `scale_decoder_outputs` says it. A 1.1 that was made there scores by the embedding as
    long as no other head is loaded, and stores none; ours then has a head that starts as a copy.

    Raises:
        ConfigError: a setting asks for what ours cannot do.
    """
    start, gated = theirs.get("decoder_start_token_id"), theirs.get("feed_forward_proj") == "gated-gelu"
    fields = translate(
        {**theirs, "decoder_start_token_id": theirs.get("pad_token_id", 0) if start is None else start},
        {
            "vocab_size": ("vocab_size", 32128),
            "dim": ("d_model", 512),
            "depth": ("num_layers", 6),
            "num_heads": ("num_heads", 8),
            "head_dim": ("d_kv", 64),
            "mlp_dim": ("d_ff", 2048),
            "num_buckets": ("relative_attention_num_buckets", 32),
            "max_distance": ("relative_attention_max_distance", 128),
            "dropout": ("dropout_rate", 0.1),
            "norm_eps": ("layer_norm_epsilon", 1e-6),
            "pad_token": ("pad_token_id", 0),
            "start_token": ("decoder_start_token_id", 0),
            "stop_token": ("eos_token_id", 1),
        },
        {
            "feed_forward_proj": ("relu", "gated-gelu"),
            "dense_act_fn": ("gelu_new" if gated else "relu",),  # these two go before it
            "is_gated_act": (gated,),
            "num_decoder_layers": (None, theirs.get("num_layers", 6)),
        },
    )
    scaled = theirs.get("scale_decoder_outputs", theirs.get("tie_word_embeddings", True))
    return {**fields, "gated": gated, "tie_embeddings": scaled}


FORMATS = {"transformers": layout}
MODEL_TYPES = {"t5": read_config}
NAMES = {
    "transformers": {
        "t5_small": "t5-small",
        "t5_base": "t5-base",
        "t5_large": "t5-large",
        "t5_v1_1_small": "google/t5-v1_1-small",
        "t5_v1_1_base": "google/t5-v1_1-base",
        "t5_v1_1_large": "google/t5-v1_1-large",
    }
}
