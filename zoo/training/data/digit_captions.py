"""Handwritten digits of 8 x 8 pixels, each with a short text that says which it is, such as `a handwritten seven`.

The images and their parts are those of `digits`. Training draws one of a digit's captions each time; evaluation takes
the first. What a digit may be called is also the prompts by which a model is asked for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zoo.tokenizer import BYTES, END, ByteTokenizer, batch
from zoo.training.data import DataSet, Spec, Split, Splits, digits
from zoo.training.data.images import ImageOptions

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEMPLATES = (
    "a handwritten {}", "the digit {}", "the number {}", "a picture of a {}", "a scan of the number {}", "a small {}",
    "this is a {}", "{}",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DigitCaptions(ImageOptions):
    """How the digits are presented."""

    shift: int = 0
    """Training images move by up to so many pixels along both axes."""
    image_size: int = digits.SIZE
    """Images are interpolated to this size."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        super().__post_init__()
        if not 0 <= self.shift < digits.SIZE:
            raise ValueError(f"shift {self.shift} is not in [0, {digits.SIZE}); the images have so many pixels a side")


@dataclass(frozen=True, kw_only=True)
class Described:
    """One part: images with targets, and for each target the captions to choose from."""

    images: Split
    captions: Tensor
    """(classes, captions, seq) int64."""

    def __len__(self) -> int:
        return len(self.images)

    def fetch(self, indices: Sequence[int], rngs: Sequence[np.random.Generator] | None) -> dict[str, Tensor]:
        """`image` (batch, 1, image_size, image_size), `tokens` (batch, seq) and `target` (batch,)."""
        # a list, for one generator must first move its image and then choose, not begin again
        rngs = None if rngs is None else list(rngs)
        made = self.images.fetch(indices, rngs)
        count = self.captions.shape[1]
        chosen = [0] * len(indices) if rngs is None else [int(rng.integers(count)) for rng in rngs]
        tokens = self.captions[made["target"], torch.tensor(chosen)]
        return {"image": made["image"], "tokens": tokens, "target": made["target"]}


def captions_of(digit: int) -> list[str]:
    """Everything that a digit is called, the first one by its word."""
    return [template.format(name) for template in TEMPLATES for name in (WORDS[digit], str(digit))]


def load(options: DigitCaptions) -> Splits:
    """Read the digits and write their captions."""
    given = {name: getattr(options, name) for name in DigitCaptions.__dataclass_fields__}
    images = digits.load(digits.Digits(**given))
    texts = [text for digit in range(10) for text in captions_of(digit)]
    tokens = batch(ByteTokenizer(), texts, end=True)["tokens"].unflatten(0, (10, -1))  # (classes, captions, seq)

    def part(split: Split | None) -> Described | None:
        return None if split is None else Described(images=split, captions=tokens)

    spec = Spec(
        keys=("image", "tokens", "target"),
        num_classes=10,
        in_channels=1,
        image_size=options.image_size,
        vocab_size=BYTES,
        max_seq_len=tokens.shape[-1],
        end_token=END,
        labels=WORDS,
        prompts=tuple(tuple(map(tuple, each)) for each in tokens.tolist()),
        mean=images.spec.mean,
        std=images.spec.std,
        value_range=images.spec.value_range,
    )
    train = Described(images=images.train, captions=tokens)
    return Splits(spec=spec, train=train, val=part(images.val), test=part(images.test))


DATA = DataSet(name="digit_captions", config=DigitCaptions, load=load)
