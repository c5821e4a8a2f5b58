"""torchvision's sets of small images, by name: MNIST and its kin, CIFAR-10 and CIFAR-100, SVHN, STL-10."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from zoo.registry import did_you_mean
from zoo.training.data import DataSet, Spec, Splits
from zoo.training.data.arrays import hold_out
from zoo.training.data.images import ImageArrays, ImageOptions, normalisation

BY_TRAIN: dict[str, dict[str, Any]] = {"train": {"train": True}, "test": {"train": False}}
BY_SPLIT: dict[str, dict[str, Any]] = {"train": {"split": "train"}, "test": {"split": "test"}}
FAKE: dict[str, dict[str, Any]] = {
    "train": {"size": 256, "image_size": (3, 32, 32)},
    "test": {"size": 64, "image_size": (3, 32, 32), "random_offset": 256},
}
KNOWN = {
    "MNIST": BY_TRAIN,
    "FashionMNIST": BY_TRAIN,
    "KMNIST": BY_TRAIN,
    "QMNIST": BY_TRAIN,
    "USPS": BY_TRAIN,
    "CIFAR10": BY_TRAIN,
    "CIFAR100": BY_TRAIN,
    "SVHN": BY_SPLIT,
    "STL10": BY_SPLIT,
    "FakeData": FAKE,
}
"""Name -> the arguments that choose the training and the test part. FakeData is noise that needs no file."""
WHITE = 255.0


@dataclass(frozen=True, kw_only=True)
class Torchvision(ImageOptions):
    """Which set, where it lies, and how it is presented."""

    dataset: str
    """A name from torchvision.datasets, in any case: `CIFAR10`."""
    root: str = "data"
    """The folder in which torchvision keeps its files."""
    download: bool = False
    """Whether to fetch what is not there."""
    shift: int = 0
    """Training images move by up to so many pixels along both axes: 4 is usual for CIFAR."""
    flip: bool = False
    """Half of the training images are mirrored."""

    def __post_init__(self) -> None:
        """Refuse unknown sets and numbers out of range."""
        super().__post_init__()
        if self.dataset.lower() not in map(str.lower, KNOWN):
            hint = did_you_mean(self.dataset, KNOWN)
            raise ValueError(f"dataset {self.dataset!r} is not among {', '.join(KNOWN)}{hint}")
        if self.shift < 0:
            raise ValueError(f"shift {self.shift} is negative")


def load(options: Torchvision) -> Splits:
    """Read a set into memory and hold out its validation part.

    Raises:
        OSError: it is not there, is damaged, or cannot be downloaded.
    """
    images, targets, labels = _read(options, "train")
    test_images, test_targets, _ = _read(options, "test")
    keep, out = hold_out(targets.numpy(), options.val_fraction, options.subset_seed, "val_fraction")
    channels, size = images.shape[1], images.shape[-1]
    chunks = (chunk.float() / WHITE for chunk in images[keep].split(1024))
    mean, std = normalisation(chunks, options.normalize, options.mean, options.std, channels)

    def part(images: Tensor, targets: Tensor, shift: int = 0, flip: bool = False) -> ImageArrays:
        return ImageArrays(
            images=images,
            targets=targets,
            white=WHITE,
            mean=mean,
            std=std,
            shift=shift,
            flip=flip,
            image_size=options.image_size,
        )

    image_size = options.image_size or size
    spec = Spec(
        keys=("image", "features", "target"),
        num_classes=len(labels),
        in_features=channels * image_size**2,
        in_channels=channels,
        image_size=image_size,
        labels=labels,
        mean=mean,
        std=std,
        value_range=(0.0, 1.0),
    )
    return Splits(
        spec=spec,
        train=part(images[keep], targets[keep], options.shift, options.flip),
        val=part(images[out], targets[out]) if len(out) else None,
        test=part(test_images, test_targets),
    )


def _read(options: Torchvision, name: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images (samples, channels, height, width) uint8, targets (samples,) and the names of the classes."""
    from torchvision import datasets

    dataset = next(known for known in KNOWN if known.lower() == options.dataset.lower())
    arguments = dict(KNOWN[dataset][name])
    if dataset != "FakeData":
        arguments |= {"root": options.root, "download": options.download}
    try:
        samples = getattr(datasets, dataset)(**arguments)
    except (RuntimeError, OSError, ImportError) as error:
        reason = " ".join(str(error).split())
        remedy = "it could not be fetched" if options.download else "data.download=true fetches it"
        raise OSError(f"torchvision:{dataset} is not in {options.root!r}, or damaged; {remedy} ({reason})") from None
    pixels, targets = zip(*((np.asarray(image), int(target)) for image, target in _each(samples)), strict=True)
    images = torch.from_numpy(np.stack(pixels))
    images = images[:, None] if images.ndim == 3 else images.movedim(-1, 1).contiguous()
    labels = getattr(samples, "classes", None) or sorted(set(targets))
    return images, torch.tensor(targets), tuple(str(label) for label in labels)


def _each(samples: Any):
    return (samples[i] for i in range(len(samples)))


DATA = DataSet(name="torchvision", config=Torchvision, load=load)
