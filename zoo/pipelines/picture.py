"""Many images as one picture, and several pictures as one that moves."""

import io
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

SMALLEST_TILE = 48
"""Pixels; smaller images are enlarged by a whole factor, so that eyes can see them."""
GAP = 2
"""White pixels between two of them."""
FRAME, HELD = 80, 2000
"""Milliseconds that a frame is shown, and the last one."""


def picture(images: Tensor, columns: int | None = None) -> Any:
    """All images in one PIL image, row by row.

    Args:
        images: (count, channels, height, width) in [0, 1], with 1 or 3 channels.
        columns: how many stand side by side; by default as many as make it nearest to a square.

    Raises:
        ValueError: there are other channels.
    """
    from PIL import Image

    count, channels, height, width = images.shape
    if channels not in (1, 3):
        raise ValueError(f"images have {channels} channels; only 1 or 3 make a picture")
    factor = max(1, math.ceil(SMALLEST_TILE / max(height, width)))
    images = images.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    rows, (height, width) = math.ceil(count / columns), images.shape[-2:]
    canvas = torch.ones(channels, rows * (height + GAP) + GAP, columns * (width + GAP) + GAP)
    for index, image in enumerate(images):
        top, left = (
            GAP + place * (size + GAP) for place, size in zip(divmod(index, columns), (height, width), strict=True)
        )
        canvas[:, top : top + height, left : left + width] = image
    pixels = (canvas * 255).round().byte().movedim(0, -1).squeeze(-1)
    return Image.fromarray(pixels.numpy())


def animation(frames: Sequence[Any]) -> bytes:
    """PIL images of one size as a GIF that begins anew for ever, and before that holds the last one."""
    file = io.BytesIO()
    shown = [FRAME] * (len(frames) - 1) + [HELD]
    frames[0].save(file, format="GIF", save_all=True, append_images=list(frames[1:]), duration=shown, loop=0)
    return file.getvalue()
