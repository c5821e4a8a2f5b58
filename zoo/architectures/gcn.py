"""Graph convolutional network (Kipf and Welling, 2017), https://arxiv.org/abs/1609.02907.

Equation 2 and section 3.1: H' = activation(D^-1/2 A D^-1/2 H W), where A has a loop at every node and D is the
diagonal matrix of its row sums. A node's neighbours are those from which edges come to it; a graph without
directions has each edge both ways. As in torch_geometric, a loop among the edges does not count beside the node's
own, and an edge that stands there twice counts twice.

Differences from the paper: each layer has a bias, as in the released code and in torch_geometric; features are read
as they are, where the released code divides each row by its sum. Dropout is before every layer, the first included.
A `readout` over the nodes' logits, for whole graphs, is not in the paper.

Glossary: `nodes` is the paper's X, then H; `edges` are A's places; `dim` its H, the number of hidden units.

nodes: (num_nodes, in_features) float. edges: (2, num_edges) int64, source first. graph: (num_nodes,) int64.
Output: logits (num_nodes, num_classes), or (num_graphs, num_classes) where there is a readout and `graph` is given.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.message_passing import (
    check_graph,
    check_sizes,
    gathered,
    glorot,
    mapped,
    precise,
    read_out,
    small_graphs,
    sum_at,
)
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class GCNConfig:
    """The shape of a graph convolutional network; by default the one for Cora."""

    in_features: int = 1433
    dim: int = 16
    depth: int = 2
    """Convolutions, the head included."""
    num_classes: int = 7
    """0 leaves the head out: `forward` then gives the hidden nodes, (num_nodes, dim), or their readout."""
    dropout: float = 0.5
    """On the input of every convolution."""
    readout: Literal["sum", "mean", "max"] | None = None
    """How the logits of a graph's nodes become those of the graph; None is for nodes."""

    def __post_init__(self) -> None:
        """Refuse sizes that leave nothing."""
        check_sizes(self)


def normalisation(nodes: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """What the edges alone decide, once for all layers.

    Args:
        nodes: (num_nodes, ...), for their number and dtype.
        edges: (2, num_edges).

    Returns:
        The loops that each node has among the edges, and D^-1/2; both (num_nodes, 1).
    """
    source, target = edges.unbind()
    is_loop = (source == target).to(precise(nodes.dtype))
    both = sum_at(target, torch.stack((is_loop, 1 - is_loop), -1), nodes.shape[0])  # (num_nodes, 2)
    loops, others = both.split(1, -1)
    return loops.to(nodes.dtype), (1 + others).rsqrt().to(nodes.dtype)


class Convolution(nn.Module):
    """A weighted mean over a node and its neighbours, and a linear map: equation 2 without the activation."""

    def __init__(self, in_features: int, dim: int) -> None:
        """Keep the widths."""
        super().__init__()
        self.proj = nn.Linear(in_features, dim)

    def forward(self, nodes: Tensor, edges: Tensor, loops: Tensor, scale: Tensor) -> Tensor:
        """(num_nodes, in_features) -> (num_nodes, dim), with what `normalisation` gives."""

        def mix(x: Tensor) -> Tensor:
            sent = x * scale
            return (gathered(sent, edges) + (1 - loops) * sent) * scale  # of its loops, each node keeps one

        return mapped(self.proj, mix, nodes)


class GCN(nn.Module):
    """Convolutions with rectifiers between; the last one, the `head`, gives logits."""

    def __init__(self, config: GCNConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        widths = [config.in_features, *[config.dim] * (config.depth - 1)]
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Convolution(*pair) for pair in pairwise(widths))
        self.head = Convolution(widths[-1], config.num_classes) if config.num_classes else nn.Identity()

    def forward(
        self, nodes: Tensor, edges: Tensor, graph: Tensor | None = None, num_graphs: int | None = None
    ) -> Tensor:
        """Logits of nodes, or of graphs.

        Args:
            nodes: (num_nodes, in_features).
            edges: (2, num_edges), source first.
            graph: (num_nodes,), which graph each node belongs to; it is not read without a readout.
            num_graphs: how many graphs there are; None counts up to the last one that has a node.

        Returns:
            (num_nodes, num_classes), or (num_graphs, num_classes).
        """
        check_graph(self, nodes, edges, graph, num_graphs)
        known = normalisation(nodes, edges)
        for block in self.blocks:
            nodes = F.relu(block(self.dropout(nodes), edges, *known))
        if self.config.num_classes:
            nodes = self.head(self.dropout(nodes), edges, *known)
        return read_out(nodes, graph, num_graphs, self.config.readout)

    def init_weights(self) -> None:
        """Glorot and Bengio's uniform weights; biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                glorot(module.weight)
                nn.init.zeros_(module.bias)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, for so many graphs of equal size side by side."""
        return small_graphs(batch_size, self.config.in_features)


ARCHITECTURE = Architecture(
    name="gcn",
    model=GCN,
    config=GCNConfig,
    task="graph-ml",
    paper="https://arxiv.org/abs/1609.02907",
    tiny=GCNConfig(in_features=5, dim=8, depth=3, num_classes=3),
    presets={
        "gcn_citeseer": GCNConfig(in_features=3703, num_classes=6),
        "gcn_cora": GCNConfig(in_features=1433, num_classes=7),
        "gcn_pubmed": GCNConfig(in_features=500, num_classes=3),
    },
    params={"gcn": 23_063, "gcn_citeseer": 59_366, "gcn_cora": 23_063, "gcn_pubmed": 8_067},
    aliases={},
)
