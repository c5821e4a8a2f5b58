"""Handwritten digits of 8 x 8 pixels (Alpaydin and Kaynak, 1998): 1437 to train on and 360 to test on."""

from dataclasses import dataclass

import numpy as np
import torch

from zoo.training.data import DataSet, Spec, Splits, bundled
from zoo.training.data.arrays import few_of_each, hold_out
from zoo.training.data.images import ImageArrays, ImageOptions, normalisation

SIZE = 8
WHITE = 16.0  # scikit-learn counts the inked pixels of 4 x 4 blocks


@dataclass(frozen=True, kw_only=True)
class Digits(ImageOptions):
    """Which digits, how many of them, and how they are presented."""

    classes: tuple[int, ...] = ()
    """Only these digits, in this order: the first becomes target 0. Empty stands for all ten."""
    per_class: int | None = None
    """How many labelled training images of each class there are; all when not given."""
    shift: int = 0
    """Training images move by up to so many pixels along both axes."""
    image_size: int = SIZE
    """Images are interpolated to this size."""

    def __post_init__(self) -> None:
        """Refuse digits that do not exist and numbers out of range."""
        super().__post_init__()
        if not set(self.classes) <= set(range(10)) or len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes {self.classes} must be different digits from 0 to 9")
        if len(self.classes) == 1:
            raise ValueError(f"classes {self.classes} is only one; give two digits at least, or none for all ten")
        if not 0 <= self.shift < SIZE:
            raise ValueError(f"shift {self.shift} is not in [0, {SIZE}); the images have {SIZE} pixels a side")
        if self.per_class is not None and self.per_class < 1:
            raise ValueError(f"per_class {self.per_class} is below 1")


def load(options: Digits) -> Splits:
    """Read the digits and divide them; see `Digits`."""
    record, train, test = bundled.read("digits")
    classes = options.classes or tuple(range(10))
    renumbered = np.full(10, -1)
    renumbered[list(classes)] = np.arange(len(classes))
    targets = renumbered[record.target]
    train, test = train[targets[train] >= 0], test[targets[test] >= 0]
    if options.per_class is not None:
        train = train[few_of_each(targets[train], options.per_class, options.subset_seed)]
    keep, out = hold_out(targets[train], options.val_fraction, options.subset_seed, "val_fraction")
    train, val = train[keep], train[out]

    images = torch.from_numpy(record.images).float()[:, None]
    mean, std = normalisation([images[train] / WHITE], options.normalize, options.mean, options.std, channels=1)

    def part(rows: np.ndarray, shift: int = 0) -> ImageArrays:
        return ImageArrays(
            images=images[rows],
            targets=torch.from_numpy(targets[rows]),
            white=WHITE,
            mean=mean,
            std=std,
            shift=shift,
            image_size=options.image_size,
        )

    spec = Spec(
        keys=("image", "features", "target"),
        num_classes=len(classes),
        in_features=options.image_size**2,
        in_channels=1,
        image_size=options.image_size,
        labels=tuple(str(digit) for digit in classes),
        mean=mean,
        std=std,
        value_range=(0.0, 1.0),
        levels=int(WHITE) + 1 if options.image_size == SIZE else None,
    )
    return Splits(spec=spec, train=part(train, options.shift), val=part(val) if len(val) else None, test=part(test))


DATA = DataSet(name="digits", config=Digits, load=load)
