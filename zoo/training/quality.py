"""How alike two images look: the peak signal-to-noise ratio, and the structural similarity.

Both are torchmetrics', of images in [0, 1], and the means of what each image gives:

- `psnr`, in decibels: -10 log10 of the image's mean squared error;
- `ssim` (Wang et al., 2004), which compares means, variances and the covariance in windows of 11 pixels; of images of
  176 pixels and more `ms_ssim` (Wang et al., 2003) instead, which does so at five resolutions.
"""

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from zoo.config import ConfigError
from zoo.training.data import Spec

WINDOW = 11
"""Pixels along a side of the window that structural similarity looks through."""
COARSEST = 16
"""What images are shrunk by at the coarsest of the five resolutions."""
Totals = dict[str, tuple[Tensor, Tensor | int]]


@dataclass(frozen=True, kw_only=True)
class QualityConfig:
    """Whether images are compared as they look; base of the options of objectives whose models give images back."""

    quality: bool = False
    """Evaluation also gives `psnr` and, for images that are large enough, `ssim` or `ms_ssim`; needs torchmetrics."""

    def check_quality(self) -> None:
        """Refuse now what would fail when a run ends.

        Raises:
            ConfigError: torchmetrics is asked for and not installed.
        """
        if self.quality and importlib.util.find_spec("torchmetrics") is None:
            raise ConfigError("objective.quality compares images by torchmetrics; pip install 'zoo[train]'")


def psnr(found: Tensor, wanted: Tensor) -> Tensor:
    """The ratio of each image, (batch,), in decibels; infinite where both are the same.

    Args:
        found: (batch, ...) in [0, 1].
        wanted: likewise.
    """
    from torchmetrics.functional.image import peak_signal_noise_ratio

    axes = tuple(range(1, found.ndim))
    return peak_signal_noise_ratio(found, wanted, data_range=1.0, reduction="none", dim=axes)


def similarity(found: Tensor, wanted: Tensor) -> Mapping[str, Tensor]:
    """`ssim` or `ms_ssim` of each image, (batch,); nothing for images that are smaller than a window.

    Args:
        found: (batch, channels, height, width) in [0, 1].
        wanted: likewise.
    """
    from torchmetrics.functional import image

    side = min(found.shape[-2:])
    if side < WINDOW:
        return {}
    if side // COARSEST < WINDOW:
        ssim = image.structural_similarity_index_measure(found, wanted, data_range=1.0, reduction="none")
        return {"ssim": ssim.reshape(-1)}  # pyright: ignore[reportAttributeAccessIssue] - a tuple only on request
    ms_ssim = image.multiscale_structural_similarity_index_measure(found, wanted, data_range=1.0, reduction="none")
    return {"ms_ssim": ms_ssim.reshape(-1)}


def quality(found: Tensor, wanted: Tensor) -> Totals:
    """What a batch adds to each mean over images; both (batch, channels, height, width) in [0, 1]."""
    found, wanted = found.float(), wanted.float()
    each = {"psnr": psnr(found, wanted), **similarity(found, wanted)}
    return {name: (values.sum(), len(values)) for name, values in each.items()}


def unit_scale(spec: Spec) -> tuple[float, ...]:
    """For each channel, or for all, what a normalised pixel's 1 is in images in [0, 1]."""
    low, high = spec.value_range or (0.0, 1.0)
    return tuple(std / (high - low) for std in spec.std) or (1.0,)


def unit_image(image: Tensor, spec: Spec) -> Tensor:
    """Normalised images (batch, channels, height, width) as they look: in [0, 1], and what is beyond cut off."""
    low, high = spec.value_range or (0.0, 1.0)
    scale, mean = (image.new_tensor(values)[:, None, None] for values in (unit_scale(spec), spec.mean or (0.0,)))
    return (image * scale + (mean - low) / (high - low)).clamp(0, 1)
