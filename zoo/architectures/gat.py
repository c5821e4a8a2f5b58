"""Graph attention network (Velickovic, Cucurull, Casanova, Romero, Lio and Bengio, 2018), https://arxiv.org/abs/1710.10903.

Equations 1 to 6 and section 3.3: each node takes a weighted mean of itself and its neighbours, where a weight is the
softmax of LeakyReLU(a . [W h_i, W h_j]); several heads stand side by side, and those of the head are averaged. The
defaults are the network for Cora.

As in torch_geometric, neighbours are those from which edges come, a loop among the edges does not count beside the
node's own, and an edge that stands there twice has two weights. Differences from the paper: the larger network for
PPI, whose layers have shortcuts, is not built; a `readout` over the nodes' logits, for whole graphs, is ours.

Glossary: `source` and `target` are the two halves of the paper's vector a, for the node that is read and for the
one that reads; `dim` is K F', the width of all heads together.

nodes: (num_nodes, in_features) float. edges: (2, num_edges) int64, source first. graph: (num_nodes,) int64.
Output: logits (num_nodes, num_classes), or (num_graphs, num_classes) where there is a readout and `graph` is given.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.message_passing import check_graph, check_sizes, glorot, precise, read_out, small_graphs, sum_at
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class GATConfig:
    """The shape of a graph attention network; by default the one for Cora."""

    in_features: int = 1433
    dim: int = 64
    """The width of a hidden layer, all heads together."""
    depth: int = 2
    """Layers, the head included."""
    num_heads: int = 8
    """Of each hidden layer."""
    head_heads: int = 1
    """Of the head, where they are averaged."""
    num_classes: int = 7
    """0 leaves the head out: `forward` then gives the hidden nodes, (num_nodes, dim), or their readout."""
    dropout: float = 0.6
    """On the input of every layer."""
    attn_dropout: float = 0.6
    """On the weights of the neighbours."""
    negative_slope: float = 0.2
    """Of the rectifier before the softmax."""
    readout: Literal["sum", "mean", "max"] | None = None
    """How the logits of a graph's nodes become those of the graph; None is for nodes."""

    def __post_init__(self) -> None:
        """Refuse sizes that leave nothing, or do not divide."""
        check_sizes(self)
        for name in ("num_heads", "head_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")
        if self.dim % self.num_heads:
            raise ValueError(f"dim {self.dim} is not divisible by num_heads {self.num_heads}")
        if not 0 <= self.attn_dropout < 1:
            raise ValueError(f"attn_dropout {self.attn_dropout} is not in [0, 1)")


