"""GAT's names in torch_geometric's checkpoints.

Its model `GAT` has as many heads in the last layer as in the others; with another number, as for Cora, the names are
those of a row of `GATConv`.
"""

from zoo.architectures.gat import GATConfig
from zoo.convert.convs import layers, numbered
from zoo.convert.keymap import Layout

OLD = ((r"\.lin_(src|l)\.", ".lin."), (r"\.lin_r\.", ".lin_dst."), (r"\.att_l$", ".att_src"), (r"\.att_r$", ".att_dst"))
"""Releases before 2.5 had the matrix twice, as `lin_src` and `lin_dst`, and those before 2.0 as `lin_l` and `lin_r`."""


def layout(config: GATConfig) -> Layout:
    """`convs.0.att_src` is (1, heads, dim)."""
    renamed, shaped = {}, {}
    for ours, theirs in layers(config):
        heads, dim = config.num_heads, config.dim // config.num_heads
        if ours == "head":
            heads, dim = config.head_heads, config.num_classes
        renamed |= {f"{ours}.attn.proj": f"{theirs}.lin", f"{ours}.bias": f"{theirs}.bias"}
        for name, their in (("source", "att_src"), ("target", "att_dst")):
            renamed[f"{ours}.attn.{name}"] = f"{theirs}.{their}"
            shaped[f"{ours}.attn.{name}"] = (1, heads, dim)
    copies = {f"{theirs}.lin_dst.weight": f"{theirs}.lin.weight" for _, theirs in layers(config)}
    return Layout(renamed=renamed, shaped=shaped, copies=copies, respelt=(*numbered(config), *OLD))


FORMATS = {"torch_geometric": layout}
