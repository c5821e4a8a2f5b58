"""GraphSAGE (Hamilton, Ying and Leskovec, 2017), https://arxiv.org/abs/1706.02216.

Algorithm 1: h_v = activation(W [h_v, AGGREGATE of its neighbours]), written as a matrix for each half. The aggregate is
the mean of the neighbours, or as in equation 3 the largest of activation(W_pool h_u + b), feature by feature; where
there is no neighbour it is 0. The defaults are for the posts of Reddit.

As in torch_geometric, neighbours are those from which edges come, and every edge counts, loops too. Differences from
the paper: all neighbours are read, while sampling them is up to the data; each layer has a bias; `normalize`, the
paper's line 7, acts before the rectifier and on the logits too, and is therefore off by default; the aggregate of
an LSTM is not built. The released code gives half of a layer's width to the node and half to its neighbours. A
`readout` over the nodes' logits, for whole graphs, is not in the paper.

Glossary: `nodes` is the paper's h_v, `depth` its K.

nodes: (num_nodes, in_features) float. edges: (2, num_edges) int64, source first. graph: (num_nodes,) int64.
Output: logits (num_nodes, num_classes), or (num_graphs, num_classes) where there is a readout and `graph` is given.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.message_passing import (
    check_graph,
    check_sizes,
    count_at,
    gathered,
    glorot,
    largest_at,
    mapped,
    read_out,
    small_graphs,
)
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class GraphSAGEConfig:
    """The shape of a GraphSAGE; by default one for Reddit."""

    in_features: int = 602
    dim: int = 256
    depth: int = 2
    """Convolutions, the head included."""
    aggregation: Literal["mean", "max", "pool"] = "mean"
    """`pool` is the paper's: the maximum after a linear layer and a rectifier; `max` is the maximum alone."""
    normalize: bool = False
    """Divide every output of a convolution by its length."""
    num_classes: int = 41
    """0 leaves the head out: `forward` then gives the hidden nodes, (num_nodes, dim), or their readout."""
    dropout: float = 0.0
    """After each hidden convolution."""
    readout: Literal["sum", "mean", "max"] | None = None
    """How the logits of a graph's nodes become those of the graph; None is for nodes."""

    def __post_init__(self) -> None:
        """Refuse sizes that leave nothing."""
        check_sizes(self)


class Convolution(nn.Module):
    """One matrix for a node and one for the aggregate of its neighbours: lines 4 and 5 without the activation."""

    def __init__(self, in_features: int, dim: int, config: GraphSAGEConfig) -> None:
        """Build from the widths and a config."""
        super().__init__()
        self.aggregation, self.normalize = config.aggregation, config.normalize
        self.pool = nn.Linear(in_features, in_features) if config.aggregation == "pool" else None
        self.proj = nn.Linear(in_features, dim)
        self.shortcut = nn.Linear(in_features, dim, bias=False)

    def forward(self, nodes: Tensor, edges: Tensor, share: Tensor) -> Tensor:
        """(num_nodes, in_features) -> (num_nodes, dim), with `share` (num_nodes, 1), what a neighbour is of a mean."""
        if self.aggregation == "mean":
            around = mapped(self.proj, lambda x: gathered(x, edges) * share, nodes)
        else:
            source, target = edges.unbind()
            sent = nodes if self.pool is None else F.relu(self.pool(nodes))
            around = self.proj(largest_at(target, sent.index_select(0, source), nodes.shape[0]))
        x = around + self.shortcut(nodes)
        return F.normalize(x, dim=-1) if self.normalize else x


class GraphSAGE(nn.Module):
    """Convolutions with rectifiers between; the last one, the `head`, gives logits."""

    def __init__(self, config: GraphSAGEConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        widths = [config.in_features, *[config.dim] * (config.depth - 1)]
        self.blocks = nn.ModuleList(Convolution(*pair, config) for pair in pairwise(widths))
        self.dropout = nn.Dropout(config.dropout)
        self.head = Convolution(widths[-1], config.num_classes, config) if config.num_classes else nn.Identity()

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
        share = count_at(edges[1], nodes.shape[0], nodes.dtype).clamp(min=1).reciprocal().to(nodes.dtype)
        for block in self.blocks:
            nodes = self.dropout(F.relu(block(nodes, edges, share)))
        if self.config.num_classes:
            nodes = self.head(nodes, edges, share)
        return read_out(nodes, graph, num_graphs, self.config.readout)

    def init_weights(self) -> None:
        """Glorot and Bengio's uniform weights; biases are zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                glorot(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, for so many graphs of equal size side by side."""
        return small_graphs(batch_size, self.config.in_features)


ARCHITECTURE = Architecture(
    name="graphsage",
    model=GraphSAGE,
    config=GraphSAGEConfig,
    task="graph-ml",
    paper="https://arxiv.org/abs/1706.02216",
    tiny=GraphSAGEConfig(in_features=5, dim=8, depth=3, aggregation="pool", num_classes=3),
    presets={
        "graphsage_ppi": GraphSAGEConfig(in_features=50, num_classes=121),
        "graphsage_reddit": GraphSAGEConfig(in_features=602, num_classes=41),
    },
    params={"graphsage": 329_513, "graphsage_ppi": 87_929, "graphsage_reddit": 329_513},
    aliases={},
)
