"""Graph isomorphism network (Xu, Hu, Leskovec and Jegelka, 2019), https://arxiv.org/abs/1810.00826.

Equation 4.1: h_v = MLP((1 + eps) h_v + the sum of its neighbours), where a sum, unlike a mean or a maximum, keeps how
often each neighbour occurs, so that the network tells graphs apart as well as the Weisfeiler-Lehman test does. By
default eps is fixed at 0, the paper's GIN-0, which it found best.

As in torch_geometric, neighbours are those from which edges come, and every edge counts, loops too. Differences from
the paper: only the last layer is read out, by the `readout` over its logits, where the paper reads out every layer,
the features included, and adds up what a linear map makes of each (equation 4.2); and the last layer is an MLP of
its own. This is the network that torch_geometric has. The paper's batch norms are the default; `norm=None`
leaves them out. Dropout is after each hidden layer.

Glossary: `nodes` is the paper's h_v, `depth` its K; `mlp_depth` the linear layers of one MLP.

nodes: (num_nodes, in_features) float. edges: (2, num_edges) int64, source first. graph: (num_nodes,) int64.
Output: logits (num_nodes, num_classes), or (num_graphs, num_classes) where there is a readout and `graph` is given.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.message_passing import check_graph, check_sizes, gathered, glorot, mapped, read_out, small_graphs
from zoo.registry import Architecture


@dataclass(frozen=True, kw_only=True)
class GINConfig:
    """The shape of a graph isomorphism network; by default one for the molecules of MUTAG."""

    in_features: int = 7
    """Of MUTAG: one for each kind of atom."""
    dim: int = 64
    depth: int = 5
    """Convolutions, the head included."""
    mlp_depth: int = 2
    """Linear layers in each convolution; 1 is the paper's 1-layer perceptron, which is weaker (section 5.2)."""
    norm: Literal["batch"] | None = "batch"
    """After every linear layer but the head's last one."""
    eps: float = 0.0
    """What a node counts more than a neighbour; where it is learnt, what it starts from."""
    learn_eps: bool = False
    num_classes: int = 2
    """0 leaves the head out: `forward` then gives the hidden nodes, (num_nodes, dim), or their readout."""
    dropout: float = 0.0
    """After each hidden convolution."""
    readout: Literal["sum", "mean", "max"] | None = "sum"
    """How the logits of a graph's nodes become those of the graph; None is for nodes."""

    def __post_init__(self) -> None:
        """Refuse sizes that leave nothing."""
        check_sizes(self)
        if self.mlp_depth < 1:
            raise ValueError(f"mlp_depth {self.mlp_depth} is below 1")


def normalised(dim: int, norm: str | None) -> nn.Module:
    """The norm of one layer's outputs."""
    return nn.Identity() if norm is None else nn.BatchNorm1d(dim)


class Convolution(nn.Module):
    """A sum over a node and its neighbours, and an MLP: equation 4.1. `proj` is the MLP's first layer."""

    def __init__(self, in_features: int, dim: int, config: GINConfig) -> None:
        """Build from the widths and a config."""
        super().__init__()
        eps = torch.empty(1)
        if config.learn_eps:
            self.eps = nn.Parameter(eps)
        else:
            self.register_buffer("eps", eps)
        self.proj = nn.Linear(in_features, dim)
        later = [(normalised(dim, config.norm), nn.ReLU(), nn.Linear(dim, dim)) for _ in range(config.mlp_depth - 1)]
        self.mlp = nn.Sequential(*(layer for layers in later for layer in layers))

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(num_nodes, in_features) -> (num_nodes, dim)."""
        return self.mlp(mapped(self.proj, lambda x: gathered(x, edges) + (1 + self.eps) * x, nodes))


class Block(nn.Module):
    """A hidden convolution, its norm, a rectifier and dropout."""

    def __init__(self, in_features: int, config: GINConfig) -> None:
        """Build from the number of features that it reads."""
        super().__init__()
        self.conv = Convolution(in_features, config.dim, config)
        self.norm = normalised(config.dim, config.norm)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        """(num_nodes, in_features) -> (num_nodes, dim)."""
        return self.dropout(F.relu(self.norm(self.conv(nodes, edges))))


class GIN(nn.Module):
    """Blocks, and a last convolution, the `head`, that gives logits."""

    def __init__(self, config: GINConfig) -> None:
        """Build from a config."""
        super().__init__()
        self.config = config
        widths = [config.in_features, *[config.dim] * (config.depth - 1)]
        self.blocks = nn.ModuleList(Block(width, config) for width in widths[:-1])
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
        for block in self.blocks:
            nodes = block(nodes, edges)
        if self.config.num_classes:
            nodes = self.head(nodes, edges)
        return read_out(nodes, graph, num_graphs, self.config.readout)

    def init_weights(self) -> None:
        """Glorot and Bengio's uniform weights; biases are zero, norms the identity, and eps is the config's."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                glorot(module.weight)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm1d):
                module.reset_parameters()
            elif isinstance(module, Convolution):
                nn.init.constant_(module.eps, self.config.eps)

    def example_inputs(self, batch_size: int = 2) -> dict[str, Tensor]:
        """What `forward` takes, for so many graphs of equal size side by side."""
        return small_graphs(batch_size, self.config.in_features)


ARCHITECTURE = Architecture(
    name="gin",
    model=GIN,
    config=GINConfig,
    task="graph-ml",
    paper="https://arxiv.org/abs/1810.00826",
    tiny=GINConfig(in_features=5, dim=8, depth=3, learn_eps=True, num_classes=3, readout=None),
    presets={
        "gin_mutag": GINConfig(norm=None),
    },
    params={"gin": 30_796, "gin_mutag": 29_768},
    aliases={},
)
