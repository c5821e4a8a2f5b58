"""Plots by matplotlib: as PNG with a light ground, to pass on, and as SVG that takes its page's colours.

Every colour is one of `COLOURS`. In the SVG each stands as a CSS variable, so that the page's stylesheet decides
what it is in the light and in the dark. Hues are from Okabe and Ito, "Color universal design" (2008): they are
told apart with any colour vision.
"""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.report.history import History
from zoo.report.words import named

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "paper": ("#fdfdfc", "#0f1216"),
    "card": ("#f4f4f1", "#181c22"),
    "line": ("#dcdcd6", "#2d343d"),
    "muted": ("#63666c", "#98a1ac"),
    "ink": ("#1c1e22", "#e8ebee"),
    "on": ("#ffffff", "#0b0d10"),
    "first": ("#0072b2", "#56b4e9"),
    "second": ("#d55e00", "#f28e3c"),
    "third": ("#00805d", "#2fc79a"),
    "fourth": ("#a8518a", "#d98fbd"),
}
"""Name -> hex in the light and in the dark; no two are equal, for the SVG's colours are recognised by their hex."""

PAPER, CARD, LINE, MUTED, INK, ON, FIRST, SECOND, THIRD, FOURTH = (light for light, _ in COLOURS.values())

SPLITS = {"train": FIRST, "val": SECOND, "test": THIRD}

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "text.parse_math": False,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "image.interpolation": "nearest",
}
MAX_CLASSES = 30
"""Above this many a confusion matrix has no numbers and no names, for they could not be read."""


class Drawing(NamedTuple):
    """A plot that is drawn when it is asked for."""

    name: str
    """What it shows, for those who cannot see it; different on each plot of a page."""
    plot: Callable[..., None]
    """One of the functions below; its first argument is the figure."""
    args: tuple[Any, ...]
    """The plot's other arguments."""
    size: tuple[float, float]
    """Width and height in inches."""

    def svg(self) -> str:
        """An `<svg>` element whose colours are `var(--name)` and whose text is text."""
        return _as_themed(self._drawn(format="svg", transparent=True, metadata={"Date": None}).decode())

    def png(self) -> bytes:
        """A PNG file."""
        return self._drawn(format="png", facecolor=PAPER, dpi=200)

    def _drawn(self, **how: Any) -> bytes:
        try:
            import matplotlib
            from matplotlib.figure import Figure
        except ImportError:
            raise ImportError("plots need matplotlib; pip install 'zoo[train]'") from None
        file = io.BytesIO()
        with matplotlib.rc_context(), warnings.catch_warnings():
            matplotlib.rcdefaults()
            matplotlib.rcParams.update(STYLE)
            matplotlib.rcParams["svg.hashsalt"] = self.name
            warnings.filterwarnings("ignore", message=r"Glyph \d+ .* missing from")  # a browser has the font for it
            figure = Figure(figsize=self.size, layout="constrained")
            self.plot(figure, *self.args)
            figure.savefig(file, **how)
        return file.getvalue()


def draw(name: str, plot: Callable[..., None], *args: Any, size: tuple[float, float]) -> Drawing:
    """`Drawing`, with the plot's arguments where one expects them."""
    return Drawing(name, plot, args, size)


