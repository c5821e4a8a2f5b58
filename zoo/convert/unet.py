"""The U-Net's names in diffusers' checkpoints of UNet2DModel, old spellings included."""

from collections.abc import Mapping, Sequence
from typing import Any

from zoo.architectures.unet import TIME, UNetConfig
from zoo.config import ConfigError
from zoo.convert.keymap import Layout, require
from zoo.convert.translate import translate

BLOCKS = {
    "DownBlock2D": (False, "conv"), "AttnDownBlock2D": (True, None), "ResnetDownsampleBlock2D": (False, "resnet"),
    "UpBlock2D": (False, "conv"), "AttnUpBlock2D": (True, None), "ResnetUpsampleBlock2D": (False, "resnet"),
}  # fmt: skip
"""Their names of a level: whether it has attention, and what resamples; None: what the config says."""
AVERAGE = ("decay", "inv_gamma", "min_decay", "optimization_step", "power", "update_after_step", "use_ema_warmup")
"""What diffusers writes into the config of averaged weights; it says how they were averaged."""
RENAMED = {
    "image_size": ("sample_size", None),
    "in_channels": ("in_channels", 3),
    "channels": ("block_out_channels", (224, 448, 672, 896)),
    "depth": ("layers_per_block", 2),
    "head_dim": ("attention_head_dim", 8),
    "freq_shift": ("freq_shift", 0),
    "cosine_first": ("flip_sin_to_cos", True),
    "norm_groups": ("norm_num_groups", 32),
    "norm_eps": ("norm_eps", 1e-5),
    "dropout": ("dropout", 0.0),
}
"""Our field -> theirs, and what silence means."""
FIXED: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "act_fn": ("silu", "swish"),
    "add_attention": (True,),
    "class_embed_type": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "downsample_padding": (1, 0),
    "downsample_type": ("conv", "resnet", None),
    "upsample_type": ("conv", "resnet", None),
}
"""Their field -> the values that ours can be."""
READ = (
    "out_channels", "down_block_types", "up_block_types", "time_embedding_dim", "attn_norm_num_groups",
    "num_class_embeds", "num_train_timesteps",
)  # fmt: skip
"""Further fields of theirs; the last has no effect beside these."""


