"""Patches of two photos: what is tested was never seen in training."""

import numpy as np
import pytest
import torch
from samples import read, rngs, whole
from sklearn.datasets import load_sample_images

from zoo.training.data.photo_patches import LARGEST, PhotoPatches

PHOTOS = [torch.tensor(image).movedim(-1, 0) for image in load_sample_images().images]


def covered(part, corners=None):
    """Which pixels of the photos a part's patches show, (photos, height, width)."""
    shown, size = torch.zeros(2, 427, 640, dtype=torch.bool), part.options.image_size
    for photo, row, column in part.corners if corners is None else corners:
        shown[photo, row : row + size, column : column + size] = True
    return shown


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.2}, {"image_size": 8}, {"image_size": LARGEST}], ids=str)
def test_no_pixel_that_is_evaluated_is_in_any_patch_to_train_on(options):
    splits = read("photo_patches", **options)
    every = splits.train.corners
    edge = [(p, y, x) for p, y, x in every if y % 7 == 0 or x % 7 == 0] if len(every) > 20_000 else every
    train, test = covered(splits.train, edge), covered(splits.test)
    assert not (train & test).any()
    assert train.float().mean() > 0.4
    assert 0.1 < test.float().mean() <= 0.2
    if splits.val is not None:
        val = covered(splits.val)
        assert not (val & (train | test)).any()
        assert val.any((1, 2)).all()
    for part in filter(None, (splits.val, splits.test)):
        assert covered(part).sum() == len(part) * part.options.image_size**2  # side by side, none twice


def test_a_patch_is_cut_from_the_photo_at_its_corner():
    splits = read("photo_patches", normalize="none")
    batch = whole(splits.test)
    assert tuple(batch) == splits.spec.keys == ("image",)
    for (photo, row, column), image in zip(splits.test.corners, batch["image"], strict=True):
        cut = PHOTOS[photo][:, row : row + 32, column : column + 32]
        assert torch.equal(image, cut / 255)


def test_a_training_patch_depends_on_its_sample_and_its_epoch_only():
    train = read("photo_patches").train
    together, alone = train.fetch([3, 4, 5], rngs([3, 4, 5]))["image"], train.fetch([4], rngs([4]))["image"]
    assert torch.equal(together[1:2], alone)
    assert not torch.equal(alone, train.fetch([4], rngs([4], epoch=1))["image"])
    assert torch.equal(train.fetch([1, 2], None)["image"][1:], train.fetch([2], None)["image"])


def test_training_patches_come_from_everywhere_in_both_photos():
    train = read("photo_patches", normalize="none").train
    drawn = train.fetch(range(2000), rngs(range(2000)))["image"].mean((1, 2, 3))
    corners = train.corners[np.random.default_rng(0).integers(len(train.corners), size=2000)]
    expected = torch.stack([PHOTOS[p][:, y : y + 32, x : x + 32].float().mean() / 255 for p, y, x in corners])
    quantiles = torch.linspace(0.1, 0.9, 9)
    torch.testing.assert_close(drawn.quantile(quantiles), expected.quantile(quantiles), atol=0.05, rtol=0)


def test_patches_are_normalised_by_the_pixels_to_train_on():
    splits = read("photo_patches", samples=2000)
    image = whole(splits.train)["image"]
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.zeros(3), atol=0.1, rtol=0)
    torch.testing.assert_close(image.std((0, 2, 3)), torch.ones(3), atol=0.1, rtol=0)
    assert splits.spec.model_fields() == {"in_channels": 3, "image_size": 32}
    narrow = read("photo_patches", normalize="range", image_size=16)
    assert 0.9 < whole(narrow.test)["image"].abs().max() <= 1
    assert (len(narrow.test), len(narrow.train)) == (384, 4096)


@pytest.mark.parametrize("options", [{"samples": 0}, {"image_size": 107}, {"val_fraction": 1.0}], ids=str)
def test_patches_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        PhotoPatches(**options)
