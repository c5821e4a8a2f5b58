"""The data sets: their splits, what normalises them, what augments them, and what they refuse."""

import pickle

import numpy as np
import pytest
import torch
from samples import photos, read, rngs, rows_of, whole, write
from sklearn import datasets
from sklearn.model_selection import train_test_split
from torchvision.datasets import FakeData

from zoo.config import ConfigError
from zoo.training.data.arrays import hold_out
from zoo.training.data.images import shift_and_flip
from zoo.training.data.locate import locate


def test_digits_are_scikit_learns_own_split():
    images, targets = datasets.load_digits(return_X_y=True)
    for part, expected in zip(
        ("train", "test"),
        list(zip(*[train_test_split(a, test_size=0.2, random_state=0) for a in (images, targets)], strict=True)),
        strict=True,
    ):
        batch = whole(getattr(read("digits", normalize="none"), part))
        assert torch.equal(batch["features"], torch.tensor(expected[0] / 16).float())
        assert torch.equal(batch["target"], torch.tensor(expected[1]))
    assert len(batch["target"]) == 360


def test_digits_are_images_in_the_unit_range_and_the_same_as_features():
    splits = read("digits", normalize="none")
    batch = whole(splits.train)
    assert batch["image"].shape == (1437, 1, 8, 8)
    assert (batch["image"].min(), batch["image"].max()) == (0, 1)
    assert torch.equal(batch["features"], batch["image"].flatten(1))
    assert splits.spec.model_fields() == {"num_classes": 10, "in_features": 64, "in_channels": 1, "image_size": 8}


@pytest.mark.parametrize("options", [{}, {"val_fraction": 0.5}, {"per_class": 3}, {"classes": [0, 1]}], ids=str)
def test_mean_and_std_are_those_of_the_training_part_alone(options):
    splits, raw = read("digits", **options), read("digits", normalize="none", **options)
    train = whole(raw.train)["image"].double()
    assert splits.spec.mean == pytest.approx([float(train.mean())])
    assert splits.spec.std == pytest.approx([float(train.std(correction=0))])
    expected = (whole(raw.test)["image"] - splits.spec.mean[0]) / splits.spec.std[0]
    torch.testing.assert_close(whole(splits.test)["image"], expected)


def test_a_given_mean_and_std_wins():
    splits = read("digits", mean=[0.25], std=[2.0])
    plain = read("digits", normalize="none")
    assert (splits.spec.mean, splits.spec.std) == ((0.25,), (2.0,))
    torch.testing.assert_close(whole(splits.test)["image"], (whole(plain.test)["image"] - 0.25) / 2)


def test_range_goes_from_minus_one_to_one():
    image = whole(read("digits", normalize="range").train)["image"]
    assert (image.min(), image.max()) == (-1, 1)


def test_chosen_digits_are_renumbered_in_the_given_order_and_keep_their_names():
    everything, chosen = read("digits", normalize="none"), read("digits", normalize="none", classes=[7, 2])
    assert chosen.spec.labels == ("7", "2")
    assert chosen.spec.num_classes == 2
    images, digits = whole(everything.test)["image"], whole(everything.test)["target"]
    batch = whole(chosen.test)
    assert torch.equal(batch["image"], images[(digits == 7) | (digits == 2)])
    assert torch.equal(batch["target"], (digits[(digits == 7) | (digits == 2)] == 2).long())


def test_per_class_keeps_so_many_training_images_and_the_whole_test_part():
    splits = read("digits", per_class=5, classes=[5, 6, 7, 8, 9])
    assert torch.bincount(whole(splits.train)["target"]).tolist() == [5] * 5
    assert len(splits.test) == len(read("digits", classes=[5, 6, 7, 8, 9]).test)
    again, other = (read("digits", per_class=5, classes=[5, 6, 7, 8, 9], subset_seed=s) for s in (0, 1))
    assert torch.equal(whole(again.train)["target"], whole(splits.train)["target"])
    assert rows_of(whole(again.train)) == rows_of(whole(splits.train)) != rows_of(whole(other.train))


def test_validation_is_carved_from_train_and_holds_the_same_share_of_every_class():
    everything, splits = read("digits", normalize="none"), read("digits", normalize="none", val_fraction=0.2)
    train, val = whole(splits.train), whole(splits.val)
    assert sorted(rows_of(train) + rows_of(val)) == sorted(rows_of(whole(everything.train)))
    assert rows_of(whole(splits.test)) == rows_of(whole(everything.test))
    totals, held = torch.bincount(whole(everything.train)["target"]), torch.bincount(val["target"])
    assert ((held / totals - 0.2).abs() < 0.005).all()


