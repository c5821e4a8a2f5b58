"""Folders of photos: layouts, augmentation, and damaged files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from samples import photos, read, rngs, whole, write

from zoo.training.data.loader import Order, Plan, training_batches


def test_folders_of_photos_are_classes(tmp_path):
    splits = read("image_folder", path=photos(tmp_path), image_size=16, test_fraction=0.5)
    batch = whole(splits.test)
    assert splits.spec.labels == ("cat", "dog")
    assert batch["image"].shape == (6, 3, 16, 16)
    assert batch["target"].tolist() == [0, 0, 0, 1, 1, 1]
    assert splits.val is None
    dark, bright = batch["image"][:3].mean(), batch["image"][3:].mean()
    assert dark < 0 < bright


def test_photos_are_normalised_by_the_training_part(tmp_path):
    path = photos(tmp_path)
    splits = read("image_folder", path=path, image_size=16, augment="none")
    image = whole(splits.train)["image"]
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(image.std((0, 2, 3)), torch.ones(3), atol=1e-3, rtol=0)
    given = read("image_folder", path=path, image_size=16, mean=[0.5] * 3, std=[0.1] * 3)
    assert given.spec.mean == (0.5, 0.5, 0.5)


def test_train_val_and_test_folders_are_taken_as_they_are(tmp_path):
    photos(tmp_path / "train", count=4)
    photos(tmp_path / "val", count=2)
    photos(tmp_path / "test", classes=("dog",), count=3)
    splits = read("image_folder", path=str(tmp_path), image_size=8)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [8, 4, 3]
    assert whole(splits.test)["target"].tolist() == [1, 1, 1]


def test_a_val_folder_without_a_test_folder_leaves_train_whole(tmp_path):
    photos(tmp_path / "train", count=4)
    photos(tmp_path / "val", count=2)
    splits = read("image_folder", path=str(tmp_path), image_size=8)
    assert (len(splits.train), len(splits.val), splits.test) == (8, 4, None)


def test_photos_are_cropped_by_their_own_generator_and_leave_torchs_alone(tmp_path):
    train = read("image_folder", path=photos(tmp_path), image_size=12).train
    torch.manual_seed(3)
    state = torch.get_rng_state()
    together = train.fetch([1, 2, 5], rngs([1, 2, 5]))["image"]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(4)
    assert torch.equal(train.fetch([2], rngs([2]))["image"], together[1:2])
    assert not torch.equal(train.fetch([2], rngs([2], epoch=1))["image"], together[1:2])
    assert torch.equal(train.fetch([2], None)["image"], train.fetch([2], None)["image"])


def test_grey_photos_have_one_channel(tmp_path):
    splits = read("image_folder", path=photos(tmp_path), image_size=8, in_channels=1)
    assert whole(splits.test)["image"].shape[1:] == (1, 8, 8)
    assert (splits.spec.in_channels, len(splits.spec.mean)) == (1, 1)


def test_a_damaged_photo_is_named(tmp_path):
    splits = read("image_folder", path=photos(tmp_path), image_size=8, test_fraction=0.0)
    for path, content in ((splits.train.paths[0], b"no image"), (splits.train.paths[1], None)):
        content = content or Path(path).read_bytes()[:200]
        write(tmp_path, content, path)
    for index in (0, 1):
        with pytest.raises(OSError, match="not a readable image, or damaged") as caught:
            splits.train.fetch([index], None)
        assert splits.train.paths[index] in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_photo_of_absurd_size_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    splits = read("image_folder", path=photos(tmp_path), image_size=8)
    for limit in (900, 100):  # PIL only warns up to twice its limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(OSError, match=f"more than {limit} pixels"):
            splits.train.fetch([0], None)


def test_a_photo_of_sixteen_bits_is_refused(tmp_path):
    splits = read("image_folder", path=photos(tmp_path), image_size=8)
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(splits.train.paths[0])
    with pytest.raises(ValueError, match="more than 8 bits"):
        splits.train.fetch([0], None)


def test_folders_without_photos_or_classes_are_refused(tmp_path):
    def refused(message, path=tmp_path):
        with pytest.raises(ValueError, match=message) as caught:
            read("image_folder", path=str(path))
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)

    refused("is no folder; the layout is", tmp_path / "nothing")
    refused("0 class folders")
    photos(tmp_path, classes=("cat",))
    refused("1 class folders")
    (tmp_path / "dog").mkdir()
    refused("holds no image")
    photos(tmp_path / "train")
    photos(tmp_path / "test", classes=("cats",))
    refused("'cats' is not among the training classes; did you mean cat")


def test_workers_augment_as_the_training_process_does(tmp_path):
    splits = read("image_folder", path=photos(tmp_path), image_size=8)
    plan = Plan(Order(len(splits.train), 0), 4, 1, 0, 1, 0, 5)
    alone, helped = (list(training_batches(splits.train, plan, 0, workers, False)) for workers in (0, 2))
    assert all(torch.equal(a.batch["image"], b.batch["image"]) for a, b in zip(alone, helped, strict=True))
