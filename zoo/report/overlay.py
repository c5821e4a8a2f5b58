"""One metric of several runs in one plot; a run looks the same in every plot of a page."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from zoo.report.page import Html, tag
from zoo.report.plots import COLOURS, FIRST, FOURTH, INK, MUTED, PAPER, SECOND, THIRD, over_steps

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RUN_COLOURS = (FIRST, SECOND, THIRD, FOURTH, INK)
DASHES = ((), (4.0, 1.6), (1.2, 1.2), (6.0, 1.6, 1.2, 1.6))
"""In units of the line's width: whole, dashed, dotted, both. A run has one of them and one of the colours."""
MAX_RUNS = len(RUN_COLOURS) * len(DASHES)
ROW, LONGEST = 58, 40
"""Letters that fit into a row of the legend, and that are shown of a run's name at the most."""
FEW = 30
"""So many evaluations, or fewer, are marked on their line."""
MAX_POINTS = 400
"""Of a longer curve so many evenly spaced points are drawn, which is as many as can be seen."""
SMOOTHED = 0.04
"""A value is averaged with those before and after it, so large a share of the curve on either side."""


class Look(NamedTuple):
    """How a run is drawn."""

    colour: str
    """Its hex in the light."""
    dashes: tuple[float, ...]

    @property
    def style(self) -> Any:
        """The same as matplotlib's line style."""
        return (0, self.dashes) if self.dashes else "-"

    @property
    def css(self) -> str:
        """The colour on the page, in the light and in the dark."""
        return next(f"var(--{name})" for name, (light, _) in COLOURS.items() if light == self.colour)

    def swatch(self) -> Html:
        """A piece of the line, to stand beside the run's name."""
        dashes = " ".join(f"{3 * length:g}" for length in self.dashes) or None
        line = tag("line", x1=0, y1=4, x2=26, y2=4, stroke=self.css, stroke_width=3, stroke_dasharray=dashes)
        return tag("svg", line, class_="swatch", viewBox="0 0 26 8", aria_hidden="true")


def looks(count: int) -> list[Look]:
    """One for each of so many runs, no two alike.

    Raises:
        ValueError: there are more runs than looks.
    """
    if count > MAX_RUNS:
        raise ValueError(f"{count} runs are more than the {MAX_RUNS} that can be told apart in a plot; give fewer")
    return [Look(RUN_COLOURS[i % len(RUN_COLOURS)], DASHES[i // len(RUN_COLOURS)]) for i in range(count)]


class Line(NamedTuple):
    """A metric of one run."""

    name: str
    look: Look
    steps: Sequence[int]
    values: Sequence[float]
    """What was logged on the way; the run may have none."""
    final: tuple[int, float] | None = None
    """Step and value on the test part."""


def evaluated(figure: "Figure", key: str, lines: Sequence[Line]) -> None:
    """A metric on the validation part as lines, on the test part as diamonds.

    A run that was evaluated at the end only gets a dotted level, so that the others' way can be held against it.
    """
    axes, values = figure.subplots(), []
    for line in lines:
        values += line.values
        if line.values:
            _draw(axes, line, line.steps, line.values, marker="o", markersize=3 if len(line.values) <= FEW else 0)
        if line.final:
            step, value = line.final
            values.append(value)
            if not line.values:
                axes.plot([0, step], [value, value], color=line.look.colour, linewidth=1.2, linestyle=":")
            axes.plot(step, value, "D", color=line.look.colour, markersize=7, markeredgecolor=PAPER, zorder=3)
    over_steps(axes, key, values)
    marks = {"● validation": any(line.values for line in lines), "◆ test": any(line.final for line in lines)}
    meaning = "   ".join(mark for mark, there in marks.items() if there)
    axes.set_title(meaning, loc="right", color=MUTED, fontsize=8, fontweight="normal")
    _legend(figure, lines)


def trained(figure: "Figure", key: str, lines: Sequence[Line]) -> None:
    """A metric on the training part: what was logged is faint, its moving average is not."""
    axes, shown = figure.subplots(), []
    for line in lines:
        places = np.linspace(0, len(line.values) - 1, min(len(line.values), MAX_POINTS)).round().astype(int)
        raw, steps = np.take(line.values, places), np.take(line.steps, places)
        shown += raw.tolist()
        if key == "lr":  # which has no noise, only corners
            _draw(axes, line, steps, raw)
        else:
            axes.plot(steps, raw, color=line.look.colour, linewidth=0.8, alpha=0.3)
            _draw(axes, line, steps, smoothed(line.values)[places])
    over_steps(axes, key, shown)
    _legend(figure, lines)


def smoothed(values: Sequence[float]) -> np.ndarray:
    """A moving average that looks as far ahead as back, and so does not lag.

    At the beginning, where curves are steep, it looks less far both ways; at the end it can only look back.
    """
    known, wide = np.asarray(values), round(SMOOTHED * len(values))
    reach = [min(wide, place) for place in range(len(values))]
    return np.array([known[place - r : place + r + 1].mean() for place, r in enumerate(reach)])


def _draw(axes: "Axes", line: Line, steps: Any, values: Any, **how: Any) -> None:
    alone = {"marker": "o", "markersize": 5} if len(values) == 1 else {}
    axes.plot(steps, values, color=line.look.colour, linestyle=line.look.style, **{**how, **alone})


def _legend(figure: "Figure", lines: Sequence[Line]) -> None:
    """The runs, below the plot."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=line.look.colour, linestyle=line.look.style, label=_short(line.name)) for line in lines
    ]
    figure.legend(handles=handles, loc="outside lower left", ncols=_columns(lines), handlelength=2.2, columnspacing=1.2)


def _short(name: str) -> str:
    """The end of a long name, which tells most of a path."""
    return name if len(name) <= LONGEST else "…" + name[1 - LONGEST :]


def _columns(lines: Sequence[Line]) -> int:
    """Columns of the legend: of those that there is room for, as many as its rows need."""
    room = max(1, ROW // (max(len(_short(line.name)) for line in lines) + 7))
    return -(-len(lines) // -(-len(lines) // room))


def height(lines: Sequence[Line]) -> float:
    """Inches of a plot and its legend."""
    return 2.9 + 0.18 * -(-len(lines) // _columns(lines))
