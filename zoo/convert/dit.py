"""DiT's names in diffusers' checkpoints, in which every block has the embedders of timestep and label for itself."""

from collections.abc import Mapping
from typing import Any

from zoo.architectures.dit import DiTConfig
from zoo.config import ConfigError
from zoo.convert.keymap import Layout, require
from zoo.convert.translate import translate
from zoo.nn.patches import sinusoids

EMBEDDERS = {
    "embed.time.up.weight": "timestep_embedder.linear_1.weight",
    "embed.time.up.bias": "timestep_embedder.linear_1.bias",
    "embed.time.proj.weight": "timestep_embedder.linear_2.weight",
    "embed.time.proj.bias": "timestep_embedder.linear_2.bias",
    "embed.label.weight": "class_embedder.embedding_table.weight",
}
"""What theirs repeats in each block; only copies that are all equal are one of ours."""
BLOCK = {"modulation": "norm1.linear", "attn.proj": "attn1.to_out.0", "mlp.up": "ff.net.0.proj", "mlp.down": "ff.net.2"}
OLD_CLASS = "Transformer2DModel"
"""What files of before 2024 call it, and what its config means where it is silent."""
OLD_DEFAULTS = {"norm_type": "layer_norm", "activation_fn": "geglu", "attention_bias": False}


def layout(config: DiTConfig) -> Layout:
    """`transformer_blocks.0.norm1` has the first block's modulation, and the embedders that all others repeat.

    Positions are no part of their files.
    """
    require("diffusers", config, freq_shift=1, norm_eps=1e-6, mlp_dim=4 * config.dim)
    renamed = {"embed.patch": "pos_embed.proj", "head.modulation": "proj_out_1", "head.proj": "proj_out_2"}
    renamed |= {ours: f"transformer_blocks.0.norm1.emb.{theirs}" for ours, theirs in EMBEDDERS.items()}
    joined, copies = {}, {}
    for block in range(config.depth):
        ours, theirs = f"blocks.{block}", f"transformer_blocks.{block}"
        renamed |= {f"{ours}.{name}": f"{theirs}.{their}" for name, their in BLOCK.items()}
        for kind in ("weight", "bias"):
            joined[f"{ours}.attn.qkv.{kind}"] = tuple(f"{theirs}.attn1.to_{part}.{kind}" for part in "qkv")
        if block:
            embedders = EMBEDDERS.values()
            copies |= {f"{theirs}.norm1.emb.{name}": f"transformer_blocks.0.norm1.emb.{name}" for name in embedders}
    return Layout(
        renamed=renamed,
        joined=joined,
        copies=copies,
        writes_copies=True,
        computed={"embed.positions": lambda: sinusoids(config.dim, config.grid)[None]},
    )


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from diffusers' config.json.

    Raises:
        ConfigError: a setting asks for what ours cannot do.
    """
    said = {**OLD_DEFAULTS, **theirs} if theirs.get("_class_name") == OLD_CLASS else theirs
    fields = translate(
        said,
        {
            "image_size": ("sample_size", 32),
            "patch_size": ("patch_size", 2),
            "depth": ("num_layers", 28),
            "num_heads": ("num_attention_heads", 16),
            "mlp_norm_eps": ("norm_eps", 1e-5),
            "in_channels": ("in_channels", 4),
            "num_classes": ("num_embeds_ada_norm", 1000),
        },
        {
            "norm_type": ("ada_norm_zero",),
            "activation_fn": ("gelu-approximate",),
            "attention_bias": (True,),
            "norm_elementwise_affine": (False,),
            "dropout": (0.0,),
        },
    )
    head_dim, out_channels = said.get("attention_head_dim", 72), said.get("out_channels")
    channels, heads = fields["in_channels"], fields["num_heads"]
    numbers = {"attention_head_dim": head_dim, "in_channels": channels, "num_attention_heads": heads}
    for name, value in numbers.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name} is {value!r}, and this architecture knows only whole numbers")
    if out_channels not in (None, channels, 2 * channels):
        raise ConfigError(
            f"out_channels is {out_channels!r}, and this architecture knows only {channels} or {2 * channels}"
        )
    dim = heads * head_dim
    learned_sigma = out_channels == 2 * channels
    return {**fields, "dim": dim, "mlp_dim": 4 * dim, "freq_shift": 1, "learned_sigma": learned_sigma}


FORMATS = {"diffusers": layout}
MODEL_TYPES = {"DiTTransformer2DModel": read_config, OLD_CLASS: read_config}
NAMES = {"diffusers": {"dit_xl_2": "facebook/DiT-XL-2-256", "dit_xl_2_512": "facebook/DiT-XL-2-512"}}
