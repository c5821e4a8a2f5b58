"""Pictures from a generator, and many of them as one."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from zoo.preprocess import preprocessing, unnormalize
from zoo.training.random import Rows
from zoo.weights import provenance_of

SMALLEST_TILE = 48
"""Pixels; smaller images are enlarged by a whole factor, so that eyes can see them."""
AT_ONCE = 64


@torch.no_grad()
def sample(model: nn.Module, count: int, *, seed: int = 0) -> Tensor:
    """Draw images from a model whose forward turns noise `z` into images.

    Args:
        model: the generator; it is left in the mode that it was in.
        count: how many.
        seed: the same seed draws the same images, and the first ones do not depend on `count`.

    Returns:
        (count, channels, height, width) in [0, 1].

    Raises:
        ValueError: the model takes something else than noise, or `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"count {count} is below 1")
    generator: Any = model
    example = generator.example_inputs(1) if hasattr(model, "example_inputs") else {}
    if set(example) != {"z"}:
        takes = ", ".join(example) or "something else"
        raise ValueError(
            f"{type(model).__name__} takes {takes}, not noise, so nothing can be sampled; "
            "see `zoo list --task unconditional-image-generation`"
        )
    device, training = next(model.parameters()).device, model.training
    z = Rows(seed, "sample/", [(0, index) for index in range(count)], device).normal("z", example["z"].shape[1:])
    model.eval()
    try:
        images = torch.cat([model(part).float().cpu() for part in z.split(AT_ONCE)])
    finally:
        model.train(training)
    if provenance_of(model).preprocessing is None:
        return (images * 0.5 + 0.5).clamp(0, 1)  # generators end in tanh
    low, high = preprocessing(model).value_range
    return ((unnormalize(model, images) - low) / (high - low)).clamp(0, 1)


def picture(images: Tensor) -> Any:
    """All images in one PIL image, row by row, as near to a square as possible.

    Args:
        images: (count, channels, height, width) in [0, 1], with 1 or 3 channels.
    """
    from PIL import Image

    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; only 1 or 3 make a picture")
    factor = max(1, math.ceil(SMALLEST_TILE / max(height, width)))
    images = images.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    gap, columns = 2, math.ceil(math.sqrt(count))
    rows, (height, width) = math.ceil(count / columns), images.shape[-2:]
    canvas = torch.ones(channels, rows * (height + gap) + gap, columns * (width + gap) + gap)
    for index, image in enumerate(images):
        top, left = (
            gap + place * (size + gap) for place, size in zip(divmod(index, columns), (height, width), strict=True)
        )
        canvas[:, top : top + height, left : left + width] = image
    pixels = (canvas * 255).round().byte().movedim(0, -1).squeeze(-1)
    return Image.fromarray(pixels.numpy())
