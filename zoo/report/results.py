"""What a trained model does, as arrays and text that plots and pages are made from."""

import inspect
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.pipelines import complete
from zoo.training.data import Spec, Split
from zoo.training.objectives import inputs

MAX_SAMPLES = 5000
"""A larger split is judged by so many of its samples, evenly spaced: a report should not take long."""
VIDEO = 5
"""Axes of a batch of videos."""
MAX_PIXELS = 128
"""Larger images are made smaller for the page."""


class Answers(NamedTuple):
    """A classifier's answers about samples of a split; each array is (samples,)."""

    indices: np.ndarray
    """Which samples of the split."""
    truth: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    """The probability that the model gave to the class it predicted."""

    def wrong(self) -> np.ndarray:
        """Positions of the mistakes, the surest first."""
        wrong = np.flatnonzero(self.truth != self.predicted)
        return wrong[np.argsort(-self.confidence[wrong], kind="stable")]

    def unsure(self) -> np.ndarray:
        """All positions, the least sure first."""
        return np.argsort(self.confidence, kind="stable")

    def confusion(self, classes: int) -> np.ndarray:
        """(true class, predicted class) -> how many samples, int."""
        counts = np.zeros((classes, classes), dtype=int)
        np.add.at(counts, (self.truth, self.predicted), 1)
        return counts


def some_of(split: Split) -> np.ndarray:
    """Indices of all samples, or of `MAX_SAMPLES` evenly spaced ones."""
    return np.linspace(0, len(split) - 1, min(len(split), MAX_SAMPLES)).round().astype(int)


def outputs(model: nn.Module, split: Split, indices: np.ndarray, batch_size: int) -> tuple[Tensor, Tensor]:
    """The model's (first) output and the targets for samples of a split, (samples, ...) each."""
    arguments = inspect.signature(model.forward).parameters
    results, targets = [], []
    with torch.inference_mode():
        for start in range(0, len(indices), batch_size):
            batch = split.fetch(indices[start : start + batch_size].tolist(), None)
            result = model(**inputs(batch, arguments))
            result = result if isinstance(result, Tensor) else result[0]
            results.append(result[batch["asked"]] if "asked" in batch else result)  # of a graph's nodes
            targets.append(batch["target"])
    return torch.cat(results), torch.cat(targets)


def answers(model: nn.Module, split: Split, batch_size: int) -> Answers:
    """Ask a classifier about a split."""
    indices = some_of(split)
    logits, truth = outputs(model, split, indices, batch_size)
    confidence, predicted = logits.float().softmax(-1).max(-1)
    return Answers(indices, truth.numpy(), predicted.numpy(), confidence.numpy())


def images(batch: Tensor, spec: Spec) -> list[np.ndarray]:
    """Images as they looked before normalisation, (height, width) or (height, width, 3) in [0, 1].

    Args:
        batch: (batch, channels, height, width), normalised by the data's mean and std; of videos, (batch, channels,
            frames, height, width), the middle frame is shown.
        spec: what the data are.
    """
    if batch.ndim == VIDEO:
        batch = batch[:, :, batch.shape[2] // 2]
    mean, std = (
        torch.tensor(values or (default,))[:, None, None] for values, default in ((spec.mean, 0.0), (spec.std, 1.0))
    )
    shown = (batch.float() * std + mean).clamp(0, 1)
    if max(shown.shape[-2:]) > MAX_PIXELS:
        scale = MAX_PIXELS / max(shown.shape[-2:])
        shown = F.interpolate(shown, scale_factor=scale, mode="bilinear", antialias=True).clamp(0, 1)
    return [image[0].numpy() if len(image) != 3 else image.movedim(0, -1).numpy() for image in shown]


def continuation(model: Any, prompt: str, length: int) -> str:
    """Some text that a language model of bytes writes after a prompt, at `complete`'s usual temperature.

    Half of the model's context is what it has just written, so that the text can be longer than the context; it
    ends early where the model ends it.
    """
    context = getattr(model.config, "max_seq_len", None)
    if context is None:  # a recurrence forgets nothing, and has no end
        return "".join(complete(model, prompt, length))[:length]
    written = ""
    while len(written) < length:
        recent = (prompt + written).encode()[-max(1, context // 2) :].decode(errors="ignore")
        piece = "".join(complete(model, recent, seed=len(written))) if recent else ""
        if not piece:
            break
        written += piece
    return written[:length]
