"""How well scores put what is so before what is not."""

import torch
from torch import Tensor


def roc_auc(scores: Tensor, target: Tensor) -> float:
    """The share of (true, false) pairs in which the true one has the larger score, ties counting half.

    It is the area under the curve of true against false positives.

    Args:
        scores: (samples,).
        target: (samples,), 1 or 0; NaN is returned where there is only one of them.

    Source: Hanley and McNeil, 1982, "The meaning and use of the area under a ROC curve".
    """
    true, false = _by_score(scores, target)
    above = true.flip(0).cumsum(0).flip(0) - true  # the true ones with a larger score
    return float((false * (above + true / 2)).sum() / (true.sum() * false.sum()))


def average_precision(scores: Tensor, target: Tensor) -> float:
    """The precision at each score of something true, averaged: the area under precision against recall, in steps.

    Args:
        scores: (samples,).
        target: (samples,), 1 or 0; NaN is returned where nothing is true.
    """
    true, false = (counts.flip(0) for counts in _by_score(scores, target))
    precision = true.cumsum(0) / (true + false).cumsum(0)
    return float((precision * true).sum() / true.sum())


def _by_score(scores: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """How many true and how many false ones have each score, from the smallest, float64."""
    values, which = torch.unique(scores, return_inverse=True)
    true = torch.zeros(len(values), dtype=torch.float64).index_add_(0, which, target.double())
    return true, torch.bincount(which, minlength=len(values)).double() - true
