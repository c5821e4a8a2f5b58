"""GIN's names in torch_geometric's checkpoints."""

from zoo.architectures.gin import GINConfig
from zoo.convert.convs import layers, numbered
from zoo.convert.keymap import Layout, require

BARE = (r"(norms\.\d+)\.(?!module\.)", r"\1.module.")
"""Today's norms wrap torch's; those of old releases, or given as modules, do not."""


def layout(config: GINConfig) -> Layout:
    """`convs.0.nn.lins.0` is the first layer of the first MLP, which always has two; `norms.0` follows the MLP."""
    require("torch_geometric", config, mlp_depth=2)
    renamed = {}
    for i, (ours, theirs) in enumerate(layers(config)):
        conv = ours if ours == "head" else f"{ours}.conv"
        renamed |= {
            f"{conv}.eps": f"{theirs}.eps",
            f"{conv}.proj": f"{theirs}.nn.lins.0",
            f"{conv}.mlp.0": f"{theirs}.nn.norms.0.module",
            f"{conv}.mlp.2": f"{theirs}.nn.lins.1",
        }
        if ours != "head":
            renamed[f"{ours}.norm"] = f"norms.{i}.module"
    return Layout(renamed=renamed, respelt=(*numbered(config), BARE))


FORMATS = {"torch_geometric": layout}
