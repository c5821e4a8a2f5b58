"""Autoencoders beside principal components, which are the best that a linear code of so many numbers can do."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from zoo.report import page, plots, results
from zoo.report.folder import Run
from zoo.report.page import Part, Section
from zoo.report.plots import FIRST, FOURTH, INK, MUTED, SECOND, THIRD
from zoo.training.data import Spec, Split, Splits
from zoo.training.quality import unit_image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_NUMBERS = 4096
"""Of larger images the components would take too long to find."""
FURTHER = 2
"""The curve goes on to so many times the longest code."""
HUES = (FIRST, SECOND, THIRD, FOURTH, INK)
SHORT = 3
"""Letters that stand for a class."""


class Components(NamedTuple):
    """The principal components of images in [0, 1]."""

    mean: Tensor
    """(numbers,)."""
    axes: Tensor
    """(numbers, numbers), a component in each column, the one of the largest variance first."""

    def codes(self, images: Tensor) -> Tensor:
        """How much of each component is in images (batch, channels, height, width), (batch, numbers)."""
        return (images.flatten(1).double() - self.mean) @ self.axes

    def errors(self, images: Tensor) -> np.ndarray:
        """The squared error per pixel that is left by no component, by one, by two and so on."""
        squares = self.codes(images).square().mean(0)
        return ((squares.sum() - torch.cat([squares.new_zeros(1), squares.cumsum(0)])) / len(self.mean)).numpy()

    def rebuilt(self, images: Tensor, count: int) -> Tensor:
        """The images, as the first components give them back."""
        flat = self.codes(images)[:, :count] @ self.axes[:, :count].T + self.mean
        return flat.float().reshape(images.shape).clamp(0, 1)


class Point(NamedTuple):
    """An autoencoder in the plot."""

    name: str
    latent_dim: int
    error: float
    """Per pixel."""
    colour: str


def unit(split: Split, spec: Spec) -> Tensor:
    """The samples of a split, or some of a large one, (samples, channels, height, width) in [0, 1]."""
    return unit_image(split.fetch(results.some_of(split).tolist(), None)["image"], spec)


def principal(splits: Splits) -> Components | None:
    """The components of the training part; None for images that are too large."""
    images = unit(splits.train, splits.spec).flatten(1).double()
    if images.shape[1] > MAX_NUMBERS:
        return None
    mean = images.mean(0)
    axes = torch.linalg.eigh((images - mean).T @ (images - mean)).eigenvectors.flip(1)
    return Components(mean, axes)


def beside(found: Components, splits: Splits, points: Sequence[Point]) -> Part:
    """The test errors of autoencoders, over the curve of principal components; nothing without points."""
    if not points or splits.test is None:
        return Part(())
    longest = max(point.latent_dim for point in points)
    errors = found.errors(unit(splits.test, splits.spec))[: FURTHER * longest + 1]
    drawing = plots.draw("Beside principal components", over_length, errors, points, size=(6, 3.6))
    lead = "Squared error per pixel of test images in [0, 1], over the numbers in a code."
    return Part((Section(drawing.name, page.figure(drawing), lead),), {"components.png": drawing.png()})


def point(run: Run, name: str, colour: str) -> Point | None:
    """Where a run lies; None for one that is no autoencoder with a code of so many numbers, or was not tested."""
    split, metrics = run.final
    length = run.config.model.get("latent_dim")
    if run.objective != "reconstruction" or length is None or split != "test":
        return None
    return Point(name, int(length), metrics["mse"], colour)


def over_length(figure: "Figure", errors: np.ndarray, points: Sequence[Point]) -> None:
    """Error per pixel over the numbers in a code: a curve for principal components, a point for each autoencoder.

    Args:
        figure: what is drawn on.
        errors: (components + 1,), from none on.
        points: the autoencoders.
    """
    axes = figure.subplots()
    lengths = np.arange(1, len(errors))
    axes.plot(lengths, errors[1:], color=MUTED, label="principal components")
    axes.set(xscale="log", xlabel="numbers in the code", title="error per pixel")
    for point in points:
        linear = errors[point.latent_dim]
        axes.plot([point.latent_dim] * 2, [point.error, linear], color=point.colour, linewidth=1, linestyle=":")
        axes.plot(point.latent_dim, linear, "o", color=MUTED, markersize=4)
        axes.plot(point.latent_dim, point.error, "D", color=point.colour, markersize=6, label=point.name)
        for value, side in ((linear, 5), (point.error, -11)):
            axes.annotate(f"{value:.4f}", (point.latent_dim, value), (6, side), textcoords="offset points", fontsize=8)
    ticks = sorted({1, len(errors) - 1, *(point.latent_dim for point in points)})
    axes.set_xticks(ticks, map(str, ticks))
    axes.set_xticks([], minor=True)
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.08)
    axes.set_ylim(0, 1.1 * errors[1])
    axes.legend(loc="upper right")


def maps(figure: "Figure", panels: Sequence[tuple[str, Tensor]], targets: Tensor, labels: Sequence[str]) -> None:
    """Codes of two numbers, a panel for each kind, (title, (samples, 2)); each sample is its class's name.

    Args:
        figure: what is drawn on.
        panels: the codes.
        targets: (samples,), the classes.
        labels: their names.
    """
    grid: Any = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, codes) in zip(grid, panels, strict=True):
        axes.set(title=title, xticks=[], yticks=[])
        axes.plot(*codes.T.tolist(), ",", alpha=0)  # for the limits
        for place, target in zip(codes.tolist(), targets.tolist(), strict=True):
            colour = HUES[target % len(HUES)]
            axes.text(*place, labels[target][:SHORT], color=colour, fontsize=7, ha="center", va="center")
