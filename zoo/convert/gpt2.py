"""GPT-2's names in transformers' checkpoints, whose matrices stand the other way round."""

import warnings
from collections.abc import Mapping
from typing import Any

from zoo.architectures.gpt2 import GPT2Config
from zoo.convert.keymap import Layout
from zoo.convert.translate import translate

MATRICES = {"attn.qkv": "attn.c_attn", "attn.proj": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.proj": "mlp.c_proj"}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def layout(config: GPT2Config) -> Layout:
    """`transformer.h.0.attn.c_attn` is what makes queries, keys and values in the first block."""
    renamed = {"embed": "transformer.wte", "position": "transformer.wpe", "norm": "transformer.ln_f", "head": "lm_head"}
    transposed = set()
    for block in range(config.depth):
        ours, theirs = f"blocks.{block}", f"transformer.h.{block}"
        renamed |= {f"{ours}.norm1": f"{theirs}.ln_1", f"{ours}.norm2": f"{theirs}.ln_2"}
        renamed |= {f"{ours}.{name}": f"{theirs}.{their}" for name, their in MATRICES.items()}
        transposed |= {f"{ours}.{name}.weight" for name in MATRICES}
    return Layout(
        renamed=renamed,
        transposed=transposed,
        copies={"lm_head.weight": "transformer.wte.weight"} if config.tie_embeddings else {},
        unused=(r"transformer\.h\.\d+\.attn\.(bias|masked_bias)",),  # the causal mask, of old releases
        respelt=((r"^(?=(wte|wpe|h|ln_f)\.)", "transformer."),),
    )


def read_config(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """Our fields from transformers' config.json; of three dropouts, the residual stream's is that of all."""
    width, dropouts = theirs.get("n_embd", 768), {name: theirs.get(name, 0.1) for name in DROPOUTS}
    if any(rate != dropouts["resid_pdrop"] for rate in dropouts.values()):
        said = ", ".join(f"{name} {rate}" for name, rate in dropouts.items())
        warnings.warn(f"{said}: this architecture has one dropout, the first; training may want another", stacklevel=2)
    return translate(
        theirs,
        {
            "vocab_size": ("vocab_size", 50257),
            "max_seq_len": ("n_positions", 1024),
            "dim": ("n_embd", 768),
            "depth": ("n_layer", 12),
            "num_heads": ("n_head", 12),
            "dropout": ("resid_pdrop", 0.1),
            "norm_eps": ("layer_norm_epsilon", 1e-5),
            "tie_embeddings": ("tie_word_embeddings", True),
        },
        {
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "n_inner": (None, 4 * width if isinstance(width, int) else None),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
    )


FORMATS = {"transformers": layout}
MODEL_TYPES = {"gpt2": read_config}
NAMES = {
    "transformers": {"gpt2": "gpt2", "gpt2_medium": "gpt2-medium", "gpt2_large": "gpt2-large", "gpt2_xl": "gpt2-xl"}
}
