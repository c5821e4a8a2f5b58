"""Precision and recall of drawn images: how many could be real, and how much of what is real is drawn.

Source: Kynkäänniemi et al., 2019, "Improved precision and recall metric for assessing generative models",
https://arxiv.org/abs/1904.06991, section 3. The manifold of a set of images is where a judge's features of some image
are no further away than those of its third neighbour in the set:

    precision = the share of drawn images that lie in the manifold of the real ones
    recall    = the share of real images that lie in the manifold of the drawn ones

Both grow with the number of images that make up the manifold, so the sets should be of one size, and figures be
compared for one number of images only.
"""

import torch
from torch import Tensor

NEIGHBOUR = 3
"""k in the paper."""
AT_ONCE = 1024
"""Rows of the matrix of distances that are held together."""


def precision_and_recall(drawn: Tensor, real: Tensor) -> tuple[float, float]:
    """Both, of the features of drawn and of real images, each (samples, dim).

    Raises:
        ValueError: a set has no more images than an image needs neighbours.
    """
    drawn, real = drawn.double(), real.double()
    return _share(drawn, real), _share(real, drawn)


def _share(features: Tensor, others: Tensor) -> float:
    """Which share of these lies in the manifold of the others."""
    radius = torch.cat([_distance(part, others).kthvalue(NEIGHBOUR + 1).values for part in _parts(others)])
    inside = [(_distance(part, others) <= radius).any(1) for part in features.split(AT_ONCE)]
    return float(torch.cat(inside).double().mean())


def _parts(features: Tensor) -> tuple[Tensor, ...]:
    if len(features) <= NEIGHBOUR:
        raise ValueError(f"precision and recall need more than {NEIGHBOUR} images on both sides, not {len(features)}")
    return features.split(AT_ONCE)


def _distance(first: Tensor, second: Tensor) -> Tensor:
    """(first, second); the exact one, for an image's distance to itself has to be 0, its nearest neighbour's."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