def test_holding_out_always_leaves_one_of_a_class_and_says_when_it_holds_out_none():
    keep, out = hold_out(np.array([0, 0, 0, 0, 1]), 0.9, 0, "val_fraction")
    assert sorted([*keep, *out]) == list(range(5))
    assert 4 in keep
    with pytest.raises(ValueError, match=r"val_fraction 0\.01 of 5 samples holds out none"):
        hold_out(np.zeros(5), 0.01, 0, "val_fraction")


def test_a_shifted_image_is_the_image_moved_with_zeros_coming_in():
    image = torch.arange(1.0, 10).reshape(1, 1, 3, 3).repeat(200, 1, 1, 1)
    moved = shift_and_flip(image, rngs(range(200)), shift=1, flip=False)
    padded = torch.nn.functional.pad(image[0], [1, 1, 1, 1])
    possible = [padded[:, i : i + 3, j : j + 3].flatten().tolist() for i in range(3) for j in range(3)]
    seen = [row.flatten().tolist() for row in moved]
    assert all(row in possible for row in seen)
    assert all(row in seen for row in possible)


def test_a_flip_mirrors_about_half_of_the_images():
    image = torch.arange(9.0).reshape(1, 1, 3, 3).repeat(400, 2, 1, 1)
    moved = shift_and_flip(image, rngs(range(400)), shift=0, flip=True)
    flipped = (moved == image.flip(-1)).flatten(1).all(1)
    assert torch.equal(moved[~flipped], image[~flipped])
    assert 150 < int(flipped.sum()) < 250


def test_ink_moves_in_from_black_whatever_the_normalisation():
    splits = read("digits", shift=3)
    train = splits.train
    moved = train.fetch(range(300), rngs(range(300)))["image"] * splits.spec.std[0] + splits.spec.mean[0]
    assert moved.min() == pytest.approx(0, abs=1e-6)
    assert not torch.allclose(moved, whole(read("digits", normalize="none").train)["image"][:300], atol=1e-6)


def test_augmentation_depends_on_the_sample_and_its_epoch_only():
    train = read("digits", shift=2).train
    together = train.fetch([3, 4, 5], rngs([3, 4, 5]))
    alone = train.fetch([4], rngs([4]))
    assert torch.equal(together["image"][1:2], alone["image"])
    assert torch.equal(together["features"], together["image"].flatten(1))
    later = [train.fetch([4], rngs([4], epoch))["image"] for epoch in range(1, 9)]
    assert any(not torch.equal(alone["image"], image) for image in later)


def test_without_generators_nothing_is_augmented():
    moving, still = read("digits", shift=2), read("digits")
    assert torch.equal(whole(moving.train)["image"], whole(still.train)["image"])
    assert torch.equal(moving.test.fetch([0, 1], rngs([0, 1]))["image"], still.test.fetch([0, 1], None)["image"])


def test_digits_can_be_interpolated():
    splits = read("digits", image_size=32)
    assert whole(splits.test)["image"].shape == (360, 1, 32, 32)
    assert splits.spec.model_fields()["image_size"] == 32
    assert splits.spec.in_features == 1024


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": [3, 12]}, "different digits from 0 to 9"),
        ({"classes": [3, 3]}, "different digits from 0 to 9"),
        ({"classes": [3]}, "only one"),
        ({"per_class": 0}, "per_class 0 is below 1"),
        ({"per_class": 1000}, "per_class 1000 is more than"),
        ({"val_fraction": 1.0}, r"val_fraction 1.0 is not in \[0, 1\)"),
        ({"shift": 8}, "shift 8"),
        ({"image_size": 0}, "image_size 0 is below 1"),
        ({"mean": [0.5]}, "differ in length"),
        ({"mean": [0.5, 0.5], "std": [1.0, 1.0]}, "one per channel"),
        ({"mean": [0.5], "std": [0.0]}, "not positive"),
        ({"normalise": "none"}, "did you mean normalize"),
        ({"normalize": "batch"}, "one of standard, range, none"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        read("digits", **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "rows", "columns", "classes"),
    [("iris", 150, 4, 3), ("wine", 178, 13, 3), ("breast_cancer", 569, 30, 2), ("diabetes", 442, 10, 1)],
)
def test_bundled_tables_are_standardised_by_their_training_part(name, rows, columns, classes):
    splits = read(name)
    train, test = whole(splits.train)["features"], whole(splits.test)["features"]
    assert (len(train) + len(test), train.shape[1]) == (rows, columns)
    assert splits.spec.model_fields() == {"num_classes": classes, "in_features": columns}
    torch.testing.assert_close(train.mean(0), torch.zeros(columns), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0, correction=0), torch.ones(columns))
    raw = train_test_split(getattr(datasets, f"load_{name}")().data, test_size=0.2, random_state=0)
    expected = (torch.tensor(raw[1]) - torch.tensor(splits.spec.mean)) / torch.tensor(splits.spec.std)
    torch.testing.assert_close(test, expected.float(), atol=1e-4, rtol=1e-4)


