"""How alike images look: of each image by itself, in the unit range, and only where a window fits."""

import importlib.util

import pytest
import torch
from samples import read
from torch import nn

import zoo
from zoo.architectures.mae import MAEOutput
from zoo.config import ConfigError
from zoo.nn.patches import to_patches
from zoo.training.data import Splits
from zoo.training.data.arrays import Arrays
from zoo.training.objectives.elbo import OBJECTIVE as ELBO
from zoo.training.objectives.masked_reconstruction import OBJECTIVE as Masked
from zoo.training.objectives.reconstruction import OBJECTIVE as Reconstruction
from zoo.training.quality import psnr, similarity, unit_image


def photos(size=32, **options):
    """The patches to test on, in [0, 1], as (photo patches, spec, normalised)."""
    splits = read("photo_patches", image_size=size, **options)
    image = splits.test.fetch(range(len(splits.test)), None)["image"][:40]
    return unit_image(image, splits.spec), splits.spec, image


class Darker(nn.Module):
    """Gives an image back with every number lower by one twentieth of the unit range."""

    def __init__(self, spec):
        super().__init__()
        self.off = 0.05 / torch.tensor(spec.std)[:, None, None]

    def encode(self, image):
        return image

    decode = encode

    def latent_shape(self, image):
        return (3,)

    def forward(self, image, noise=None):
        from zoo.architectures.vae import VAEOutput

        return VAEOutput(image - self.off, torch.zeros(len(image), 3), torch.zeros(len(image), 3))


class Plain(Darker):
    """The same, without a distribution."""

    latent_shape = property()


class Guesses(nn.Module):
    """Hides the patches above the median; of these it is off by 0.1 of the unit range, of the others by far."""

    def __init__(self, spec):
        super().__init__()
        self.off = (0.1 / torch.tensor(spec.std)).repeat(16)

    def example_inputs(self, batch_size):
        return {"image": torch.zeros(batch_size, 3, 32, 32), "noise": torch.zeros(batch_size, 64)}

    def forward(self, image, noise):
        mask = noise > noise.median(1, keepdim=True).values
        return MAEOutput(to_patches(image, 4) + torch.where(mask[..., None], self.off, 9.0), mask)


def measured(make, model, batch_size=40, normalize="standard", **options):
    """The metrics of a model on photo patches."""
    image, spec, normalised = photos(normalize=normalize)
    objective = make(make.config(**options), spec)
    config = zoo.RunConfig.of({"data": {"batch_size": batch_size}, "trainer": {"steps": 1, "device": "cpu"}})
    data = Splits(spec=spec, train=Arrays({"image": normalised}), test=Arrays({"image": normalised}))
    return zoo.Trainer(config, model(spec), data, objective, quiet=True).evaluate(), image


def test_the_ratio_is_each_image_s_own_in_decibels():
    wanted = torch.rand(5, 3, 8, 8)
    found = (wanted + torch.linspace(0.01, 0.3, 5)[:, None, None, None] * torch.randn(5, 3, 8, 8)).clamp(0, 1)
    expected = -10 * (found - wanted).square().mean((1, 2, 3)).log10()
    torch.testing.assert_close(psnr(found, wanted), expected)
    torch.testing.assert_close(psnr(found.flatten(1), wanted.flatten(1)), expected)


def test_similarity_is_one_of_what_is_the_same_and_sees_structure_where_the_error_does_not():
    image, _, _ = photos()
    assert similarity(image, image)["ssim"].tolist() == pytest.approx([1.0] * 40, abs=1e-3)
    wave = torch.randn(image.shape, generator=torch.Generator().manual_seed(0))
    noisy, brighter = image * 0.8 + 0.05 * wave, image * 0.8 + 0.05
    one, other = (similarity(changed, image * 0.8)["ssim"] for changed in (noisy, brighter))
    assert (one < other).all()


@pytest.mark.parametrize(("size", "names"), [(10, []), (11, ["ssim"]), (175, ["ssim"]), (176, ["ms_ssim"])])
def test_windows_have_to_fit(size, names):
    image = torch.rand(2, 3, size, size + 8)
    assert list(similarity(image, image)) == names
    assert all(values.tolist() == pytest.approx([1, 1]) for values in similarity(image, image).values())


@pytest.mark.parametrize("normalize", ["standard", "range", "none"])
@pytest.mark.parametrize(("make", "model"), [(Reconstruction, Plain), (ELBO, Darker)], ids=["reconstruction", "elbo"])
def test_images_are_compared_as_they_look_however_they_were_normalised(make, model, normalize):
    metrics, image = measured(make, model, normalize=normalize, quality=True)
    darker = (image - 0.05).clamp(0, 1)
    assert metrics["psnr"] == pytest.approx(float(psnr(darker, image).mean()), rel=1e-4)
    assert metrics["ssim"] == pytest.approx(float(similarity(darker, image)["ssim"].mean()), rel=1e-3)
    assert metrics["mse"] == pytest.approx(0.05**2, rel=1e-4)
    assert not {"psnr", "ssim"} & measured(make, model)[0].keys()


@pytest.mark.parametrize("normalize", ["standard", "none"])
def test_of_hidden_patches_the_error_is_told_and_of_the_others_nothing(normalize):
    metrics, image = measured(Masked, Guesses, normalize=normalize, quality=True)
    assert metrics["mse"] == pytest.approx(0.1**2, rel=1e-4)
    assert 20 < metrics["psnr"] < 22  # what is beyond white is cut off
    whole, _ = measured(Masked, Guesses, normalize=normalize)
    assert whole == {name: metrics[name] for name in ("loss", "mse")}
    assert 0.5 < metrics["ssim"] < float(similarity((image + 0.05).clamp(0, 1), image)["ssim"].mean())


@pytest.mark.parametrize(("make", "model"), [(Reconstruction, Plain), (Masked, Guesses)])
def test_how_evaluation_is_cut_into_batches_changes_nothing(make, model):
    whole, parts = (measured(make, model, batch_size=rows, quality=True)[0] for rows in (40, 7))
    assert whole == pytest.approx(parts, rel=1e-5)


@pytest.mark.parametrize(("make", "model"), [(Reconstruction, Plain), (ELBO, Darker), (Masked, Guesses)])
def test_without_torchmetrics_the_run_does_not_begin(make, model, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"by torchmetrics; pip install 'zoo\[train\]'"):
        measured(make, model, quality=True)


def test_patches_that_are_normalised_are_no_images():
    with pytest.raises(ValueError, match="normalize_patches predicts none"):
        Masked.config(quality=True, normalize_patches=True)
    assert measured(Masked, Guesses, normalize_patches=True)[0].keys() == {"loss"}
