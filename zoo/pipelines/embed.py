"""Texts as vectors: what an encoder knows of a text, pooled into one vector, so that near means alike."""

from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Pooling = Literal["mean", "first"]


@torch.no_grad()
def embed(
    model: nn.Module,
    tokens: Tensor,
    mask: Tensor | None = None,
    *,
    pooling: Pooling = "mean",
    normalize: bool = True,
) -> Tensor:
    """One vector for each text, without dropout and without gradients; the model stays in its mode.

    Args:
        model: one with `encode(tokens, mask) -> (batch, seq, dim)`, such as BERT.
        tokens: (batch, seq) int64, on any device.
        mask: (batch, seq) bool, False for padding; None if there is none.
        pooling: `mean` of what is known at all tokens, or of the `first` alone. Weights were trained for one of them:
            in a folder of sentence-transformers `1_Pooling/config.json` says for which.
        normalize: scale every vector to length 1, so that a dot product of two is their cosine.

    Returns:
        (batch, dim) float32, on the model's device.

    Raises:
        ValueError: the model has no `encode` for texts, takes no such tokens or mask, `pooling` is unknown, or a text
            is nothing but padding.

    Source: Reimers and Gurevych (2019), "Sentence-BERT", section 3, https://arxiv.org/abs/1908.10084
    """
    encode: Any = getattr(model, "encode", None)
    who = type(model).__name__
    if encode is None:
        raise ValueError(f"{who} has no encode(tokens, mask); take an encoder of texts, such as a BERT")
    if pooling not in get_args(Pooling):
        raise ValueError(f"pooling {pooling!r} is unknown; give {' or '.join(get_args(Pooling))}")
    _refuse_empty(mask)
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        hidden = encode(tokens.to(device), None if mask is None else mask.to(device))
    finally:
        model.train(training)
    if not isinstance(hidden, Tensor) or hidden.shape[:-1] != tokens.shape:
        raise ValueError(f"{who}.encode does not give one vector per token, (batch, seq, dim); embed needs them")
    vectors = pool(hidden.float(), None if mask is None else mask.to(device), pooling)
    return F.normalize(vectors, dim=-1) if normalize else vectors


def pool(hidden: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """One vector from those of a text's tokens, differentiable.

    Args:
        hidden: (batch, seq, dim).
        mask: (batch, seq) bool, and of a row without a True the mean is 0; None where all tokens count.
        pooling: `mean` over the tokens that the mask leaves, or the `first` of them.

    Returns:
        (batch, dim).
    """
    if pooling == "first":
        first = hidden.new_zeros(len(hidden), dtype=torch.int64) if mask is None else mask.int().argmax(-1)
        return hidden[torch.arange(len(hidden), device=hidden.device), first]
    if mask is None:
        return hidden.mean(1)
    kept = hidden.masked_fill(~mask[..., None], 0)
    return kept.sum(1) / mask.sum(1, keepdim=True).clamp(min=1)


def _refuse_empty(mask: Tensor | None) -> None:
    if mask is None or mask.ndim != 2 or mask.dtype != torch.bool:
        return  # what is wrong with the latter, the model says
    empty = (~mask.any(1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"row {empty[0]} of mask is all padding, so there is nothing to embed; leave such texts out")
