"""Keeping a row for each sample of a split in totals that are added up over batches and ranks.

Some metrics, such as a distance between all pairs or the order of all scores, are no sum over samples. Their rows are
kept in a matrix as high as any split, of which each batch has only its own.
"""

import torch
from torch import Tensor

MOST = 2**40
"""More rows than any split has."""


def keep(values: Tensor, places: Tensor) -> Tensor:
    """A matrix with a row for every sample of the split, of which only these are there: so parts of it add up.

    Args:
        values: (batch, columns).
        places: (batch,) int64, the number of each row, which no other batch has.
    """
    return torch.sparse_coo_tensor(places[None], values.cpu(), (MOST, values.shape[1]), check_invariants=True)


def kept(total: Tensor) -> Tensor:
    """The rows in the order of their places, (samples, columns)."""
    return total.coalesce().values()