def _as_themed(svg: str) -> str:
    """The bare element, without its own style and the ids that nothing refers to: a page holds several of them."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg)
    referred = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda match: match[0] if match[1] in referred else "", svg)
    for name, (light, _) in COLOURS.items():
        svg = svg.replace(light, f"var(--{name})")
    return svg


def curves(figure: "Figure", history: History, keys: Sequence[str]) -> None:
    """One panel per metric, x = step, a line per split."""
    panels = figure.subplots(1, len(keys), squeeze=False)[0]
    for axes, key in zip(panels, keys, strict=True):
        _curve(axes, history, key)


def _curve(axes: "Axes", history: History, key: str) -> None:
    lowest, highest = [], []
    for split, colour in SPLITS.items():
        steps, values = history.column(split, key)
        if not steps:
            continue
        lowest.append(min(values))
        highest.append(max(values))
        if split == "test":
            axes.plot(steps[-1], values[-1], "D", color=colour, markersize=6, label=f"test {values[-1]:.4g}", zorder=3)
        else:
            alone = len(steps) == 1
            axes.plot(steps, values, "o" if alone else "-", color=colour, label=split, markersize=5)
    over_steps(axes, key, [*lowest, *highest])
    if len(lowest) > 1:
        axes.legend(loc="best")


def over_steps(axes: "Axes", key: str, values: Sequence[float]) -> None:
    """Title, grid and scale of a metric over the steps; a loss that falls far is shown on a logarithmic scale."""
    if key.endswith(("loss", "perplexity")) and values and min(values) > 0 and max(values) > 30 * min(values):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_title(named(key))
    axes.set_xlabel("step")
    axes.margins(x=0.03)
    axes.grid(visible=False, axis="x")


def confusion(figure: "Figure", counts: np.ndarray, labels: Sequence[str]) -> None:
    """Rows are the true classes, columns the predicted ones; colour says which share of its row a cell has.

    Args:
        figure: what is drawn on.
        counts: (classes, classes) int.
        labels: the classes' names.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    classes = len(labels)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    alpha = np.where(counts > 0, 0.25 + 0.75 * share, 0.0)
    right = np.eye(classes, dtype=bool)
    axes = figure.subplots()
    axes.set_aspect("equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set(xlim=(-0.5, classes - 0.5), ylim=(classes - 0.5, -0.5), xlabel="predicted", ylabel="true")
    if classes > MAX_CLASSES:
        cells = np.where(right[..., None], to_rgba(FIRST), to_rgba(SECOND))
        cells[..., 3] = alpha
        axes.imshow(cells)
        return
    cells, grounds = [], []
    for row, column in np.ndindex(counts.shape):
        colour, strong = (FIRST if row == column else SECOND), float(alpha[row, column])
        cells.append(Rectangle((column - 0.47, row - 0.47), 0.94, 0.94))
        grounds.append(to_rgba(colour, strong) if counts[row, column] else to_rgba(CARD))
        if counts[row, column]:
            ink = ON if strong > 0.6 else INK
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink)
    axes.add_collection(PatchCollection(cells, facecolors=grounds, linewidths=0))
    names = [label if len(label) < 13 else label[:11] + "…" for label in labels]
    turned = max(map(len, names)) > 3
    axes.set_xticks(range(classes), names, rotation=45 if turned else 0, ha="right" if turned else "center")
    axes.set_yticks(range(classes), names)


def pictures(figure: "Figure", images: Sequence[np.ndarray], captions: Sequence[str]) -> None:
    """A grid of images, each (height, width) or (height, width, 3) in [0, 1], with a caption below."""
    columns = min(8, len(images))
    grid = figure.subplots(-(-len(images) // columns), columns, squeeze=False).flatten()
    for axes in grid:
        axes.spines[:].set_visible(False)
        axes.set(xticks=[], yticks=[])
    for axes, image, caption in zip(grid, images, captions, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_xlabel(caption, fontsize=8)


def scatter(figure: "Figure", truth: np.ndarray, predicted: np.ndarray) -> None:
    """Predicted against true values, (samples,) each; a perfect model's points lie on the line."""
    axes = figure.subplots()
    ends = [min(truth.min(), predicted.min()), max(truth.max(), predicted.max())]
    axes.plot(ends, ends, color=MUTED, linewidth=1)
    axes.plot(truth, predicted, "o", color=FIRST, alpha=0.5, markersize=4, markeredgewidth=0)
    axes.set(xlabel="true", ylabel="predicted")


def points(figure: "Figure", groups: Sequence[tuple[str, Sequence[float]]], quantity: str) -> None:
    """One row per group: a point per seed, and a bar from mean - spread to mean + spread.

    Args:
        figure: what is drawn on.
        groups: (name, value per seed) from top to bottom.
        quantity: what the values are.
    """
    axes = figure.subplots()
    colours = (FIRST, SECOND, THIRD, FOURTH)
    for row, (_, values) in enumerate(groups):
        colour = colours[row % len(colours)]
        mean, spread = np.mean(values), np.std(values, ddof=1) if len(values) > 1 else 0.0
        axes.plot([mean - spread, mean + spread], [row, row], color=colour, linewidth=9, alpha=0.22)
        axes.plot([mean, mean], [row - 0.22, row + 0.22], color=colour, linewidth=2)
        axes.plot(values, [row] * len(values), "o", color=colour, markersize=6, alpha=0.8, markeredgewidth=0)
    axes.set_yticks(range(len(groups)), [name for name, _ in groups])
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.set_xlabel(quantity)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", labelcolor=INK)
