"""Feature maps from within an image backbone, for detection, segmentation and retrieval."""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LARGE = 512
"""Pixels; enough that no edge makes a stride of 32 look like another."""


def features(model: nn.Module, image: Tensor, stages: Sequence[int] = (1, 2, 3, 4)) -> list[Tensor]:
    """What the stages of a network put out on the way to its last map, with gradients.

    Stage k has a stride of 2**(k + 1): of 4, 8, 16 and 32 pixels for 1 to 4, and 0 is a stride of 2 where there is
    one; where several layers have the same stride, the last one counts. In a network of equal blocks, such as a vision
    transformer, stages are depths instead: 1 is the first block, and its tokens come as maps.

    Args:
        model: an image classifier, or a model with a tower for images, `vision`.
        image: as the model takes it, (batch, channels, height, width).
        stages: which, in ascending order.

    Returns:
        One map (batch, channels, rows, columns) for each stage.

    Raises:
        ValueError: the model has no such stage; the message names those that it has.
    """
    if not isinstance(stages, Sequence):
        raise TypeError(f"stages must be a sequence of numbers such as (1, 2), got {stages!r}")
    model = getattr(model, "_orig_mod", model)  # hooks do not run within what torch.compile has made
    model = getattr(model, "vision", model)
    if not hasattr(model, "forward_features"):
        raise ValueError(f"{type(model).__name__} is no image backbone: it has no forward_features")
    seen = _outputs(model, image)
    if hasattr(model, "blocks"):
        to_maps: Any = model.to_maps
        by_stage = {depth: to_maps(tokens, image) for depth, tokens in enumerate(seen, start=1)}
    else:
        by_stage = dict(zip(_strides(type(model), model.config), seen, strict=True))
    missing = [stage for stage in stages if stage not in by_stage]
    if missing:
        known = ", ".join(map(str, sorted(by_stage)))
        raise ValueError(f"{type(model).__name__} has no stage {missing[0]}; it has {known}, give stages=({known},)")
    return [by_stage[stage] for stage in stages]


def _outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """What each part of a backbone puts out, in depth order."""
    seen: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        seen.append(output)

    handles = [part.register_forward_hook(keep) for part in _parts(model)]
    try:
        forward_features: Any = model.forward_features
        forward_features(image)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _parts(model: nn.Module) -> list[nn.Module]:
    """The modules after which a map may be taken."""
    names = [name for name, _ in model.named_children()]
    if "blocks" in names:
        return list(model.get_submodule("blocks").children())
    if "stages" not in names:
        raise ValueError(f"{type(model).__name__} is no image backbone: it has neither stages nor blocks")
    before = [model.get_submodule(name) for name in names[: names.index("stages")]]
    return [*before, *model.get_submodule("stages").children()]


@functools.cache
def _strides(model: Callable[[Any], nn.Module], config: Any) -> list[int]:
    """The stage of each part, by how much smaller than a large image its map is.

    It is a matter of the network and not of the image: with small or odd ones, edges would decide.
    """
    with torch.device("meta"):
        image = torch.empty(2, config.in_channels, LARGE, LARGE)
        seen = _outputs(model(config), image)
    return [round(math.log2(LARGE / output.shape[-1])) - 1 for output in seen]
