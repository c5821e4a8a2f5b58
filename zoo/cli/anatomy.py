"""What one forward pass tells about a model: its parts, their outputs, and what it costs."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode


class Part(NamedTuple):
    """A direct child of a model; each parameter is counted where it stands first, so parts add up to the whole."""

    name: str
    kind: str
    num_params: int
    output: tuple[int, ...] | None
    """Shape without the batch; None where forward does not call this part."""


class Anatomy(NamedTuple):
    """A model taken apart."""

    parts: list[Part]
    flops: int
    """Of one sample's forward pass; a multiply-add counts as two, element-wise work is not counted."""
    inputs: dict[str, tuple[int, ...]]
    """Forward's arguments with their shapes, without the batch; those of graphs, which have none, are whole."""


def dissect(model: nn.Module, inputs: Mapping[str, Tensor]) -> Anatomy:
    """Run forward once and watch; on the meta device that costs no arithmetic.

    Args:
        model: any model; it is left in the mode that it was in.
        inputs: forward's arguments for one sample, each (1, ...).
    """
    outputs: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(_recorder(outputs, name))
        for name, child in model.named_children()
        for module in _called(child)
    ]
    training = model.training
    model.eval()
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(**{name: value.to(device) for name, value in inputs.items()})
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    first = 0 if "edges" in inputs else 1
    shapes = {name: tuple(value.shape[first:]) for name, value in inputs.items()}
    return Anatomy(list(_parts(model, outputs)), counter.get_total_flops(), shapes)


def _called(child: nn.Module) -> list[nn.Module]:
    """What forward calls of a child: a container without a forward of its own stands for its elements."""
    return list(child.children()) if isinstance(child, nn.ModuleList | nn.ModuleDict) else [child]


def _recorder(outputs: dict[str, tuple[int, ...]], name: str) -> Any:
    def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
        tensors = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        if tensors:
            outputs[name] = tuple(tensors[0].shape[1:])

    return record


def _parts(model: nn.Module, outputs: Mapping[str, tuple[int, ...]]) -> Iterator[Part]:
    counted: set[int] = set()
    for name, parameter in model.named_parameters(recurse=False):
        counted.add(id(parameter))
        yield Part(name, "Parameter", parameter.numel(), tuple(parameter.shape))
    for name, child in model.named_children():
        new = {id(parameter): parameter.numel() for parameter in child.parameters() if id(parameter) not in counted}
        counted |= set(new)
        yield Part(name, _kind(child), sum(new.values()), outputs.get(name))


def _kind(child: nn.Module) -> str:
    """`Linear`, or `12 x Block` for a row of equals."""
    if isinstance(child, nn.ModuleList | nn.Sequential):
        kinds = [type(module).__name__ for module in child]
        if len(set(kinds)) == 1:
            return f"{len(kinds)} x {kinds[0]}"
    return type(child).__name__
