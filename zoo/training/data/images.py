"""Images of one size, held in memory; and the normalisation that all images share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo.training.data.arrays import HoldOut

Normalize = Literal["standard", "range", "none"]
"""By the training part's mean and standard deviation; from [0, 1] to [-1, 1]; or not at all."""


@dataclass(frozen=True, kw_only=True)
class ImageOptions(HoldOut):
    """How all data sets of images divide and normalise them."""

    normalize: Normalize = "standard"
    """`standard`: by the training part's mean and standard deviation; `range`: to [-1, 1]; `none`: stay in [0, 1]."""
    mean: tuple[float, ...] = ()
    """Normalise by this and `std` instead, as a model that is fine-tuned expects it."""
    std: tuple[float, ...] = ()
    image_size: int | None = None
    """Images are interpolated to this size; by default they keep their own."""

    def __post_init__(self) -> None:
        """Refuse deviations that cannot divide, and sizes below one pixel."""
        super().__post_init__()
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean {self.mean} and std {self.std} differ in length; give both, with one number per channel"
            )
        if any(value <= 0 for value in self.std):
            raise ValueError(f"std {self.std} has a number that is not positive")
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size {self.image_size} is below 1")


@dataclass(frozen=True, kw_only=True)
class ImageArrays:
    """Images of one size in memory, kept as they came and normalised when they are fetched."""

    images: Tensor
    """(samples, channels, height, width), from 0 to `white`."""
    targets: Tensor
    """(samples,), int64."""
    white: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shift: int = 0
    """The augmentation's largest offset, in pixels."""
    flip: bool = False
    image_size: int | None = None
    """Height and width to interpolate to, where they differ."""

    def __len__(self) -> int:
        return len(self.targets)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`image` (batch, channels, height, width); `features`, the same flattened; and `target` (batch,)."""
        rows = torch.as_tensor(indices)
        image = self.images[rows].float() / self.white
        if rngs is not None and (self.shift or self.flip):
            image = shift_and_flip(image, rngs, self.shift, self.flip)
        if self.image_size not in (None, image.shape[-1]):
            image = F.interpolate(image, size=(self.image_size, self.image_size), mode="bilinear", antialias=True)
        image = (image - per_channel(self.mean)) / per_channel(self.std)
        return {"image": image, "features": image.flatten(1), "target": self.targets[rows]}


def shift_and_flip(image: Tensor, rngs: Iterable[np.random.Generator], shift: int, flip: bool) -> Tensor:
    """Move each image by up to `shift` pixels along both axes, zeros coming in, and mirror half of them.

    Args:
        image: (batch, channels, height, width).
        rngs: a generator for each; three numbers are drawn from it.
        shift: the largest offset, in pixels.
        flip: whether to mirror left and right.
    """
    draws = torch.from_numpy(np.stack([rng.random(3) for rng in rngs]))  # (batch, 3)
    offsets = (draws[:, :2] * (2 * shift + 1)).long()  # 0 ... 2 * shift, into the padded image
    batch, channels, height, width = image.shape
    rows = offsets[:, 0, None] + torch.arange(height)  # (batch, height)
    columns = offsets[:, 1, None] + torch.arange(width)  # (batch, width)
    if flip:
        columns = torch.where(draws[:, 2, None] < 0.5, columns.flip(1), columns)
    padded = F.pad(image, [shift] * 4)
    sample, channel = torch.arange(batch)[:, None, None, None], torch.arange(channels)[:, None, None]
    return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]]


def normalisation(
    batches: Iterable[Tensor], normalize: Normalize, mean: tuple[float, ...], std: tuple[float, ...], channels: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and standard deviation of each channel to normalise by.

    Args:
        batches: training images in [0, 1], (batch, channels, height, width); read only where they are needed.
        normalize: what to do when neither mean nor std is given.
        mean: per channel, as the user gave it; empty to compute it.
        std: likewise.
        channels: how many there are.

    Raises:
        ValueError: mean and std do not have one number per channel.
    """
    if mean or std:
        if not len(mean) == len(std) == channels:
            raise ValueError(f"mean {mean} and std {std} must both have {channels} numbers, one per channel")
        return mean, std
    if normalize == "none":
        return (0.0,) * channels, (1.0,) * channels
    if normalize == "range":
        return (0.5,) * channels, (0.5,) * channels
    return _statistics(batches)


def _statistics(batches: Iterable[Tensor]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation over samples and pixels; a channel that never changes has std 1."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        pixels = batch.movedim(1, 0).flatten(1).double()  # (channels, pixels of all samples)
        count += pixels.shape[1]
        total, squares = total + pixels.sum(1), squares + pixels.square().sum(1)
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    return tuple(mean.tolist()), tuple(value if value > 1e-6 else 1.0 for value in std.tolist())


def per_channel(values: tuple[float, ...]) -> Tensor:
    """(channels, 1, 1), to be broadcast over images."""
    return torch.tensor(values)[:, None, None]
