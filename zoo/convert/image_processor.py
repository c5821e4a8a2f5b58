"""What transformers' files say of how images are prepared."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.weights import read_json

FILES = {"preprocessor_config.json": None, "processor_config.json": "image_processor"}
"""Where it stands, and in the second, which speaks of texts too, in which part."""
INTERPOLATION = {0: "nearest", 2: "bilinear", 3: "bicubic"}
"""Numbers of PIL."""
BYTE = 1 / 255


def image_processor(folder: Path) -> dict[str, Any] | None:
    """The record of a folder; None where there is none, or images are prepared in no way of ours.

    Of ours are: the shorter side to a size, or both, then perhaps a central square, then mean and std.
    """
    theirs = _read(folder)
    steps = ("do_resize", "do_rescale", "do_normalize")
    if theirs is None or not all(theirs.get(step, True) for step in steps):
        return None
    size, interpolation = _sides(theirs.get("size")), INTERPOLATION.get(theirs.get("resample", 2))
    crop = _sides(theirs.get("crop_size")) if theirs.get("do_center_crop", False) else size
    if crop is size and isinstance(theirs.get("size"), int):  # what is not cut is a square
        size = [*size, *size]
    scale = theirs.get("rescale_factor", BYTE)
    known = size and crop and interpolation and "image_mean" in theirs and "image_std" in theirs
    if not known or abs(scale - BYTE) > 1e-9 or len(set(crop)) != 1 or (len(size) == 1 and size[0] < crop[0]):
        return None
    resize = {} if size in ([crop[0]], crop) else {"resize": size}
    squash = {"squash": True} if len(size) == 2 and not resize else {}
    facts = {"mean": theirs["image_mean"], "std": theirs["image_std"], "interpolation": interpolation}
    return {**facts, "image_size": crop[0], **resize, **squash}


def _read(folder: Path) -> Mapping[str, Any] | None:
    for name, part in FILES.items():
        found: Any = read_json(folder / name) if (folder / name).is_file() else None
        found = found.get(part) if part and found else found
        if isinstance(found, Mapping):
            return found
    return None


def _sides(size: Any) -> list[int]:
    """The shorter side alone, or height and width; empty where it is something else."""
    if isinstance(size, Mapping):
        sides = [size.get("shortest_edge")] if "shortest_edge" in size else [size.get("height"), size.get("width")]
        size = sides if len(size) == len(sides) else None
    sides = size if isinstance(size, list) else [size]
    return [side for side in sides if isinstance(side, int)] if all(isinstance(side, int) for side in sides) else []
