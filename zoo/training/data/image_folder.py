"""Photos in folders, one folder for each class.

Either `path/train/<class>/*.jpg`, with `path/val` and `path/test` of the same layout where they exist, or
`path/<class>/*.jpg`, from which a test part is drawn.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from zoo.registry import did_you_mean
from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_fractions, hold_out
from zoo.training.data.images import ImageOptions, normalisation
from zoo.training.data.photos import Photos, View, open_image

LAYOUT = "the layout is <class>/*.jpg, or train/<class>/*.jpg with val and test beside train"
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
MEASURED = 256  # training photos from which mean and std are computed; more do not move the third digit


@dataclass(frozen=True, kw_only=True)
class ImageFolder(ImageOptions):
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

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        super().__post_init__()
        check_fractions(test_fraction=self.test_fraction)
        for name in ("min_area", "crop_fraction"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} {getattr(self, name)} is not in (0, 1]")


def load(options: ImageFolder) -> Splits:
    """List the folders and divide the photos; see `ImageFolder`.

    Raises:
        ValueError: there is no such folder, no class or no image in it, or a class that is not among the training
            classes.
        OSError: a photo cannot be decoded.
    """
    labels, files = find_classes(Path(options.path))
    for name, fraction in (("test", options.test_fraction), ("val", options.val_fraction)):
        if name not in files and "val" not in files:
            paths, targets = files["train"]
            keep, out = hold_out(targets, fraction, options.subset_seed, f"{name}_fraction")
            files["train"], files[name] = (paths[keep], targets[keep]), (paths[out], targets[out])

    view = View(image_size=options.image_size, in_channels=options.in_channels, crop_fraction=options.crop_fraction)
    mean, std = normalisation(
        _some(files["train"][0], view), options.normalize, options.mean, options.std, options.in_channels
    )
    view = dataclasses.replace(view, mean=mean, std=std)
    augmented = dataclasses.replace(view, augment=options.augment, min_area=options.min_area)

    def part(name: str) -> Photos | None:
        if name not in files or not len(files[name][0]):
            return None
        return Photos(paths=files[name][0], targets=files[name][1], view=view)

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
    train = Photos(paths=files["train"][0], targets=files["train"][1], view=augmented)
    return Splits(spec=spec, train=train, val=part("val"), test=part("test"))


def _some(paths: np.ndarray, view: View) -> Iterator[Tensor]:
    """Training photos spread evenly over the classes, in [0, 1] as the model would see them."""
    for path in paths[:: -(-len(paths) // MEASURED)]:
        yield view(open_image(path), None)[None]


def find_classes(root: Path) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The classes, and the paths and targets of each part for which there is a folder.

    Raises:
        ValueError: there is no such folder, no class or no image in it, or a class that is not among the training
            classes.
    """
    if not root.is_dir():
        raise ValueError(f"data.path {root} is no folder; {LAYOUT}")
    has_parts = (root / "train").is_dir()
    train = root / "train" if has_parts else root
    labels = _class_folders(train)
    if len(labels) < 2:
        raise ValueError(f"{train} has {len(labels)} class folders, and at least two are needed; {LAYOUT}")
    others = {name: root / name for name in ("val", "test") if has_parts and (root / name).is_dir()}
    return labels, {name: _files(folder, labels) for name, folder in {"train": train, **others}.items()}


def _class_folders(root: Path) -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir() and entry.name[0] != "."))


def _files(root: Path, labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    paths, targets = [], []
    for name in _class_folders(root):
        if name not in labels:
            raise ValueError(f"{root / name}: {name!r} is not among the training classes{did_you_mean(name, labels)}")
        found = sorted(str(file) for file in (root / name).rglob("*") if _is_image(file))
        if not found:
            raise ValueError(f"{root / name} holds no image; known are {', '.join(sorted(SUFFIXES))}")
        paths += found
        targets += [labels.index(name)] * len(found)
    if not paths:
        raise ValueError(f"{root} has no class folders; {LAYOUT}")
    return np.array(paths), np.array(targets)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and file.name[0] != "." and file.is_file()


DATA = DataSet(name="image_folder", config=ImageFolder, load=load)
