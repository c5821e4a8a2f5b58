"""What belongs to single samples, kept in totals that add up over batches and ranks."""

import torch
from torch import Tensor

MOST = 2**40
"""More rows than any split has, or are drawn for it."""


def keep(features: Tensor, places: Tensor) -> Tensor:
    """A matrix with a row for every sample of a split, of which only these are there: so parts of it add up.

    Args:
        features: (batch, dim).
        places: (batch,), of each row in the split.
    """
    return torch.sparse_coo_tensor(places[None].cpu(), features.cpu(), (MOST, features.shape[1]), check_invariants=True)


def kept(total: Tensor) -> Tensor:
    """The rows that are there, in the order of their places, (rows, dim)."""
    return total.coalesce().values()
