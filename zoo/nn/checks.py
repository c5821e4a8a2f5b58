"""What models ask of their inputs: tokens, the memory that they are given back, and numbers for each sample.

No value is looked at: on a GPU that would wait for it, and a compiled model could not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


def check_tokens(tokens: Tensor, name: str = "tokens") -> None:
    """Refuse what is no batch of texts.

    Args:
        tokens: (batch, seq) int64 or int32.
        name: what it is called.

    Raises:
        ValueError: it is no tensor of such integers, has another number of axes, or no position.
    """
    if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32):
        kind = tokens.dtype if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"{name} must be an int64 tensor, got {kind}; torch.as_tensor and .long() make one of numbers")
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(f"{name} must be (batch, seq) with seq at least 1, got shape {tuple(tokens.shape)}")


def check_dtype(values: Tensor, weight: Tensor, name: str) -> None:
    """Refuse floats of another precision than the weights', where nobody converts either.

    Autocast does, and so do those who wrap or replace parameters, such as FSDP; then the weight is no plain parameter.

    Args:
        values: what is read.
        weight: any parameter of the model.
        name: what the values are called.

    Raises:
        ValueError: their dtypes differ.
    """
    if values.dtype == weight.dtype or type(weight) is not nn.Parameter or not weight.is_floating_point():
        return
    kind = values.device.type
    if not (torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)):
        raise ValueError(
            f"{name} must have the dtype of the weights, {weight.dtype}, got {values.dtype}; {name}.to({weight.dtype}) "
            f"gives it, or model.to({values.dtype}) converts the model"
        )


def check_column(name: str, numbers: Tensor, batch: int) -> None:
    """Refuse what is not one number for each image.

    Args:
        name: what it is called.
        numbers: (batch,).
        batch: how many images there are.

    Raises:
        ValueError: it is no tensor, or has another shape.
    """
    if not isinstance(numbers, Tensor) or tuple(numbers.shape) != (batch,):
        got = tuple(numbers.shape) if isinstance(numbers, Tensor) else repr(numbers)
        raise ValueError(f"{name} must be a tensor ({batch},), one number for each image, got {got}; expand it")


def check_state(state: Sequence[Any], depth: int, *shapes: tuple[int, ...]) -> None:
    """Refuse the state of another model or of another batch, which PyTorch might broadcast, or read beyond its end.

    Args:
        state: an entry for each block, which is None before the first token.
        depth: how many blocks there are.
        shapes: of the tensors of which an entry is a tuple; left out where it is something else.

    Raises:
        ValueError: there are more or fewer entries or tensors, or a tensor has another shape.
    """
    if len(state) != depth:
        raise ValueError(f"a state of {len(state)} blocks does not fit a model of {depth}; take it from new_state")
    for entry in state if shapes else ():
        if entry is not None and (found := tuple(tuple(part.shape) for part in entry)) != shapes:
            raise ValueError(
                f"a state of shapes {_words(found)} does not fit: in this model and for so many texts they are "
                f"{_words(shapes)}; take it from new_state, or from the step before"
            )


def _words(shapes: Sequence[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
