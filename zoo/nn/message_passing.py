"""What graph networks share: messages along edges, one answer for each graph, and a look at what they are given.

Everything is plain indexing: a node's row is read for each edge, and added up at the edge's other end. Nothing has a
shape that depends on values, so that all of it compiles and exports.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.nn.checks import check_dtype

Readout = Literal["sum", "mean", "max"]


def sum_at(index: Tensor, messages: Tensor, size: int) -> Tensor:
    """The sum of the messages with the same index.

    Args:
        index: (num_messages,) int64 in [0, size).
        messages: (num_messages, ...).
        size: how many sums there are; those of no message are 0.

    Returns:
        (size, ...).
    """
    return messages.new_zeros(size, *messages.shape[1:]).index_add_(0, index, messages)


def largest_at(index: Tensor, messages: Tensor, size: int) -> Tensor:
    """The largest message with the same index, feature by feature; like `sum_at`, also in that none gives 0."""
    where = index[:, None].expand_as(messages)
    zeros = messages.new_zeros(size, messages.shape[1])
    return zeros.scatter_reduce(0, where, messages, "amax", include_self=False)


def precise(dtype: torch.dtype) -> torch.dtype:
    """The dtype to count and to normalise in: float32 at least, for bfloat16 counts no further than 256."""
    return torch.promote_types(dtype, torch.float32)


def count_at(index: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """How often each index occurs, (size, 1), in a dtype in which that is exact."""
    ones = torch.ones_like(index, dtype=precise(dtype))
    return sum_at(index, ones, size)[:, None]


def gathered(nodes: Tensor, edges: Tensor) -> Tensor:
    """The sum of the neighbours from which edges come to a node, each as often as there are edges.

    Args:
        nodes: (num_nodes, dim).
        edges: (2, num_edges) int64, source first.

    Returns:
        (num_nodes, dim).
    """
    source, target = edges.unbind()
    return sum_at(target, nodes.index_select(0, source), nodes.shape[0])


def mapped(proj: nn.Linear, mix: Callable[[Tensor], Tensor], nodes: Tensor) -> Tensor:
    """proj(mix(nodes)), where `mix` is linear and treats features alike, so that the fewer can go along the edges.

    Args:
        proj: in_features -> out_features.
        mix: any (num_nodes, features) -> the same shape.
        nodes: (num_nodes, in_features).

    Returns:
        (num_nodes, out_features).
    """
    if proj.out_features < proj.in_features:
        return mix(F.linear(nodes, proj.weight)) + proj.bias
    return proj(mix(nodes))


def read_out(nodes: Tensor, graph: Tensor | None, num_graphs: int | None, how: Readout | None) -> Tensor:
    """One row for each graph; the nodes themselves where no graphs or no readout are given.

    Args:
        nodes: (num_nodes, dim).
        graph: (num_nodes,) int64, which graph a node belongs to.
        num_graphs: how many there are. None counts up to the last one that has a node; that waits for a GPU, and a
            compiled model cannot.
        how: what is taken over a graph's nodes; a graph without any has zeros.

    Returns:
        (num_graphs, dim).
    """
    if graph is None or how is None:
        return nodes
    size = _number(graph) if num_graphs is None else num_graphs
    if how == "max":
        return largest_at(graph, nodes, size)
    sums = sum_at(graph, nodes, size)
    return sums if how == "sum" else (sums / count_at(graph, size, nodes.dtype).clamp(min=1)).to(nodes.dtype)


def _number(graph: Tensor) -> int:
    """How many graphs there are up to the last one that has a node; in an exported program this stays open."""
    last: Any = torch.cat([graph, graph.new_full((1,), -1)]).max().item()  # the -1 is for no nodes at all
    return last + 1


def check_sizes(config: Any) -> None:
    """Refuse sizes that make no graph network; a config calls it.

    Args:
        config: with `in_features`, `dim`, `depth`, `num_classes` and `dropout`.

    Raises:
        ValueError: a size is too small, a rate no rate, or no layer is left.
    """
    for name in ("in_features", "dim", "depth"):
        if getattr(config, name) < 1:
            raise ValueError(f"{name} {getattr(config, name)} is below 1")
    if config.num_classes < 0:
        raise ValueError(f"num_classes {config.num_classes} is negative; 0 leaves the head out")
    if config.depth == 1 and config.num_classes == 0:
        raise ValueError("depth 1 and num_classes 0 leave no layer, for the head is the last one; give depth 2")
    if not 0 <= config.dropout < 1:
        raise ValueError(f"dropout {config.dropout} is not in [0, 1)")


def check_graph(model: Any, nodes: Tensor, edges: Tensor, graph: Tensor | None, num_graphs: int | None) -> None:
    """Refuse what is no graph for a model.

    Numbers of nodes and of graphs are compared on the CPU alone: a GPU's own indexing stops at a wrong one, and to
    ask it would mean to wait for it.

    Args:
        model: the network, with `config.in_features`.
        nodes: (num_nodes, in_features) float.
        edges: (2, num_edges) int64, source first.
        graph: (num_nodes,) int64, or None.
        num_graphs: how many graphs there are, if that is given.

    Raises:
        ValueError: a tensor has another shape or dtype, or names a node or graph that does not exist.
    """
    in_features = model.config.in_features
    if not isinstance(nodes, Tensor) or nodes.ndim != 2:
        raise ValueError(f"nodes must be a tensor (num_nodes, {in_features}), got {_kind(nodes)}")
    if nodes.shape[1] != in_features:
        raise ValueError(
            f"nodes must be (num_nodes, {in_features}), got {nodes.shape[1]} features; create the model with "
            f"in_features={nodes.shape[1]}"
        )
    if not nodes.is_floating_point():
        raise ValueError(f"nodes must be floating-point, got {nodes.dtype}; nodes.float() converts them")
    check_dtype(nodes, next(model.parameters()), "nodes")
    if not isinstance(edges, Tensor) or edges.ndim != 2 or edges.shape[0] != 2 or edges.dtype != torch.int64:
        turned = isinstance(edges, Tensor) and edges.ndim == 2 and edges.shape[1] == 2 != edges.shape[0]
        hint = "edges.T has the right shape" if turned else "torch.tensor([sources, targets]) makes one of lists"
        if isinstance(edges, Tensor) and edges.ndim == 2 and edges.shape[0] == 2:
            hint = "edges.long() converts them"
        raise ValueError(f"edges must be a tensor (2, num_edges) of int64, source first, got {_kind(edges)}; {hint}")
    _check_range(edges, nodes.shape[0], "edges", "nodes")
    if num_graphs is not None and (not isinstance(num_graphs, int | torch.SymInt) or num_graphs < 0):
        raise ValueError(f"num_graphs {num_graphs!r} must be a whole number, 0 or more, or None")
    if graph is None:
        return
    if not isinstance(graph, Tensor) or graph.shape != nodes.shape[:1] or graph.dtype != torch.int64:
        raise ValueError(
            f"graph must be a tensor ({nodes.shape[0]},) of int64, the graph of each node, got {_kind(graph)}; for a "
            "single graph, torch.zeros(len(nodes), dtype=torch.int64)"
        )
    _check_range(graph, num_graphs, "graph", "graphs")


def _kind(value: Any) -> str:
    return f"{tuple(value.shape)} of {value.dtype}" if isinstance(value, Tensor) else type(value).__name__


def _check_range(index: Tensor, size: int | None, name: str, what: str) -> None:
    if torch.compiler.is_compiling() or not index.is_cpu or not index.numel():
        return
    least, most = (int(end) for end in index.aminmax())
    if least < 0:
        raise ValueError(f"{name} holds {least}, but {what} are counted from 0; remove what was padded")
    if size is not None and most >= size:
        raise ValueError(
            f"{name} holds {most}, but there are {size} {what}, counted from 0; give num_{what}={most + 1}"
            if name == "graph"
            else f"{name} holds {most}, but there are {size} {what}, counted from 0; give all nodes, or fewer edges"
        )


def small_graphs(batch_size: int, in_features: int) -> dict[str, Tensor]:
    """Random graphs of six nodes side by side, with twelve edges each: what `example_inputs` gives."""
    size, start = 6, 6 * torch.arange(batch_size)
    edges = torch.randint(size, (2, batch_size, 2 * size)) + start[:, None]
    return {"nodes": torch.randn(batch_size * size, in_features), "edges": edges.flatten(1)}


def glorot(*weights: Tensor) -> None:
    """Draw uniformly with a variance of 2 / (rows + columns), by the last two axes (Glorot and Bengio, 2010)."""
    for weight in weights:
        limit = (6 / (weight.shape[-2] + weight.shape[-1])) ** 0.5
        nn.init.uniform_(weight, -limit, limit)
