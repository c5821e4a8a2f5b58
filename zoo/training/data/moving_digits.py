"""Clips of handwritten digits that wander over a larger picture: videos that need no download."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.training.data import DataSet, Spec, Splits, bundled
from zoo.training.data.arrays import check_positive, hold_out
from zoo.training.data.digits import SIZE, WHITE
from zoo.training.data.images import ImageOptions, normalisation, per_channel
from zoo.training.random import generator


@dataclass(frozen=True, kw_only=True)
class MovingDigits(ImageOptions):
    """How long the clips are, and how the digits move."""

    frames: int = 8
    digit_size: int = SIZE
    """Height and width to which a digit's 8 x 8 pixels are interpolated."""
    image_size: int = 16
    """Height and width of the picture."""
    speed: int = 2
    """The most pixels that a digit moves from one frame to the next, along either axis; it turns back at the border."""

    def __post_init__(self) -> None:
        """Refuse clips without frames and pictures that no digit fits into."""
        super().__post_init__()
        check_positive(self, "frames")
        if not 1 <= self.digit_size <= self.image_size:
            raise ValueError(f"digit_size {self.digit_size} is not in [1, {self.image_size}], the image_size")
        if self.speed < 0:
            raise ValueError(f"speed {self.speed} is negative")


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Digits in memory, and the clips that are made of them when they are fetched."""

    digits: Tensor
    """(samples, size, size) in [0, 1]."""
    targets: Tensor
    options: MovingDigits
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __len__(self) -> int:
        return len(self.targets)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`image` (batch, 1, frames, height, width) and `target` (batch,); without `rngs`, a digit's way is fixed."""
        options = self.options
        if rngs is None:
            rngs = [generator(options.subset_seed, "moving_digits", int(index)) for index in indices]
        rows = torch.as_tensor(indices)
        places = torch.from_numpy(np.stack([_way(rng, options) for rng in rngs]))  # (batch, frames, 2)
        inside = torch.arange(options.digit_size)
        y = places[..., 0, None, None] + inside[:, None]  # (batch, frames, size, 1)
        x = places[..., 1, None, None] + inside  # (batch, frames, 1, size)
        sample, frame = torch.arange(len(rows))[:, None, None, None], torch.arange(options.frames)[:, None, None]
        image = torch.zeros(len(rows), options.frames, options.image_size, options.image_size)
        image[sample, frame, y, x] = self.digits[rows][:, None].expand(-1, options.frames, -1, -1)
        normalised = (image[:, None] - per_channel(self.mean)[:, None]) / per_channel(self.std)[:, None]
        return {"image": normalised, "target": self.targets[rows]}


def _way(rng: np.random.Generator, options: MovingDigits) -> np.ndarray:
    """Where the digit's corner is in each frame, (frames, 2): a straight line, reflected at the borders."""
    room = options.image_size - options.digit_size
    start = rng.integers(0, room, 2, endpoint=True)
    velocity = rng.integers(-options.speed, options.speed, 2, endpoint=True)
    straight = start + np.arange(options.frames)[:, None] * velocity
    return np.abs((straight + room) % (2 * room) - room) if room else np.zeros_like(straight)


def load(options: MovingDigits) -> Splits:
    """Read the digits and divide them as `digits` does; see `MovingDigits`."""
    record, train, test = bundled.read("digits")
    keep, out = hold_out(record.target[train], options.val_fraction, options.subset_seed, "val_fraction")
    train, val = train[keep], train[out]
    digits, targets = torch.from_numpy(record.images).float()[:, None] / WHITE, torch.from_numpy(record.target)
    size = (options.digit_size, options.digit_size)
    digits = F.interpolate(digits, size, mode="bilinear", antialias=True).squeeze(1)

    unnormalised = Clips(digits=digits[train], targets=targets[train], options=options)
    some = (unnormalised.fetch([index], None)["image"] for index in range(0, len(train), 8))
    mean, std = normalisation(some, options.normalize, options.mean, options.std, channels=1)

    def part(rows: np.ndarray) -> Clips:
        return Clips(digits=digits[rows], targets=targets[rows], options=options, mean=mean, std=std)

    spec = Spec(
        keys=("image", "target"),
        num_classes=10,
        in_channels=1,
        image_size=options.image_size,
        labels=tuple(map(str, range(10))),
        mean=mean,
        std=std,
        value_range=(0.0, 1.0),
        frames=options.frames,
    )
    return Splits(spec=spec, train=part(train), val=part(val) if len(val) else None, test=part(test))


DATA = DataSet(name="moving_digits", config=MovingDigits, load=load)
