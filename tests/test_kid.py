"""The kernel distance, precision and recall: against another library, and against their definitions."""

import warnings

import pytest
import torch
from torch import nn

from zoo.training import kid, manifold
from zoo.training.kid import kernel_distance
from zoo.training.manifold import precision_and_recall


def features(count, dim=6, seed=0, shift=0.0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)) + shift


class Same(nn.Module):
    """Takes features for images, and gives them back."""

    num_features = 6

    def forward(self, image):
        return image.double()


def test_it_is_torchmetrics_with_one_subset_of_everything():
    first, second = features(200), features(200, seed=1, shift=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the metric keeps features, which is what it is for
        from torchmetrics.image.kid import KernelInceptionDistance

        metric = KernelInceptionDistance(Same(), subsets=1, subset_size=200)
    metric.update(first, real=True)
    metric.update(second, real=False)
    assert kernel_distance(first, second) == pytest.approx(float(metric.compute()[0]), rel=1e-5)


def test_sets_of_any_size_follow_the_definition(monkeypatch):
    first, second = features(30), features(17, seed=1, shift=0.5)

    def mean(a, b, same=False):
        pairs = [(x @ y / 6 + 1) ** 3 for i, x in enumerate(a) for j, y in enumerate(b) if not (same and i == j)]
        return float(torch.stack(pairs).double().mean())

    expected = mean(first, first, True) + mean(second, second, True) - 2 * mean(first, second)
    assert kernel_distance(first, second) == pytest.approx(expected, rel=1e-5)
    monkeypatch.setattr(kid, "AT_ONCE", 7)
    assert kernel_distance(second, first) == pytest.approx(expected, rel=1e-5)


def test_it_is_zero_on_average_between_sets_of_one_distribution_however_small():
    distances = torch.tensor([kernel_distance(features(5, seed=i), features(5, seed=1000 + i)) for i in range(400)])
    spread = distances.std() / 20
    assert abs(distances.mean()) < 3 * spread
    assert (distances < 0).any()
    apart = [kernel_distance(features(5, seed=i), features(5, seed=1000 + i, shift=1.0)) for i in range(400)]
    assert torch.tensor(apart).mean() > 10 * spread


def test_precision_and_recall_follow_the_definition(monkeypatch):
    drawn, real = features(60, dim=2), 0.6 * features(45, dim=2, seed=1, shift=0.4)

    def share(of, others):
        radii = []
        for i, one in enumerate(others):
            away = sorted(float((one - other).norm()) for j, other in enumerate(others) if j != i)
            radii.append(away[2])
        inside = [any(float((x - y).norm()) <= r for y, r in zip(others, radii, strict=True)) for x in of]
        return sum(inside) / len(of)

    expected = (share(drawn, real), share(real, drawn))
    assert expected[0] < 0.9 < expected[1]
    assert precision_and_recall(drawn, real) == pytest.approx(expected)
    monkeypatch.setattr(manifold, "AT_ONCE", 7)
    assert precision_and_recall(drawn, real) == pytest.approx(expected)


def test_one_mode_of_two_is_precise_and_recalls_half():
    modes = torch.cat([features(200, seed=1), features(200, seed=2, shift=50.0)])
    precision, recall = precision_and_recall(features(400), modes)
    assert precision > 0.9
    assert recall == pytest.approx(0.5, abs=0.05)


def test_copies_of_real_images_are_in_both_manifolds():
    real = features(20)
    assert precision_and_recall(real, real) == (1, 1)
    assert precision_and_recall(real.repeat(2, 1), real) == (1, 1)


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="two images or more on both sides, not 1"):
        kernel_distance(features(9), features(1))
    with pytest.raises(ValueError, match="more than 3 images on both sides, not 3"):
        precision_and_recall(features(9), features(3))
