"""ViT's names in the checkpoints of timm and torchvision."""

from zoo.architectures.vit import ViTConfig
from zoo.convert.keymap import Layout, require

HEADS = {768: 12, 1024: 16, 1280: 16}
"""The width of torchvision's networks and their heads, which their tensors do not show."""


def timm(config: ViTConfig) -> Layout:
    """Almost ours; DeiT's second token stands by itself."""
    if config.distilled:
        require("timm", config, pool="token", class_position=True)
    renamed = {
        "embed.class_token": "cls_token",
        "embed.teacher_token": "dist_token",
        "embed.patch": "patch_embed.proj",
        "embed.positions": "pos_embed",
        "norm": "fc_norm" if config.pool == "mean" else "norm",
        "aux_heads.0.head": "head_dist",
    }
    for i in range(config.depth):
        renamed |= {
            f"blocks.{i}.mlp.up": f"blocks.{i}.mlp.fc1",
            f"blocks.{i}.mlp.down": f"blocks.{i}.mlp.fc2",
            f"blocks.{i}.scale1.weight": f"blocks.{i}.ls1.gamma",
            f"blocks.{i}.scale2.weight": f"blocks.{i}.ls2.gamma",
        }
    return Layout(renamed=renamed)


def torchvision(config: ViTConfig) -> Layout:
    """Queries, keys and values are one matrix here too, as in nn.MultiheadAttention."""
    require("torchvision", config, pool="token", distilled=False, class_position=True, layer_scale=None)
    require("torchvision", config, num_heads=HEADS.get(config.dim, config.num_heads))
    renamed = {
        "embed.class_token": "class_token",
        "embed.patch": "conv_proj",
        "embed.positions": "encoder.pos_embedding",
        "norm": "encoder.ln",
        "head": "heads.head",
    }
    for i in range(config.depth):
        ours, theirs = f"blocks.{i}", f"encoder.layers.encoder_layer_{i}"
        renamed |= {
            f"{ours}.norm1": f"{theirs}.ln_1",
            f"{ours}.attn.qkv.weight": f"{theirs}.self_attention.in_proj_weight",
            f"{ours}.attn.qkv.bias": f"{theirs}.self_attention.in_proj_bias",
            f"{ours}.attn.proj": f"{theirs}.self_attention.out_proj",
            f"{ours}.norm2": f"{theirs}.ln_2",
            f"{ours}.mlp.up": f"{theirs}.mlp.0",
            f"{ours}.mlp.down": f"{theirs}.mlp.3",
        }
    return Layout(renamed=renamed)


FORMATS = {"timm": timm, "torchvision": torchvision}

NAMES = {
    "torchvision": ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14"),
    "timm": {
        "vit_ti_16": "vit_tiny_patch16_224",
        "vit_s_16": "vit_small_patch16_224",
        "vit_s_32": "vit_small_patch32_224",
        "vit_b_16": "vit_base_patch16_224",
        "vit_b_32": "vit_base_patch32_224",
        "vit_b_8": "vit_base_patch8_224",
        "vit_l_16": "vit_large_patch16_224",
        "vit_l_32": "vit_large_patch32_224",
        "vit_h_14": "vit_huge_patch14_224",
        "vit_s_16_384": "vit_small_patch16_384",
        "vit_b_16_384": "vit_base_patch16_384",
        "vit_l_16_384": "vit_large_patch16_384",
        "deit_ti_16": "deit_tiny_patch16_224",
        "deit_s_16": "deit_small_patch16_224",
        "deit_b_16": "deit_base_patch16_224",
        "deit_ti_16_distilled": "deit_tiny_distilled_patch16_224",
        "deit_s_16_distilled": "deit_small_distilled_patch16_224",
        "deit_b_16_distilled": "deit_base_distilled_patch16_224",
        "deit3_s_16": "deit3_small_patch16_224",
        "deit3_b_16": "deit3_base_patch16_224",
        "deit3_l_16": "deit3_large_patch16_224",
        "mae_b_16": "vit_base_patch16_224.mae",
        "mae_l_16": "vit_large_patch16_224.mae",
        "mae_h_14": "vit_huge_patch14_224.mae",
    },
}
"""The presets that the libraries have, and their names where they differ; a tag stands for these weights alone."""
