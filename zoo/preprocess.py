"""What weights expect of an image, as data, and the transform that provides it."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.config import ConfigError, build
from zoo.factory import provenance


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """The record that belongs to weights; a tag's card and a saved model's config.json hold it."""

    mean: tuple[float, ...] = ()
    """Per channel, in units of `value_range`; of texts, which have no channels, nothing."""
    std: tuple[float, ...] = ()
    image_size: int | None = None
    """Height and width; None where the inputs are no images."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """What black and white are before normalisation."""
    crop: float = 1.0
    """The share of the resized image's side that the central crop keeps."""
    resize: tuple[int, ...] = ()
    """Before the crop: the shorter side, or height and width; by default `image_size / crop`, rounded down."""
    squash: bool = False
    """Whether the resized image is a square, whatever it was, so that nothing of it is cut off."""
    antialias: bool = True
    """Whether shrinking a tensor averages over pixels, as it does for a PIL image anyway."""
    frames: int | None = None
    """Frames of a clip, (frames, channels, height, width), where the model takes videos."""
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mirror: bool = False
    """Whether a mirrored image means the same, so that training may mirror it."""
    columns: tuple[str, ...] = ()
    """The names of the features, in their order, where the inputs are rows of a table with a header."""
    target_mean: tuple[float, ...] = ()
    """Per output, where the model predicts quantities as (quantity - mean) / std."""
    target_std: tuple[float, ...] = ()
    max_seq_len: int | None = None
    """Tokens that are read of a text at the most."""
    prompts: tuple[tuple[str, ...], ...] = ()
    """For each label the texts that describe it, where images were told apart by them in training."""
    diffusion: Mapping[str, Any] = field(default_factory=dict)
    """Of a network that removes noise: the fields of `zoo.diffusion.DiffusionConfig` that it was trained with. Without
    `image_size` its images are latents."""
    latent_scale: float | None = None
    """Of a first stage: what diffusion networks see of its latents z is latent_scale * (z - latent_shift)."""
    latent_shift: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if len(self.mean) != len(self.std) or not (self.mean or self.max_seq_len):
            raise ValueError(f"mean {self.mean} and std {self.std} need one number each per channel")
        if min(self.std, default=1) <= 0 or self.value_range[0] >= self.value_range[1]:
            raise ValueError(f"std {self.std} must be positive, and value_range {self.value_range} must ascend")
        if len(self.resize) > 2 or any(side < 1 for side in self.resize):
            raise ValueError(f"resize {self.resize} must be the shorter side, or height and width, in pixels")
        if self.latent_scale is not None and not self.latent_scale > 0:
            raise ValueError(f"latent_scale {self.latent_scale} must be positive")
        if not 0 < self.crop <= 1 or (self.image_size is not None and self.image_size < 1):
            raise ValueError(f"crop {self.crop} must lie in (0, 1], and image_size {self.image_size} be positive")


def preprocessing(model_or_name: nn.Module | str) -> Preprocessing:
    """The record that a model, or the weights of a name, carry.

    Raises:
        ConfigError: there is none, as for random weights.
    """
    found = provenance(model_or_name)
    who = model_or_name if isinstance(model_or_name, str) else type(model_or_name).__name__
    if found.preprocessing is None:
        raise ConfigError(f"{who} says nothing of its inputs; trained weights do, or zoo.weights.remember(...) it")
    return build(Preprocessing, found.preprocessing, f"{who}: preprocessing")


def transforms(model_or_name: nn.Module | str, train: bool = False) -> Callable[[Any], Tensor]:
    """The torchvision transform from a PIL image, or a uint8 tensor (..., channels, height, width), to a model's input.

    A video is a tensor (..., frames, channels, height, width); the frames become the second axis.

    Args:
        model_or_name: a model, or anything that `zoo.create` takes.
        train: crop at random, and mirror where the record allows it.

    Returns:
        A `torchvision.transforms.v2.Compose`; its outputs are (channels, image_size, image_size), float32, and of a
        video (channels, frames, image_size, image_size).

    Raises:
        ConfigError: the weights carry no record, or are not for images. The transform itself raises TypeError for an
            array or a path, and ValueError for a tensor with too few axes.
    """
    from torchvision.transforms import InterpolationMode, functional, v2

    record = preprocessing(model_or_name)
    if record.image_size is None:
        raise ConfigError("these weights take no images; normalise by the mean and std of their record")
    size, mode = record.image_size, InterpolationMode(record.interpolation)
    if train:
        crop = [v2.RandomResizedCrop(size, interpolation=mode, antialias=record.antialias)]
        crop += [v2.RandomHorizontalFlip()] if record.mirror else []
    else:
        whole = v2.Resize(_resize(record, size), mode, antialias=record.antialias)
        if record.frames is not None:  # between the frames' bytes torchvision's older function rounds otherwise
            resize = partial(functional.resize, interpolation=mode, antialias=record.antialias)
            whole = v2.Lambda(partial(resize, size=_resize(record, size)))
        crop = [whole, v2.CenterCrop(size)]
    low, high = record.value_range
    mean = [(value - low) / (high - low) for value in record.mean]
    std = [value / (high - low) for value in record.std]
    colours = [v2.Grayscale(1)] if len(mean) == 1 else [v2.RGB()] if len(mean) == 3 else []
    axes = [] if record.frames is None else [v2.Lambda(_channels_first)]
    last = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)]
    first = partial(_expect, video=record.frames is not None)
    return v2.Compose([first, *colours, *crop, *last, *axes])  # PIL resizes PIL images, as those who trained did


def _expect(*inputs: Any, video: bool) -> Any:
    """The inputs themselves, if the first is what the transform reads; targets beside it pass."""
    from PIL.Image import Image

    image, axes = inputs[0], "frames, channels, height, width" if video else "channels, height, width"
    if isinstance(image, Tensor):
        if image.dim() <= axes.count(","):
            raise ValueError(f"expected a tensor (..., {axes}), got shape {tuple(image.shape)}")
    elif video or not isinstance(image, Image | tuple | list | dict):
        kind = f"a tensor (..., {axes})" if video else f"a PIL image or a uint8 tensor (..., {axes})"
        hint = "" if video else "; PIL.Image.fromarray(array) or PIL.Image.open(path) makes one"
        raise TypeError(f"expected {kind}, got {type(image).__name__}{hint}")
    return inputs if len(inputs) > 1 else image


def _resize(record: Preprocessing, size: int) -> list[int]:
    """What `v2.Resize` shall make of an image: its shorter side, or height and width."""
    if record.resize:
        return list(record.resize)
    side = math.floor(size / record.crop + 1e-6)  # 224 / (224 / 232) may be just below 232
    return [side, side] if record.squash else [side]


def _channels_first(video: Tensor) -> Tensor:
    """(..., frames, channels, height, width) -> (..., channels, frames, height, width)."""
    return video.transpose(-4, -3)


def unnormalize(model_or_name: nn.Module | str, image: Tensor) -> Tensor:
    """What `image` was before normalisation, in the record's `value_range`.

    Args:
        model_or_name: as for `transforms`.
        image: (..., channels, height, width), as the model takes it.
    """
    record = preprocessing(model_or_name)
    mean, std = (image.new_tensor(values)[:, None, None] for values in (record.mean, record.std))
    return image * std + mean
