"""Photos in folders, one folder for each class.

Either `path/train/<class>/*.jpg`, with `path/val` and `path/test` of the same layout where they exist, or
`path/<class>/*.jpg`, from which a test part is drawn.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from zoo.registry import did_you_mean
from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_fractions, hold_out
from zoo.training.data.images import Normalize, Photos, View, check_image_options, normalisation

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MEASURED = 256  # training photos from which mean and std are computed; more do not move the third digit


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """Where the photos are and how they are presented."""

    path: str
    image_size: int = 224
    """Height and width of the square that the model sees."""
    in_channels: Literal[1, 3] = 3
    augment: Literal["none", "crop_flip"] = "crop_flip"
    """`crop_flip`: training photos are cropped at random and mirrored half the time."""
    min_area: float = 0.08
    """The smallest share of a photo that a random crop keeps."""
    crop_fraction: float = 0.875
    """The central share of the shorter side that is seen when evaluating."""
    test_fraction: float = 0.2
    """Share of each class to test on, where there is neither a `test` nor a `val` folder."""
    val_fraction: float = 0.0
    """Share of each class's training photos to hold out for validation, where there is no `val` folder."""
    subset_seed: int = 0
    """Draws which."""
    normalize: Normalize = "standard"
    """`standard`: by mean and standard deviation of (a sample of) the training photos; `range`: to [-1, 1]."""
    mean: tuple[float, ...] = ()
    """Normalise by this and `std` instead, as a model that is fine-tuned expects it."""
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_fractions(test_fraction=self.test_fraction, val_fraction=self.val_fraction)
        check_image_options(self.mean, self.std, image_size=self.image_size)
        for name in ("min_area", "crop_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in (0, 1]")


@dataclass(frozen=True)
class Files:
    """Image files and their classes."""

    paths: np.ndarray
    targets: np.ndarray

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """The decoded PIL image and its class; see `open_image`."""
        return open_image(str(self.paths[index])), int(self.targets[index])


def open_image(path: str | Path) -> Any:
    """A decoded PIL image.

    Raises:
        OSError: the file is missing, damaged, no 8-bit image, or so large that decoding it would be an attack.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.load()
    except FileNotFoundError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise OSError(f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels; scale the image down") from None
    except Exception as error:  # noqa: BLE001 - PIL's decoders raise SyntaxError, struct.error and others on damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{path}: not a readable image, or damaged ({reason})") from None
    if image.mode.startswith(("I", "F")):
        raise OSError(f"{path}: mode {image.mode} has more than 8 bits per channel; convert it to 8")
    return image


def load(options: ImageFolder) -> Splits:
    """List the folders and divide the photos; see `ImageFolder`.

    Raises:
        ValueError: there is no such folder, no class or no image in it, or a class that is not among the training
            classes.
        OSError: a photo cannot be decoded.
    """
    root = Path(options.path)
    has_train = (root / "train").is_dir()
    labels = _class_names(root / "train" if has_train else root)
    training = _files(root / "train" if has_train else root, labels)
    given = {
        name: _files(root / name, labels) if has_train and (root / name).is_dir() else None for name in ("val", "test")
    }
    rows = {"train": np.arange(len(training.paths)), "val": np.empty(0, np.int64), "test": np.empty(0, np.int64)}
    for name, fraction in (("test", options.test_fraction), ("val", options.val_fraction)):
        if given[name] is None and (name == "val" or given["val"] is None):
            left = rows["train"]
            keep, out = hold_out(training.targets[left], fraction, options.subset_seed, f"{name}_fraction")
            rows["train"], rows[name] = left[keep], left[out]

    mean, std = normalisation(
        _measured(training, rows["train"], options), options.normalize, options.mean, options.std, options.in_channels
    )

    def part(name: str) -> Photos | None:
        files = given.get(name)
        indices = rows[name] if files is None else np.arange(len(files.paths))
        view = _view(options, mean, std, options.augment if name == "train" else "none")
        return Photos(samples=files or training, indices=indices, view=view) if len(indices) else None

    spec = Spec(
        keys=("image", "target"),
        num_classes=len(labels),
        in_channels=options.in_channels,
        image_size=options.image_size,
        labels=labels,
        mean=mean,
        std=std,
        value_range=(0.0, 1.0),
    )
    train = part("train")
    if train is None:
        raise ValueError(f"{root}: no photo is left to train on; lower data.test_fraction and data.val_fraction")
    return Splits(spec=spec, train=train, val=part("val"), test=part("test"))


def _view(options: ImageFolder, mean: tuple[float, ...], std: tuple[float, ...], augment: Any) -> View:
    return View(
        image_size=options.image_size,
        in_channels=options.in_channels,
        augment=augment,
        min_area=options.min_area,
        crop_fraction=options.crop_fraction,
        mean=mean,
        std=std,
    )


def _measured(files: Files, rows: np.ndarray, options: ImageFolder):
    """Some training photos, spread evenly, as the model would see them before normalisation."""
    zero, one = (0.0,) * options.in_channels, (1.0,) * options.in_channels
    view = _view(options, zero, one, "none")
    for index in np.unique(np.linspace(0, len(rows) - 1, min(MEASURED, len(rows))).astype(int)):
        yield torch.stack([view(files[int(rows[index])][0], None)])


def _class_names(root: Path) -> tuple[str, ...]:
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder; data.path must hold one folder of images for each class")
    names = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."))
    if len(names) < 2:
        raise ValueError(
            f"{root}: {len(names)} class folders, and at least two are needed; the layout is <class>/*.jpg, or "
            "train/<class>/*.jpg with val and test beside train"
        )
    return names


def _files(root: Path, labels: tuple[str, ...]) -> Files:
    paths, targets = [], []
    for name in _class_names(root):
        if name not in labels:
            raise ValueError(f"{root}: class {name!r} is not among the training classes{did_you_mean(name, labels)}")
        found = sorted(str(file) for file in (root / name).rglob("*") if _is_image(file))
        if not found:
            raise ValueError(f"{root / name}: no image in it ({', '.join(sorted(SUFFIXES))}); every class needs some")
        paths += found
        targets += [labels.index(name)] * len(found)
    return Files(np.array(paths), np.array(targets))


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()


DATA = DataSet(name="image_folder", config=ImageFolder, load=load)
