"""How well one half of a pair finds the other among all of a split.

Of a split of N pairs no table of N x N is ever there: a few rows of it are, one block after the other.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ALIKE = 1e-6
"""Cosines that differ by less are equal: so much does rounding do, by which one text read in two batches differs."""
BLOCK = 2**24
"""Cosines that are there at once."""


def recalls(first: Tensor, second: Tensor, at: tuple[int, ...] = (1, 5, 10)) -> dict[str, float]:
    """How often a vector's partner is among the k nearest to it, and its median rank, in both directions.

    Among those that are equally near, as all are to a network that tells nothing apart, chance decides: a hit counts by
    its probability, and a rank is the mean one. A vector with NaN finds nothing, and nothing is behind it.

    Args:
        first: (pairs, dim), of length 1.
        second: likewise; rows of the same number belong together.
        at: each k.

    Returns:
        `recall@k` and `median_rank`, which ask with the first for the second, `back_recall@k` and `back_median_rank`.
    """
    own = (first * second).sum(1)
    not_nearer, further = torch.zeros(2, len(own)), torch.zeros(2, len(own))  # NaN is neither
    for rows in _blocks(len(own)):
        cosines = first[rows] @ second.T
        for side, partner, axis in ((0, own[rows, None], 1), (1, own[None], 0)):
            found = slice(None) if side else rows
            not_nearer[side, found] += (cosines <= partner + ALIKE).sum(axis)
            further[side, found] += (cosines < partner - ALIKE).sum(axis)
    nearer, alike = len(own) - not_nearer, not_nearer - further
    metrics: dict[str, float] = {}
    for side, word in enumerate(("", "back_")):
        hits = [((k - nearer[side]) / alike[side]).clamp(0, 1).where(alike[side] > 0, 0) for k in at]
        metrics |= {f"{word}recall@{k}": float(hit.double().mean()) for k, hit in zip(at, hits, strict=True)}
        metrics[f"{word}median_rank"] = float((nearer[side] + (alike[side] + 1) / 2).median())
    return metrics


def pair_losses(first: Tensor, second: Tensor, scale: float, bias: float, sigmoid: bool) -> float:
    """The mean contrastive loss over pairs of which all others are rivals.

    Args:
        first: (pairs, dim), of length 1.
        second: likewise.
        scale: cosines are multiplied by it.
        bias: and this is added.
        sigmoid: whether each combination is judged by itself; else the partner is to be found among all.
    """
    own = scale * (first * second).sum(1) + bias
    total, columns = 0.0, torch.full((len(own),), -math.inf)
    for rows in _blocks(len(own)):
        logits = scale * first[rows] @ second.T + bias
        if sigmoid:
            total += float(F.softplus(logits).double().sum())
        else:
            total += float(logits.logsumexp(1).double().sum()) / 2
            columns = torch.logaddexp(columns, logits.logsumexp(0))
    total += 0.0 if sigmoid else float(columns.double().sum()) / 2
    return (total - float(own.double().sum())) / len(own)


def named_right(image: Tensor, classes: Tensor, target: Tensor) -> float:
    """How often the nearest class is the right one; a vector with NaN is never.

    Args:
        image: (samples, dim).
        classes: (classes, dim).
        target: (samples,).
    """
    cosines = image @ classes.T
    right = (cosines.argmax(1) == target) & ~cosines.isnan().any(1)
    return float(right.double().mean())


def _blocks(rows: int) -> list[slice]:
    step = max(1, BLOCK // rows)
    return [slice(start, start + step) for start in range(0, rows, step)]
