"""Mamba's names in transformers' checkpoints, and in the authors' own, which differ in one letter."""

import math
from collections.abc import Mapping
from typing import Any

from zoo.architectures.mamba import MambaConfig
from zoo.convert.keymap import Layout
from zoo.convert.translate import translate

LAYER = {
    "norm": "norm", "mixer.up": "mixer.in_proj", "mixer.conv": "mixer.conv1d", "mixer.select": "mixer.x_proj",
    "mixer.delta": "mixer.dt_proj", "mixer.A_log": "mixer.A_log", "mixer.D": "mixer.D", "mixer.proj": "mixer.out_proj",
}  # fmt: skip


def transformers(config: MambaConfig) -> Layout:
    """`backbone.layers.0.mixer.in_proj` is the first block's first projection."""
    return backbone(config, LAYER, "backbone.embeddings")


def state_spaces(config: MambaConfig) -> Layout:
    """The same but for the embedding's name, which transformers understands too: this one serves to write."""
    return backbone(config, LAYER, "backbone.embedding", writes_copies=True)


def backbone(config: Any, layer: Mapping[str, str], embedding: str, *, writes_copies: bool = False) -> Layout:
    """Where both Mambas' tensors stand.

    Args:
        config: of either.
        layer: our names within a block -> theirs.
        embedding: their name of the embedding.
        writes_copies: whether the library writes a tied head as well.
    """
    renamed = {"embed": embedding, "norm": "backbone.norm_f", "head": "lm_head"}
    for block in range(config.depth):
        renamed |= {f"blocks.{block}.{ours}": f"backbone.layers.{block}.{theirs}" for ours, theirs in layer.items()}
    return Layout(
        renamed=renamed,
        copies={"lm_head.weight": f"{embedding}.weight"} if config.tie_embeddings else {},
        writes_copies=writes_copies,
        respelt=((r"^(?=(embeddings?|layers|norm_f)\.)", "backbone."), (r"^backbone\.embeddings?\.", f"{embedding}.")),
    )


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json."""
    fields = translate(
        theirs,
        {
            "vocab_size": ("vocab_size", 50280),
            "dim": ("hidden_size", 768),
            "depth": ("num_hidden_layers", 32),
            "state_dim": ("state_size", 16),
            "expand": ("expand", 2),
            "conv_width": ("conv_kernel", 4),
            "dt_rank": ("time_step_rank", "auto"),
            "bias": ("use_bias", False),
            "conv_bias": ("use_conv_bias", True),
            "norm_eps": ("layer_norm_epsilon", 1e-5),
            "tie_embeddings": ("tie_word_embeddings", True),
        },
        {"hidden_act": ("silu",)},
    )
    if fields["dt_rank"] == "auto" and isinstance(fields["dim"], int):
        fields["dt_rank"] = math.ceil(fields["dim"] / 16)
    return fields


FORMATS = {"transformers": transformers, "state_spaces": state_spaces}
MODEL_TYPES = {"mamba": read_config}
SIZES = {
    "mamba_130m": "mamba-130m", "mamba_370m": "mamba-370m", "mamba_790m": "mamba-790m", "mamba_1_4b": "mamba-1.4b",
    "mamba_2_8b": "mamba-2.8b",
}  # fmt: skip
NAMES = {"transformers": {ours: f"{theirs}-hf" for ours, theirs in SIZES.items()}, "state_spaces": SIZES}
