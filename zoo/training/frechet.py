"""The Fréchet distance between sets of images, and a yardstick to read it by.

A trained classifier turns every image into features, and each set of images is described by the mean and covariance
of its features. The distance between two sets is that between two normal distributions with these moments (Fréchet,
1957; Heusel et al., 2017, https://arxiv.org/abs/1706.08500, equation 6):

    d^2 = |mu_1 - mu_2|^2 + tr(Sigma_1 + Sigma_2 - 2 (Sigma_1 Sigma_2)^(1/2))

Its size depends on the classifier and, through the bias of estimated covariances, on the number of images; it means
something only beside another distance by the same classifier to the same images, from equally many. The yardstick is
such a one, of what needs no neural network: pixels drawn from a mixture of ten normal distributions.
"""

from typing import Any

import torch
from torch import Tensor

from zoo.config import ConfigError
from zoo.factory import create
from zoo.preprocess import preprocessing
from zoo.weights import provenance_of

COMPONENTS = 10
"""Normal distributions in the mixture, each with a full covariance matrix."""
MIXTURE_SEED = 0
"""Of scikit-learn's expectation maximisation, and of the draws."""
AT_ONCE = 512
"""Images that the judge looks at together."""


def moments(features: Tensor) -> Tensor:
    """Count, sums and products of features in one matrix, so that the moments of two sets add up.

    Args:
        features: (samples, dim).

    Returns:
        (1 + dim, 1 + dim) float64, the sum of [1, f] [1, f]^T over samples.
    """
    rows = torch.nn.functional.pad(features.detach().cpu().double(), (1, 0), value=1.0)
    return rows.T @ rows


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """d^2 between two sets of images.

    Args:
        first: `moments` of one set's features.
        second: of the other's.

    Raises:
        ValueError: a set has fewer than two images, which have no covariance.
    """
    (mean_1, sigma_1), (mean_2, sigma_2) = _mean_and_covariance(first), _mean_and_covariance(second)
    values, vectors = torch.linalg.eigh(sigma_1)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    # (sigma_1 sigma_2)^(1/2) has the trace of (root sigma_2 root)^(1/2), which is symmetric
    shared = torch.linalg.eigvalsh(root @ sigma_2 @ root).clamp(min=0).sqrt().sum()
    return float((mean_1 - mean_2).square().sum() + sigma_1.trace() + sigma_2.trace() - 2 * shared)


def _mean_and_covariance(sums: Tensor) -> tuple[Tensor, Tensor]:
    count, total, products = sums[0, 0], sums[0, 1:], sums[1:, 1:]
    if count < 2:
        raise ValueError(f"a Fréchet distance needs two images or more on both sides, not {int(count)}")
    mean = total / count
    return mean, (products - count * mean.outer(mean)) / (count - 1)


class Judge:
    """A trained image classifier: the features before its head, and what it takes an image for."""

    def __init__(self, name: str) -> None:
        """Load it.

        Args:
            name: anything that `zoo.create` takes, with weights: `resnet20.digits`, `local-dir:runs/cnn`.

        Raises:
            ConfigError: the model has no trained weights, or is no classifier of images that gives maps of features.
        """
        self.model: Any = create(name).eval().requires_grad_(False)
        if not hasattr(self.model, "forward_features") or not hasattr(self.model, "forward_head"):
            raise ConfigError(
                f"objective.features: {name} is no image classifier, so it has no features to compare; name one that "
                "is, such as resnet20.digits"
            )
        if provenance_of(self.model).preprocessing is None:
            raise ConfigError(
                f"objective.features: {name} has no trained weights that say what images they expect, so it cannot "
                "judge any; name a classifier that has, such as resnet20.digits"
            )
        self.record = preprocessing(self.model)

    def __call__(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Look at images.

        Args:
            image: (batch, channels, height, width) in [0, 1].

        Returns:
            The features, averaged over positions, (batch, dim), and the probability of each class, (batch, classes).
        """
        low, high = self.record.value_range
        mean, std = (image.new_tensor(values)[:, None, None] for values in (self.record.mean, self.record.std))
        model = self.model.to(image.device)
        maps = model.forward_features((image * (high - low) + low - mean) / std)  # (batch, dim, height, width)
        return maps.mean((-2, -1)), model.forward_head(maps).softmax(-1)


def mixture_samples(images: Tensor, count: int) -> Tensor:
    """Draw images from a mixture of normal distributions that is fitted to the pixels of others.

    Args:
        images: (samples, channels, height, width) in [0, 1].
        count: how many to draw.

    Returns:
        (count, channels, height, width), about in [0, 1]: a normal distribution knows no bounds.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn.mixture import GaussianMixture
        from threadpoolctl import threadpool_limits
    except ModuleNotFoundError:
        raise ConfigError("the yardstick's mixture is fitted by scikit-learn; pip install 'zoo[train]'") from None
    mixture = GaussianMixture(COMPONENTS, covariance_type="full", random_state=MIXTURE_SEED)
    with threadpool_limits(1):  # several threads add in another order, and k-means then starts from other clusters
        drawn, _ = mixture.fit(images.flatten(1).double().numpy()).sample(count)
    return torch.from_numpy(drawn).float().unflatten(1, images.shape[1:])


def yardstick(judge: Judge, images: Tensor, count: int) -> Tensor:
    """The `moments` of `count` images of the mixture that is fitted to `images`, as the judge sees them."""
    drawn = mixture_samples(images, count)
    return torch.stack([moments(judge(part)[0]) for part in drawn.split(AT_ONCE)]).sum(0)
