"""How fast our graph networks are beside torch_geometric's, with the same weights, in one process and in turn.

Two cases: one graph of Cora's size, and 128 small graphs side by side. Nothing is dropped out, because torch_geometric
does not drop where the papers do, and ours do. A training step is forward, backward and plain SGD.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from benchmarks.peers import Row, timed
from zoo.convert import foreign_tensors

OPTIONS: Mapping[str, tuple[str, Mapping[str, Any], Mapping[str, Any]]] = {
    # ours: the peer's model, what ours needs, and what theirs needs
    "gcn": ("GCN", {"dropout": 0.0}, {}),
    "gat": (
        "GAT",
        {"num_heads": 8, "head_heads": 8, "dropout": 0.0, "attn_dropout": 0.0},
        {"heads": 8, "act": "elu"},
    ),
    "gin": ("GIN", {"norm": "batch"}, {"norm": "batch_norm"}),
    "graphsage": ("GraphSAGE", {}, {}),
    "graphsage ": ("GraphSAGE", {"aggregation": "pool"}, {"aggr": "max", "project": True}),
}  # fmt: skip
"""A space after a model stands for another of its kinds."""
SIZES: Mapping[str, Mapping[str, int]] = {
    "cora": {"in_features": 1433, "dim": 64, "depth": 2, "num_classes": 7},
    "small graphs": {"in_features": 7, "dim": 64, "depth": 5, "num_classes": 2},
}
GCN_DIM = 16
"""The paper's, for Cora."""


def compare(pattern: str, seconds: float) -> Iterator[Row]:
    """Both modes of every model and case.

    Args:
        pattern: only models whose name contains it.
        seconds: how long each comparison may take.
    """
    for case in OPTIONS:
        if pattern not in case:
            continue
        for graphs, sizes in SIZES.items():
            dim = {"dim": GCN_DIM} if (case, graphs) == ("gcn", "cora") else {}
            models = _models(case, {**sizes, **dim})
            inputs = _graphs(graphs, sizes["in_features"])
            for mode, step in (("inference", _infer), ("training", _train)):
                steps = [_bound(step, model.train(mode == "training"), inputs) for model in models]
                kind = OPTIONS[case][1].get("aggregation", "")
                yield timed(f"{case.strip()} {kind}".strip(), "torch_geometric", f"{graphs}, {mode}", steps, seconds)


def _models(case: str, sizes: Mapping[str, int]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Ours, the peer's and ours again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch_geometric.nn import models
    kind, own, others = OPTIONS[case]
    torch.manual_seed(0)
    ours, again = (zoo.create(case.strip(), readout=None, **sizes, **own) for _ in range(2))
    again.load_state_dict(ours.state_dict())
    theirs = getattr(models, kind)(sizes["in_features"], sizes["dim"], sizes["depth"], sizes["num_classes"], **others)
    theirs.load_state_dict(foreign_tensors(ours, "torch_geometric"))
    return ours, theirs, again


def _graphs(case: str, in_features: int) -> tuple[Tensor, Tensor]:
    """Nodes, and edges both ways: 2,708 papers with 5,278 citations, or 128 molecules of 20 atoms and 22 bonds."""
    torch.manual_seed(0)
    if case == "cora":
        nodes, edges = (torch.rand(2708, in_features) < 0.013).float(), torch.randint(2708, (2, 5278))
    else:
        edges = torch.randint(20, (2, 128, 22)) + 20 * torch.arange(128)[:, None]
        nodes, edges = torch.randn(128 * 20, in_features), edges.flatten(1)
    return nodes, torch.cat([edges, edges.flip(0)], 1)


def _bound(
    step: Callable[[nn.Module, tuple[Tensor, Tensor]], None], model: nn.Module, inputs: tuple[Tensor, Tensor]
) -> Callable[[], None]:
    return lambda: step(model, inputs)


@torch.no_grad()
def _infer(model: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
    model(*inputs)


def _train(model: nn.Module, inputs: tuple[Tensor, Tensor]) -> None:
    """A rate of zero keeps the weights equal."""
    model(*inputs).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0 * parameter.grad
            parameter.grad = None
