"""GraphSAGE's names in torch_geometric's checkpoints."""

from zoo.architectures.graphsage import GraphSAGEConfig
from zoo.convert.convs import layers, numbered
from zoo.convert.keymap import Layout


def layout(config: GraphSAGEConfig) -> Layout:
    """`lin_l` reads the neighbours, `lin_r` the node, and `lin` comes before their maximum."""
    renamed = {}
    for ours, theirs in layers(config):
        renamed |= {f"{ours}.proj": f"{theirs}.lin_l", f"{ours}.shortcut": f"{theirs}.lin_r"}
        renamed[f"{ours}.pool"] = f"{theirs}.lin"
    return Layout(renamed=renamed, respelt=numbered(config))


FORMATS = {"torch_geometric": layout}
