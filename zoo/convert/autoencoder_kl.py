"""AutoencoderKL's names in the checkpoints of diffusers."""

from collections.abc import Mapping
from typing import Any

from zoo.architectures.autoencoder_kl import AutoencoderKLConfig
from zoo.convert.keymap import Layout
from zoo.convert.translate import translate

OLD = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
"""The attention's matrices in the files of early releases, as most on the Hub are, and today."""


def layout(config: AutoencoderKLConfig) -> Layout:
    """`encoder.down_blocks.0.resnets.1` is the second block of the finest stage."""
    renamed = {"quant": "quant_conv", "post_quant": "post_quant_conv"}
    joined: dict[str, tuple[str, ...]] = {}
    for half, way, depth in (("encoder", "down", config.depth), ("decoder", "up", config.depth + 1)):
        renamed |= {
            f"{half}.stem": f"{half}.conv_in",
            f"{half}.norm": f"{half}.conv_norm_out",
            f"{half}.head": f"{half}.conv_out",
            f"{half}.mid.block1": f"{half}.mid_block.resnets.0",
            f"{half}.mid.block2": f"{half}.mid_block.resnets.1",
            f"{half}.mid.attn.norm": f"{half}.mid_block.attentions.0.group_norm",
            f"{half}.mid.attn.proj": f"{half}.mid_block.attentions.0.to_out.0",
        }
        for kind in ("weight", "bias"):
            joined[f"{half}.mid.attn.qkv.{kind}"] = tuple(
                f"{half}.mid_block.attentions.0.{name}.{kind}" for name in ("to_q", "to_k", "to_v")
            )
        for stage in range(len(config.widths)):
            ours, theirs = f"{half}.stages.{stage}", f"{half}.{way}_blocks.{stage}"
            renamed[f"{ours}.resample"] = f"{theirs}.{way}samplers.0"
            for block in range(depth):
                renamed[f"{ours}.blocks.{block}"] = f"{theirs}.resnets.{block}"
                renamed[f"{ours}.blocks.{block}.shortcut"] = f"{theirs}.resnets.{block}.conv_shortcut"
    return Layout(
        renamed=renamed,
        joined=joined,
        respelt=tuple((rf"(mid_block\.attentions\.0)\.{old}\.", rf"\1.{new}.") for old, new in OLD.items()),
    )


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from diffusers' config.json.

    Raises:
        ConfigError: a setting asks for what ours cannot do.
    """
    stages = len(theirs.get("block_out_channels", (64,)))
    quant = theirs.get("use_quant_conv", True)
    fields = translate(
        {"out_channels": 3, **theirs},
        {
            "in_channels": ("in_channels", 3),
            "latent_dim": ("latent_channels", 4),
            "widths": ("block_out_channels", (64,)),
            "depth": ("layers_per_block", 1),
            "groups": ("norm_num_groups", 32),
            "quant": ("use_quant_conv", True),
        },
        {
            "act_fn": ("silu",),
            "out_channels": (theirs.get("in_channels", 3),),
            "use_post_quant_conv": (quant,),
            "mid_block_add_attention": (True,),
            "down_block_types": (["DownEncoderBlock2D"] * stages,),
            "up_block_types": (["UpDecoderBlock2D"] * stages,),
        },
    )
    return {**fields, "widths": tuple(fields["widths"])}


FORMATS = {"diffusers": layout}
MODEL_TYPES = {"AutoencoderKL": read_config}
NAMES = {"diffusers": {"sd_vae": "stabilityai/sd-vae-ft-mse", "sd3_vae": "stabilityai/stable-diffusion-3-medium"}}