def layout(config: UNetConfig) -> Layout:
    """`down_blocks.0.resnets.1` is the first level's second block, `down_blocks.0.attentions.1` its attention."""
    if config.head_dim is None:
        require("diffusers", config, num_heads=1)  # theirs have a width, and may then differ in number
    renamed = {
        "stem": "conv_in", "time_embed.up": "time_embedding.linear_1", "time_embed.proj": "time_embedding.linear_2",
        "label_embed": "class_embedding", "norm": "conv_norm_out", "head": "conv_out",
    }  # fmt: skip
    joined: dict[str, tuple[str, ...]] = {}
    levels, depth = len(config.channels), config.depth
    for ours in range(2 * levels + 1):
        theirs, count, resampler = f"down_blocks.{ours}", depth, "downsamplers"
        if ours == levels:
            theirs, count = "mid_block", 2
        elif ours > levels:
            theirs, count, resampler = f"up_blocks.{ours - levels - 1}", depth + 1, "upsamplers"
        names = {f"stages.{ours}.{block}": f"{theirs}.resnets.{block}" for block in range(count)}
        for our, their in {**names, f"stages.{ours}.{count}": f"{theirs}.{resampler}.0"}.items():
            renamed |= {
                our: their,
                f"{our}.time": f"{their}.time_emb_proj",
                f"{our}.shortcut": f"{their}.conv_shortcut",
            }
            attention = their.replace("resnets", "attentions")
            renamed |= {f"{our}.attn.norm": f"{attention}.group_norm", f"{our}.attn.proj": f"{attention}.to_out.0"}
            for part in ("weight", "bias"):
                joined[f"{our}.attn.qkv.{part}"] = tuple(f"{attention}.to_{which}.{part}" for which in "qkv")
    return Layout(
        renamed=renamed,
        joined=joined,
        respelt=(
            (r"\.(q)uery\.|\.(k)ey\.|\.(v)alue\.", r".to_\1\2\3."),
            (r"\.proj_attn\.", ".to_out.0."),
        ),
    )


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from diffusers' config.json of a UNet2DModel.

    Raises:
        ConfigError: a setting asks for what ours cannot do, or is none of diffusers'.
    """
    known = {*(their for their, _ in RENAMED.values()), *FIXED, *READ, *AVERAGE}
    if odd := [name for name in theirs if name not in known and not name.startswith("_")]:
        raise ConfigError(f"{odd[0]!r} is no setting of a UNet2DModel; remove it if it means nothing")
    fields = translate(theirs, RENAMED, FIXED)
    levels, groups = fields["channels"], fields["norm_groups"]
    if not isinstance(levels, Sequence) or not levels or not all(isinstance(channels, int) for channels in levels):
        raise ConfigError(f"block_out_channels is {levels!r}; expected whole numbers, one for each level")
    shifts, adaptive = theirs.get("resnet_time_scale_shift") == "scale_shift", theirs.get("attn_norm_num_groups")
    translate(  # what follows from other settings
        {"attn_norm_num_groups": adaptive, "time_embedding_dim": theirs.get("time_embedding_dim")},
        {},
        {
            "attn_norm_num_groups": (groups,) if shifts else (None, groups),  # theirs has else no norm in the middle
            "time_embedding_dim": (None, TIME * levels[0]),
        },
    )
    attention, resample = _levels(theirs, len(levels))
    out_channels, classes = theirs.get("out_channels", 3), theirs.get("num_class_embeds")
    padding = "end" if resample == "block" or theirs.get("downsample_padding", 1) == 0 else "both"
    return {
        **fields,
        "image_size": _image_size(fields["image_size"], len(levels)),
        "out_channels": None if out_channels == fields["in_channels"] else out_channels,
        "attention_levels": attention,
        "num_classes": 0 if classes is None else classes,
        "null_label": classes is None,  # theirs cannot say what a label means
        "scale_shift": shifts,
        "resample": resample,
        "downsample_padding": padding,
    }


def _levels(theirs: Mapping[str, Any], count: int) -> tuple[tuple[int, ...], str]:
    """The levels that have attention, and what resamples."""
    down = theirs.get("down_block_types", ("DownBlock2D", *["AttnDownBlock2D"] * 3))
    up = theirs.get("up_block_types", (*["AttnUpBlock2D"] * 3, "UpBlock2D"))
    found: list[list[tuple[bool, Any]]] = []
    for way, given in (("Down", down), ("Up", up)):
        names = given if isinstance(given, list | tuple) else [given]
        names = [str(name).removeprefix("UNetRes") for name in names]
        if len(names) != count or not all(name in BLOCKS and way in name for name in names):
            known = ", ".join(name for name in BLOCKS if way in name)
            raise ConfigError(f"{way.lower()}_block_types is {names}, and ours has {count} levels of {known}")
        usual = theirs.get(f"{way.lower()}sample_type") or "conv"
        found.append([(attends, resampler or usual) for attends, resampler in map(BLOCKS.__getitem__, names)])
    inner = {resampler for levels in found for _, resampler in levels[:-1]}  # the last of either has none
    attention = [[attends for attends, _ in levels] for levels in found]
    if len(inner) > 1 or attention[0] != attention[1][::-1]:
        raise ConfigError(
            f"down_block_types {[*down]} and up_block_types {[*up]} differ in attention, or in what resamples (see "
            "downsample_type and upsample_type), and this architecture has the same on the way down and up"
        )
    return tuple(level for level in range(count) if attention[0][level]), "block" if inner == {"resnet"} else "conv"


def _image_size(sample_size: Any, levels: int) -> Any:
    """Their height and width; where they give none, any that can be halved often enough."""
    if sample_size is None:
        return max(UNetConfig.image_size, 2 ** (levels - 1))
    if isinstance(sample_size, list | tuple) and len(sample_size) == 2 and sample_size[0] == sample_size[1]:
        return sample_size[0]
    return sample_size


FORMATS = {"diffusers": layout}
MODEL_TYPES = {"UNet2DModel": read_config}
NAMES = {
    "diffusers": {
        "ddpm_cifar10_32": "google/ddpm-cifar10-32",
        "ddpm_celebahq_256": "google/ddpm-celebahq-256",
        "ddpm_church_256": "google/ddpm-church-256",
        "ddpm_bedroom_256": "google/ddpm-bedroom-256",
        "ddpm_cat_256": "google/ddpm-cat-256",
    }
}
