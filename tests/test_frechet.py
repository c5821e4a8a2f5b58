"""The Fréchet distance, the classifier that it looks through, and the mixture that it is read by."""

import numpy as np
import pytest
import scipy.linalg
import torch
from laws import perturbed

import zoo
from zoo.config import ConfigError
from zoo.registry import ARCHITECTURES
from zoo.training.data import digits
from zoo.training.frechet import Judge, frechet_distance, mixture_samples, moments, yardstick
from zoo.weights import remember


def correlated(count, dim, seed):
    random = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dim, dim, generator=random, dtype=torch.float64)
    return torch.randn(count, dim, generator=random, dtype=torch.float64) @ mixing + torch.randn(dim, generator=random)


def textbook_distance(first, second):
    """Equation 6 of Heusel et al., as it stands, by another library."""
    first, second = first.double().numpy(), second.double().numpy()
    sigma_1, sigma_2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(sigma_1 @ sigma_2))
    return ((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(sigma_1 + sigma_2 - 2 * root)


def test_it_is_the_formula():
    first, second = correlated(200, 7, seed=0), correlated(300, 7, seed=1)
    expected = textbook_distance(first, second)
    assert frechet_distance(moments(first), moments(second)) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(moments(second), moments(first)) == pytest.approx(expected, rel=1e-9)


def test_features_without_variance_are_no_trouble():
    first, second = correlated(5, 9, seed=0), correlated(300, 9, seed=1)
    first[:, 0] = 0
    assert frechet_distance(moments(first), moments(first)) == pytest.approx(0, abs=1e-5)
    assert frechet_distance(moments(first), moments(second)) > 1


def test_a_shift_costs_its_square():
    features = correlated(100, 4, seed=2)
    shift = torch.tensor([3.0, 0.0, -4.0, 0.0])
    assert frechet_distance(moments(features), moments(features + shift)) == pytest.approx(25, rel=1e-9)


def test_moments_of_parts_add_up_to_those_of_the_whole():
    features = correlated(100, 4, seed=3)
    parts = sum(moments(part) for part in features.split([1, 40, 59]))
    assert torch.allclose(parts, moments(features), rtol=1e-12)


def test_a_large_mean_does_not_drown_the_covariance():
    first, second = (correlated(500, 4, seed=seed).float() for seed in (4, 5))
    expected = textbook_distance(first + 1000, second + 1000)  # in single precision, sums of squares lose all of it
    assert frechet_distance(moments(first + 1000), moments(second + 1000)) == pytest.approx(expected, rel=1e-6)


def test_one_image_has_no_covariance():
    with pytest.raises(ValueError, match="two images or more on both sides, not 1"):
        frechet_distance(moments(torch.ones(1, 3)), moments(torch.randn(9, 3)))


@pytest.fixture
def classifier(tmp_path):
    """A classifier of images with one channel that were normalised, in a folder; and the same in memory."""
    architecture = ARCHITECTURES.find("resnet")
    model = perturbed(architecture, zoo.config("resnet20", depths=(1, 1), width=8, in_channels=1))
    remember(model, preprocessing={"mean": (0.25,), "std": (0.5,), "image_size": 8})
    zoo.save(model, tmp_path / "classifier")
    return f"local-dir:{tmp_path / 'classifier'}", model


def test_the_judge_normalises_and_looks_before_the_head(classifier):
    name, model = classifier
    image = torch.rand(6, 1, 8, 8)
    features, probability = Judge(name)(image)
    maps = model.forward_features((image - 0.25) / 0.5)
    assert torch.equal(features, maps.mean((-2, -1)))
    assert torch.equal(probability, model((image - 0.25) / 0.5).softmax(-1))
    assert features.shape == (6, 16)
    assert not features.requires_grad


def test_untrained_networks_and_those_without_features_are_no_judges(tmp_path):
    with pytest.raises(ConfigError, match=r"objective\.features: resnet20 has no trained weights .* resnet20\.digits"):
        Judge("resnet20")
    model = zoo.create("mlp", in_features=4)
    remember(model, preprocessing={"mean": (0.0,), "std": (1.0,)})
    zoo.save(model, tmp_path)
    with pytest.raises(ConfigError, match=r"objective\.features: .* is no image classifier"):
        Judge(f"local-dir:{tmp_path}")


def test_a_judge_of_texts_is_told_what_a_judge_is():
    with pytest.raises(ConfigError, match=r"objective\.features: gpt2\.stdlib is no image classifier"):
        Judge("gpt2.stdlib")


@pytest.fixture(scope="module")
def images():
    """The digits to train on and to test on, in [0, 1]."""
    splits = digits.load(digits.Digits(normalize="none"))
    return [part.fetch(range(len(part)), None)["image"] for part in (splits.train, splits.test)]


def test_the_mixture_lies_between_the_data_and_noise(images):
    train, test = images
    drawn = mixture_samples(train, 2000)
    assert drawn.shape == (2000, 1, 8, 8)
    sets = {"train": train, "mixture": drawn, "noise": torch.rand(2000, 1, 8, 8)}
    real = moments(test.flatten(1))
    distance = {name: frechet_distance(moments(image.flatten(1)), real) for name, image in sets.items()}
    assert distance["train"] < distance["mixture"] < distance["noise"] / 10
    assert distance["mixture"] < 0.25


def test_the_yardstick_is_the_same_in_every_run_and_is_cut_into_parts_unseen(images, classifier):
    judge, train = Judge(classifier[0]), images[0][:300]
    whole = yardstick(judge, train, 700)
    assert torch.equal(whole, yardstick(judge, train, 700))
    assert whole[0, 0] == 700
    assert torch.allclose(whole, moments(judge(mixture_samples(train, 700))[0]), rtol=1e-5)
