"""What the objectives of graphs share."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.training.data import Spec
from zoo.training.objectives import Batch, Networks

ALIKE = 1e-12
"""Answers in float64 that differ by a smaller part are the same but for rounding."""
FRIENDS = 4, 8
"""Numbers of neighbours, of which the larger is sampled down to the smaller one."""


def about(nets: Networks, batch: Batch) -> Tensor:
    """The model's vector for each sample that is a node, (batch, num_classes) float32.

    `asked` says which nodes these are; without it, each node is a sample.
    """
    vectors = of_nodes(nets, batch)
    return vectors[batch["asked"]] if "asked" in batch else vectors


def of_nodes(nets: Networks, batch: Batch) -> Tensor:
    """The model's vector for each node of a graph, (num_nodes, num_classes) float32.

    Raises:
        ValueError: the model gives something else.
    """
    vectors = nets["model"](nodes=batch["nodes"], edges=batch["edges"])
    if not isinstance(vectors, Tensor) or vectors.ndim != 2 or len(vectors) != len(batch["nodes"]):
        shape = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
        raise ValueError(f"the model gives {shape} for {len(batch['nodes'])} nodes, not a vector for each; take a gcn")
    return vectors.float()


def check_sampling(model: nn.Module, spec: Spec) -> None:
    """Refuse neighbour sampling for a model that it would change, which is tried out on some small graphs.

    The weights of the copy that is tried are positive, and so are the graphs' features: then nothing cancels, no
    rectifier is silent, and the verdict depends on how the model is built, not on what was drawn or learnt.

    Args:
        model: its answers are looked at, not its class; so this holds for anybody's model.
        spec: of the data.

    Raises:
        ValueError: the model looks further than the data's hops, or counts neighbours.
    """
    if not spec.neighbours:
        return
    who, limits, tried = type(model).__name__, list(spec.neighbours), _positive(model)
    hops, in_features = len(limits), spec.in_features or 1
    alike = torch.ones(1 + max(FRIENDS), in_features)
    few, many = (_answer(tried, alike, [(friend, 0) for friend in range(1, count + 1)]) for count in FRIENDS)
    if _differ(few, many):
        raise ValueError(
            f"{who} tells {FRIENDS[0]} neighbours from {FRIENDS[1]} that are the same, by a sum or a degree, which "
            f"data.neighbours={limits} changes while training; set data.neighbours=[], or take a model of means, such "
            "as graphsage"
        )
    different = torch.rand(2 + hops, in_features, generator=torch.Generator().manual_seed(0))
    path = [(node + 1, node) for node in range(hops)]
    near, far = (_answer(tried, different, path + beyond) for beyond in ([], [(hops + 1, hops)]))
    if _differ(near, far):
        raise ValueError(
            f"{who} looks further than the {hops} hops of data.neighbours={limits}; give as many numbers as the model "
            "has layers"
        )


@torch.no_grad()
def _positive(model: nn.Module) -> nn.Module:
    """A copy in float64 and for evaluation, whose weights are always the same positive numbers.

    A matrix has its largest on the diagonal, or all nodes would have nearly one direction after some layers.
    """
    tried, drawn = copy.deepcopy(model).to("cpu", torch.float64).eval(), torch.Generator().manual_seed(0)
    for module in tried.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    for name, parameter in tried.named_parameters():
        values = torch.rand(parameter.shape, generator=drawn, dtype=torch.float64)
        if parameter.ndim > 1:
            values = values / parameter.shape[-1] + torch.eye(*parameter.shape[-2:])
        else:
            values = values / 10 if name.endswith("bias") else values + 0.5
        parameter.copy_(values)
    return tried


@torch.no_grad()
def _answer(model: nn.Module, nodes: Tensor, edges: Sequence[tuple[int, int]]) -> Tensor:
    """What the model says of node 0 of a small graph."""
    return model(nodes=nodes.double(), edges=torch.tensor(edges).T.contiguous())[0]


def _differ(first: Tensor, second: Tensor) -> bool:
    return bool((first - second).abs().max() > ALIKE * first.abs().max())