def test_diabetes_gives_quantities_as_measured_and_says_how_to_standardise_them():
    splits = read("diabetes", val_fraction=0.1)
    target = whole(splits.train)["target"]
    assert target.shape == (318, 1)
    assert (target.min(), target.max()) == (25, 346)
    assert splits.spec.target_mean == pytest.approx([float(target.mean())])
    assert splits.spec.target_std == pytest.approx([float(target.std(correction=0))])
    assert read("iris").spec.target_mean == ()


def test_names_of_classes_are_kept():
    assert read("iris").spec.labels == ("setosa", "versicolor", "virginica")


def test_torchvision_sets_come_by_name_and_are_held_in_memory():
    splits = read("torchvision", dataset="fakedata", val_fraction=0.25, flip=True, shift=4)
    assert [len(part) for part in (splits.train, splits.test)] == [256 - len(splits.val), 64]
    assert abs(len(splits.val) - 64) < 6
    assert splits.spec.model_fields() == {"num_classes": 10, "in_features": 3072, "in_channels": 3, "image_size": 32}
    image = whole(splits.train)["image"]
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    assert not torch.equal(splits.train.fetch([0], rngs([0]))["image"], splits.train.fetch([0], None)["image"])
    photo, target = FakeData(64, (3, 32, 32), random_offset=256)[7]
    sample = splits.test.fetch([7], None)
    restored = sample["image"][0] * torch.tensor(splits.spec.std)[:, None, None]
    restored = (restored + torch.tensor(splits.spec.mean)[:, None, None]) * 255
    torch.testing.assert_close(restored, torch.tensor(np.array(photo)).movedim(-1, 0).float(), atol=1e-2, rtol=0)
    assert int(sample["target"]) == int(target)


def test_a_torchvision_set_that_is_not_there_says_how_to_get_it(tmp_path):
    with pytest.raises(OSError, match=r"torchvision:CIFAR10 is not in .*data\.download=true fetches it") as caught:
        read("torchvision", dataset="CIFAR10", root=str(tmp_path))
    assert "\n" not in str(caught.value)


def test_an_unknown_torchvision_set_names_the_nearest():
    with pytest.raises(ConfigError, match=r"dataset 'CIFAR11' is not among .*; did you mean CIFAR10"):
        read("torchvision", dataset="CIFAR11")


def test_what_after_data_becomes_a_data_section(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    photos(tmp_path / "pets")
    for name in ("table.csv", "notes.txt"):
        write(tmp_path, "1,2\n", name)
    (tmp_path / "digits").mkdir()
    (tmp_path / "texts").mkdir()
    assert locate("Breast-Cancer") == {"name": "breast_cancer"}
    assert locate("digits") == {"name": "digits"}
    assert locate("pets") == {"name": "image_folder", "path": "pets"}
    assert locate("table.csv") == {"name": "tabular", "path": "table.csv"}
    assert locate("notes.txt") == {"name": "text", "path": "notes.txt"}
    assert locate("./texts") == {"name": "text", "path": "./texts"}
    assert locate("torchvision:CIFAR10") == {"name": "torchvision", "dataset": "CIFAR10"}


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("digit", "did you mean digits"),
        ("no/such/path.csv", "neither registered, nor an existing path"),
        ("", "neither registered"),
        ("hf-hub:owner/set", "download it and give its path"),
    ],
)
def test_what_is_nothing_is_refused(what, message):
    with pytest.raises(ValueError, match=message) as caught:
        locate(what)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["digits", "iris", "diabetes", "image_folder", "torchvision"])
def test_every_split_gives_the_keys_that_its_spec_declares(name, tmp_path):
    options = {"image_folder": {"path": None, "image_size": 8}, "torchvision": {"dataset": "FakeData"}}.get(name, {})
    if "path" in options:
        options = {**options, "path": photos(tmp_path)}
    splits = pickle.loads(pickle.dumps(read(name, **options)))
    for part in (splits.train, splits.test):
        batch = part.fetch(np.array([1, 0]), None)
        assert tuple(batch) == splits.spec.keys
        assert {len(value) for value in batch.values()} == {2}
        assert batch["target"].dtype == (torch.float32 if splits.spec.target_mean else torch.int64)