def softmax(scores: Tensor, own: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
    """Equation 3: weights that add up to 1 over the edges that come to a node, and the node itself.

    Args:
        scores: (num_edges, heads); of loops they are not read.
        own: (num_nodes, heads), of each node for itself.
        edges: (2, num_edges).

    Returns:
        The weights of both, in their shapes and dtype; loops have none.
    """
    source, target = edges.unbind()
    dtype = precise(scores.dtype)
    wide, mine = scores.to(dtype).masked_fill((source == target)[:, None], -torch.inf), own.to(dtype)
    where = target[:, None].expand_as(wide)
    largest = mine.detach().scatter_reduce(0, where, wide.detach(), "amax")  # for exp not to overflow
    wide, mine = (wide - largest.index_select(0, target)).exp(), (mine - largest).exp()
    total = mine + sum_at(target, wide, mine.shape[0])
    return (wide / total.index_select(0, target)).to(scores.dtype), (mine / total).to(own.dtype)


class Attention(nn.Module):
    """Each node looks at itself and at those from which edges come: equation 5 without the activation, or 6."""

    def __init__(self, in_features: int, dim: int, num_heads: int, attn_dropout: float, negative_slope: float) -> None:
        """Build it for heads of width `dim` each."""
        super().__init__()
        self.num_heads, self.negative_slope = num_heads, negative_slope
        self.proj = nn.Linear(in_features, num_heads * dim, bias=False)
        self.source = nn.Parameter(torch.empty(num_heads, dim))
        self.target = nn.Parameter(torch.empty(num_heads, dim))
        self.dropout = nn.Dropout(attn_dropout)

    def reset_parameters(self) -> None:
        """Glorot's weights, those of the scores included."""
        glorot(self.proj.weight, self.source, self.target)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(num_nodes, in_features) -> (num_nodes, heads, dim)."""
        source, target = edges.unbind()
        x = self.proj(nodes).unflatten(1, (self.num_heads, -1))
        sent, read = (x * self.source).sum(-1), (x * self.target).sum(-1)  # (num_nodes, heads)
        scores = F.leaky_relu(sent.index_select(0, source) + read.index_select(0, target), self.negative_slope)
        weights, own = softmax(scores, F.leaky_relu(sent + read, self.negative_slope), edges)
        weights, own = self.dropout(weights)[..., None], self.dropout(own)[..., None]
        return own * x + sum_at(target, weights * x.index_select(0, source), x.shape[0])


class Layer(nn.Module):
    """Attention whose heads stand side by side."""

    def __init__(self, in_features: int, config: GATConfig) -> None:
        """Build a hidden layer."""
        super().__init__()
        width = config.dim // config.num_heads
        self.attn = Attention(in_features, width, config.num_heads, config.attn_dropout, config.negative_slope)
        self.bias = nn.Parameter(torch.empty(config.dim))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(num_nodes, in_features) -> (num_nodes, dim)."""
        return self.attn(nodes, edges).flatten(1) + self.bias


class Head(nn.Module):
    """Attention whose heads are averaged."""

    def __init__(self, in_features: int, config: GATConfig) -> None:
        """Build the last layer."""
        super().__init__()
        self.attn = Attention(
            in_features, config.num_classes, config.head_heads, config.attn_dropout, config.negative_slope
        )
        self.bias = nn.Parameter(torch.empty(config.num_classes))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(num_nodes, in_features) -> (num_nodes, num_classes)."""
        return self.attn(nodes, edges).mean(1) + self.bias


class GAT(nn.Module):
    """Attention layers with exponential linear units between; the last one, the `head`, gives logits."""

    def __init__(self, config: GATConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        widths = [config.in_features, *[config.dim] * (config.depth - 1)]
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Layer(width, config) for width in widths[:-1])
        self.head = Head(widths[-1], config) if config.num_classes else nn.Identity()

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
        for block in self.blocks:
            nodes = F.elu(block(self.dropout(nodes), edges))
        if self.config.num_classes:
            nodes = self.head(self.dropout(nodes), edges)
        return read_out(nodes, graph, num_graphs, self.config.readout)

    def init_weights(self) -> None:
        """Glorot and Bengio's uniform weights, those of attention included; biases are zero."""
        for module in self.modules():
            if isinstance(module, Attention):
                module.reset_parameters()
            elif isinstance(module, Layer | Head):
                nn.init.zeros_(module.bias)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, for so many graphs of equal size side by side."""
        return small_graphs(batch_size, self.config.in_features)


ARCHITECTURE = Architecture(
    name="gat",
    model=GAT,
    config=GATConfig,
    task="graph-ml",
    paper="https://arxiv.org/abs/1710.10903",
    tiny=GATConfig(in_features=5, dim=8, depth=3, num_heads=2, head_heads=2, num_classes=3),
    presets={
        "gat_citeseer": GATConfig(in_features=3703, num_classes=6),
        "gat_cora": GATConfig(in_features=1433, num_classes=7),
        "gat_pubmed": GATConfig(in_features=500, num_classes=3, head_heads=8),
    },
    params={"gat": 92_373, "gat_citeseer": 237_586, "gat_cora": 92_373, "gat_pubmed": 33_779},
    aliases={},
)
