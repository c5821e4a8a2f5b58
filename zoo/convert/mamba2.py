"""Mamba-2's names in transformers' checkpoints, and in the authors' own, which differ in one letter."""

import math
from collections.abc import Mapping
from typing import Any

from zoo.architectures.mamba2 import Mamba2Config
from zoo.convert.keymap import Layout
from zoo.convert.mamba import backbone
from zoo.convert.translate import translate

LAYER = {
    "norm": "norm", "mixer.up": "mixer.in_proj", "mixer.conv": "mixer.conv1d", "mixer.delta_bias": "mixer.dt_bias",
    "mixer.A_log": "mixer.A_log", "mixer.D": "mixer.D", "mixer.norm": "mixer.norm", "mixer.proj": "mixer.out_proj",
}  # fmt: skip


def transformers(config: Mamba2Config) -> Layout:
    """`backbone.layers.0.mixer.in_proj` is the first block's first projection."""
    return backbone(config, LAYER, "backbone.embeddings")


def state_spaces(config: Mamba2Config) -> Layout:
    """The same but for the embedding's name, which transformers understands too: this one serves to write."""
    return backbone(config, LAYER, "backbone.embedding", writes_copies=True)


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json."""
    sizes = [theirs.get(name, default) for name, default in (("expand", 2), ("hidden_size", 4096), ("head_dim", 64))]
    sound = all(isinstance(size, int) and size > 0 for size in sizes)  # what is not is complained of later
    return translate(
        theirs,
        {
            "vocab_size": ("vocab_size", 32768),
            "dim": ("hidden_size", 4096),
            "depth": ("num_hidden_layers", 64),
            "state_dim": ("state_size", 128),
            "expand": ("expand", 2),
            "head_dim": ("head_dim", 64),
            "groups": ("n_groups", 8),
            "conv_width": ("conv_kernel", 4),
            "bias": ("use_bias", False),
            "conv_bias": ("use_conv_bias", True),
            "norm_eps": ("layer_norm_epsilon", 1e-5),
            "tie_embeddings": ("tie_word_embeddings", False),
        },
        {
            "hidden_act": ("silu",),
            "num_heads": (sizes[0] * sizes[1] // sizes[2] if sound else theirs.get("num_heads"),),
            "time_step_limit": ([0.0, math.inf], [0.0, {"__float__": "Infinity"}]),
        },
    )


FORMATS = {"transformers": transformers, "state_spaces": state_spaces}
MODEL_TYPES = {"mamba2": read_config}
SIZES = {
    "mamba2_130m": "mamba2-130m", "mamba2_370m": "mamba2-370m", "mamba2_780m": "mamba2-780m",
    "mamba2_1_3b": "mamba2-1.3b", "mamba2_2_7b": "mamba2-2.7b",
}  # fmt: skip
NAMES = {"state_spaces": SIZES}
