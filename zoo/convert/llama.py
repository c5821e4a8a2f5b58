"""Llama's names in transformers' checkpoints, and in Meta's own and llama2.c's."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zoo.architectures.llama import LlamaConfig
from zoo.config import ConfigError
from zoo.convert.keymap import Layout
from zoo.convert.translate import translate


def layout(config: LlamaConfig) -> Layout:
    """`model.layers.0.self_attn.q_proj` makes the queries of the first block."""
    renamed = {"embed": "model.embed_tokens", "norm": "model.norm", "head": "lm_head"}
    layers = {
        "attn.query": "self_attn.q_proj", "attn.key": "self_attn.k_proj", "attn.value": "self_attn.v_proj",
        "attn.proj": "self_attn.o_proj", "mlp.gate": "mlp.gate_proj", "mlp.up": "mlp.up_proj",
        "mlp.proj": "mlp.down_proj", "norm1": "input_layernorm", "norm2": "post_attention_layernorm",
    }  # fmt: skip
    for block in range(config.depth):
        renamed |= {f"blocks.{block}.{ours}": f"model.layers.{block}.{theirs}" for ours, theirs in layers.items()}
    return Layout(
        renamed=renamed,
        copies={"lm_head.weight": "model.embed_tokens.weight"} if config.tie_embeddings else {},
        unused=(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
        respelt=((r"^(?=(embed_tokens|layers|norm)\.)", "model."),),
    )


def meta_layout(config: LlamaConfig) -> Layout:
    """`layers.0.attention.wq` makes the queries of the first block, whose features turn in pairs of neighbours."""
    renamed = {"embed": "tok_embeddings", "norm": "norm", "head": "output"}
    layers = {
        "attn.query": "attention.wq", "attn.key": "attention.wk", "attn.value": "attention.wv",
        "attn.proj": "attention.wo", "mlp.gate": "feed_forward.w1", "mlp.up": "feed_forward.w3",
        "mlp.proj": "feed_forward.w2", "norm1": "attention_norm", "norm2": "ffn_norm",
    }  # fmt: skip
    head_dim = config.dim // config.num_heads
    queries, keys = _halves(config.num_heads, head_dim), _halves(config.num_kv_heads, head_dim)
    reordered: dict[str, Tensor] = {}
    for block in range(config.depth):
        renamed |= {f"blocks.{block}.{ours}": f"layers.{block}.{theirs}" for ours, theirs in layers.items()}
        reordered |= {f"blocks.{block}.attn.query.weight": queries, f"blocks.{block}.attn.key.weight": keys}
    return Layout(
        renamed=renamed,
        reordered=reordered,
        copies={"output.weight": "tok_embeddings.weight"} if config.tie_embeddings else {},
        unused=(r"freqs_cos", r"freqs_sin", r"rope\.freqs"),
    )


def _halves(heads: int, head_dim: int) -> Tensor:
    """For each of our features, whose pairs lie half a head apart, which one it is where pairs are neighbours."""
    pairs = torch.arange(heads * head_dim).view(heads, head_dim // 2, 2)
    return pairs.transpose(1, 2).flatten()


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json, of any release."""
    heads, dim = theirs.get("num_attention_heads", 32), theirs.get("hidden_size", 4096)
    shared = theirs.get("num_key_value_heads")
    fields = translate(
        {**theirs, "num_key_value_heads": heads if shared is None else shared},
        {
            "vocab_size": ("vocab_size", 32000),
            "max_seq_len": ("max_position_embeddings", 2048),
            "dim": ("hidden_size", 4096),
            "depth": ("num_hidden_layers", 32),
            "num_heads": ("num_attention_heads", 32),
            "num_kv_heads": ("num_key_value_heads", heads),
            "mlp_dim": ("intermediate_size", 11008),
            "norm_eps": ("rms_norm_eps", 1e-6),
            "tie_embeddings": ("tie_word_embeddings", False),
        },
        {
            "hidden_act": ("silu",),
            "attention_bias": (False,),
            "mlp_bias": (False,),
            "head_dim": (None, dim // heads if isinstance(dim, int) and isinstance(heads, int) and heads else None),
        },
    )
    rope = theirs.get("rope_parameters") or theirs.get("rope_scaling") or {}
    if not isinstance(rope, Mapping):
        raise ConfigError(
            f"rope_scaling is {rope!r}; expected an object such as {{'rope_type': 'linear', 'factor': 2}}"
        )
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "linear", "llama3"):
        raise ConfigError(f"rope_type is {kind!r}, and this architecture knows only 'default', 'linear' or 'llama3'")
    names = {
        "rope_factor": "factor",
        "rope_low_freq_factor": "low_freq_factor",
        "rope_high_freq_factor": "high_freq_factor",
    }
    fields |= {ours: rope[their] for ours, their in names.items() if their in rope}
    if kind == "llama3":  # what stands beside the others goes before, as in transformers
        length = rope.get("original_max_position_embeddings", fields["max_seq_len"])
        fields["rope_original_length"] = theirs.get("original_max_position_embeddings", length)
    fields["rope_scaling"] = "none" if kind == "default" else kind
    fields["rope_theta"] = rope.get("rope_theta", theirs.get("rope_theta", 10_000.0))
    return fields


FORMATS = {"transformers": layout, "meta": meta_layout}
MODEL_TYPES = {"llama": read_config}
