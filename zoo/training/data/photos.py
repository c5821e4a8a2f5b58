"""Photos of any size, decoded when they are asked for."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from zoo.training.data.images import per_channel


def open_image(path: str | Path, content: bytes | None = None) -> Any:
    """A decoded PIL image.

    Args:
        path: its file; or what to call it in messages, where there is `content`.
        content: its bytes, where they are no file.

    Raises:
        OSError: the file is missing, damaged, no 8-bit image, or so large that decoding it would be an attack.
    """
    from PIL import Image

    path = Path(path) if content is None else path
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path if content is None else io.BytesIO(content)) as image:
                image.load()
    except FileNotFoundError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise OSError(f"{path}: more than {Image.MAX_IMAGE_PIXELS} pixels; scale the image down") from None
    except Exception as error:  # PIL's decoders raise SyntaxError, struct.error and others on damage
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{path}: not a readable image, or damaged ({reason})") from None
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"{path}: mode {image.mode} has more than 8 bits per channel; convert it to 8")
    return image


@dataclass(frozen=True, kw_only=True)
class View:
    """How a photo of any size becomes a tensor."""

    image_size: int
    in_channels: int = 3
    augment: Literal["none", "crop_flip"] = "none"
    min_area: float = 1.0
    crop_fraction: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __call__(self, photo: Any, rng: np.random.Generator | None) -> Tensor:
        """(channels, image_size, image_size) from a PIL image.

        With a generator and `crop_flip`: a random rectangle of at least `min_area` of the photo, mirrored half the
        time (Szegedy et al., 2015, "Going deeper with convolutions"); else the central `crop_fraction` of it.
        """
        from torchvision.transforms import v2

        photo = photo.convert("L" if self.in_channels == 1 else "RGB")
        if rng is None or self.augment == "none":
            resize = v2.Resize(round(self.image_size / self.crop_fraction))
            cut = v2.CenterCrop(self.image_size)(resize(photo))
        else:
            crop = v2.RandomResizedCrop(self.image_size, scale=(self.min_area, 1.0))
            with torch.random.fork_rng(devices=[]):  # these transforms draw from torch's global generator
                torch.default_generator.manual_seed(int(rng.integers(2**63)))
                cut = v2.RandomHorizontalFlip()(crop(photo))
        image = v2.functional.to_dtype(v2.functional.to_image(cut), torch.float32, scale=True)
        return (torch.Tensor(image) - per_channel(self.mean)) / per_channel(self.std)


@dataclass(frozen=True, kw_only=True)
class Photos:
    """A split of photos that are decoded when they are fetched."""

    paths: np.ndarray
    """(samples,), text."""
    targets: np.ndarray
    """(samples,), the class of each."""
    view: View

    def __len__(self) -> int:
        return len(self.paths)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`image` (batch, channels, image_size, image_size) and `target` (batch,)."""
        generators = [None] * len(indices) if rngs is None else rngs
        paths = self.paths[np.asarray(indices)]
        images = [self.view(open_image(path), rng) for path, rng in zip(paths, generators, strict=True)]
        return {"image": torch.stack(images), "target": torch.from_numpy(self.targets[np.asarray(indices)])}
