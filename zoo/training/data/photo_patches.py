"""Patches of the two colour photos that come with scikit-learn, a temple and a flower, each of 427 x 640 pixels.

Each photo is divided into four rows of five regions. One region of each row is the test part, every time in another
column, so that it shows sky and roof, petal and leaf; and no training patch holds a pixel of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import check_positive, hold_out
from zoo.training.data.images import ImageOptions, normalisation, per_channel
from zoo.training.random import generator

WHITE = 255.0
ROWS = (0, 106, 213, 320, 427)
COLUMNS = (0, 128, 256, 384, 512, 640)
"""Where regions begin and end, in pixels from the top and from the left."""
LARGEST = 106
"""Height of the lowest region: a patch has to fit into each."""


@dataclass(frozen=True, kw_only=True)
class PhotoPatches(ImageOptions):
    """How large the patches are, and how many."""

    image_size: int = 32
    """Height and width of a patch, in pixels of the photo."""
    samples: int = 4_096
    """In one pass over the training part; while training, each is cut anew from a random place. The patches of the
    other parts lie side by side."""

    def __post_init__(self) -> None:
        """Refuse patches that do not fit into a region."""
        super().__post_init__()
        check_positive(self, "samples")
        if self.image_size > LARGEST:
            raise ValueError(
                f"image_size {self.image_size} is above {LARGEST}; a patch has to fit into the photos' test regions"
            )


@dataclass(frozen=True)
class Region:
    """A rectangle of a photo, in pixels; the second ends are not part of it."""

    photo: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    def pixels(self, photos: Tensor) -> Tensor:
        """What it shows, (channels, height, width); writing to it writes to the photos."""
        return photos[self.photo, :, slice(*self.rows), slice(*self.columns)]

    def tiles(self, size: int) -> Iterator[tuple[int, int, int]]:
        """(photo, row, column) of the first corners of patches that lie side by side."""
        for row in range(self.rows[0], self.rows[1] - size + 1, size):
            for column in range(self.columns[0], self.columns[1] - size + 1, size):
                yield self.photo, row, column


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Photos in memory, and the patches that are cut from them when they are fetched."""

    photos: Tensor
    """(photos, channels, height, width), from 0 to 255."""
    corners: np.ndarray
    """(places, 3), photo, row and column of the first corner of each patch that may be cut."""
    options: PhotoPatches
    mean: tuple[float, ...]
    std: tuple[float, ...]
    samples: int | None = None
    """How many are drawn from the places; by default there is one sample for each place."""

    def __len__(self) -> int:
        return len(self.corners) if self.samples is None else self.samples

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`image` (batch, 3, image_size, image_size); without `rngs`, an index always gives the same patch."""
        places = np.asarray(indices)
        if self.samples is not None:
            if rngs is None:
                rngs = [generator(self.options.subset_seed, "photo_patches", int(index)) for index in indices]
            places = np.array([rng.integers(len(self.corners)) for rng in rngs])
        photo, row, column = torch.from_numpy(self.corners[places])[..., None, None, None].unbind(1)
        inside = torch.arange(self.options.image_size)
        channel = torch.arange(self.photos.shape[1])[:, None, None]
        image = self.photos[photo, channel, row + inside[:, None], column + inside].float() / WHITE
        return {"image": (image - per_channel(self.mean)) / per_channel(self.std)}


def regions(photos: int) -> tuple[list[Region], list[Region]]:
    """Those to train on, and those of the test part."""
    parts: tuple[list[Region], list[Region]] = ([], [])
    for photo in range(photos):
        for i, rows in enumerate(pairwise(ROWS)):
            for j, columns in enumerate(pairwise(COLUMNS)):
                parts[j == (2 * i + photo) % 5].append(Region(photo, rows, columns))
    return parts


def within(photos: Tensor, allowed: list[Region], size: int) -> np.ndarray:
    """First corners (places, 3) of all patches that lie wholly in the regions, which may be neighbours."""
    forbidden = torch.ones(len(photos), 1, *photos.shape[-2:])
    for region in allowed:
        region.pixels(forbidden).zero_()
    touched = F.max_pool2d(F.max_pool2d(forbidden, (size, 1), stride=1), (1, size), stride=1)
    return (touched[:, 0] == 0).nonzero().numpy()


def load(options: PhotoPatches) -> Splits:
    """Read the photos and divide them; see `PhotoPatches`.

    Raises:
        ValueError: scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_sample_images
    except ModuleNotFoundError:
        raise ValueError("data 'photo_patches' is part of scikit-learn; pip install 'zoo[train]'") from None
    photos = torch.from_numpy(np.stack(load_sample_images().images)).movedim(-1, 1)
    train, test = regions(len(photos))
    strata = np.array([region.photo for region in train])
    keep, out = hold_out(strata, options.val_fraction, options.subset_seed, "val_fraction")
    kept, val = [train[i] for i in keep], [train[i] for i in out]
    shown = (region.pixels(photos)[None] / WHITE for region in kept)
    mean, std = normalisation(shown, options.normalize, options.mean, options.std, channels=3)

    def part(corners: np.ndarray, samples: int | None = None) -> Patches:
        return Patches(photos=photos, corners=corners, options=options, mean=mean, std=std, samples=samples)

    def side_by_side(chosen: list[Region]) -> np.ndarray:
        return np.array([corner for region in chosen for corner in region.tiles(options.image_size)])

    spec = Spec(
        keys=("image",),
        in_channels=3,
        image_size=options.image_size,
        mean=mean,
        std=std,
        value_range=(0.0, 1.0),
        levels=int(WHITE) + 1,
    )
    return Splits(
        spec=spec,
        train=part(within(photos, kept, options.image_size), options.samples),
        val=part(side_by_side(val)) if val else None,
        test=part(side_by_side(test)),
    )


DATA = DataSet(name="photo_patches", config=PhotoPatches, load=load)
