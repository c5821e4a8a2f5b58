"""GCN's names in torch_geometric's checkpoints, which keep a layer's matrix and bias apart."""

from zoo.architectures.gcn import GCNConfig
from zoo.convert.convs import layers, numbered
from zoo.convert.keymap import Layout


def layout(config: GCNConfig) -> Layout:
    """`convs.0.lin.weight` and `convs.0.bias`; before release 2.0 the matrix was `weight`, of (in, out)."""
    renamed = {}
    for ours, theirs in layers(config):
        renamed |= {f"{ours}.proj.weight": f"{theirs}.lin.weight", f"{ours}.proj.bias": f"{theirs}.bias"}
    turned = {f"{theirs}.weight": f"{theirs}.lin.weight" for _, theirs in layers(config)}
    return Layout(renamed=renamed, turned=turned, respelt=numbered(config))


FORMATS = {"torch_geometric": layout}
