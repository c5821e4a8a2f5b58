"""What all image classifiers share: a look at the image before it is read, and a head that can be replaced."""

import dataclasses
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from zoo.nn.checks import check_dtype


def check_image(model: Any, image: Tensor, smallest: int = 1, axes: str = "height, width") -> None:
    """Refuse what the network cannot read.

    Args:
        model: the network, with `config.in_channels`.
        image: (batch, channels, *axes).
        smallest: the least height and width that it takes, in pixels.
        axes: the names of the axes after the channels.

    Raises:
        TypeError: the image is no tensor.
        ValueError: the image has another rank, another number of channels, another dtype than the weights, too few
            pixels, or no frames.
    """
    in_channels = model.config.in_channels
    shape = f"(batch, {in_channels}, {axes})"
    if not isinstance(image, Tensor):
        raise TypeError(
            f"an image batch is a tensor {shape}, got {type(image).__name__}; torch.from_numpy(...) makes one of "
            "an array"
        )
    if image.ndim != 3 + axes.count(","):
        hint = "; image[None] makes a batch of one" if image.ndim == 2 + axes.count(",") else ""
        raise ValueError(f"an image batch is {shape}, got shape {tuple(image.shape)}{hint}")
    if image.shape[1] != in_channels:
        raise ValueError(
            f"an image batch is {shape}, got {image.shape[1]} channels; convert the images, or create the model with "
            f"in_channels={image.shape[1]}"
        )
    if not image.is_floating_point():
        raise ValueError(
            f"an image is floating-point and normalised, got {image.dtype}; zoo.transforms(...) prepares it as the "
            "weights expect, and image.float() / 255 is in [0, 1]"
        )
    check_dtype(image, next(model.parameters()), "image")
    if 0 in image.shape[2:-2]:
        raise ValueError("a video of 0 frames shows nothing; give one at least")
    if min(image.shape[-2:]) < smallest:
        height, width = image.shape[-2:]
        raise ValueError(
            f"an image of {height} x {width} pixels is too small: this network takes {smallest} at least; enlarge it "
            f"(data.image_size={smallest} in a run)"
        )


def check_num_classes(num_classes: int) -> None:
    """Refuse a negative number of classes; a config calls it.

    Raises:
        ValueError: it is negative.
    """
    if num_classes < 0:
        raise ValueError(f"num_classes {num_classes} is negative; 0 leaves the head out")


def classifier(num_features: int, num_classes: int) -> nn.Module:
    """A linear head; for no classes none, so that the model gives what the head would read."""
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()


def last_map(features: Tensor) -> Tensor:
    """The features themselves; warns where so few positions are left that the network sees no picture any more."""
    height, width = features.shape[-2:]
    if min(height, width) < 2 and not torch.compiler.is_compiling():
        warnings.warn(
            f"the last feature map has only {height} x {width} positions, for the image is small for this network; "
            "enlarge it (data.image_size in a run), or use a preset or stem for small images",
            stacklevel=3,
        )
    return features


def reset_classifier(self: Any, num_classes: int) -> None:
    """Put a new, freshly drawn head, for 0 classes none, in place of the old one, auxiliary heads included.

    Raises:
        TypeError: the number is none.
        ValueError: it is negative.
    """
    if isinstance(num_classes, bool) or not isinstance(num_classes, int):
        raise TypeError(f"num_classes must be a whole number, got {num_classes!r}")
    self.config = dataclasses.replace(self.config, num_classes=num_classes)
    like = next(self.parameters())
    with torch.device("meta"):
        fresh = type(self)(self.config)
    for old, new in zip(_owners(self), _owners(fresh), strict=True):
        old.add_module("head", new.head.to_empty(device=like.device).to(like.dtype))
        for layer in old.head.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.reset_parameters()


def _owners(model: Any) -> list[Any]:
    """The modules that have a head."""
    return [model, *getattr(model, "aux_heads", ())]
