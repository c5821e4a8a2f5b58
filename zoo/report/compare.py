"""The page of several runs: their figures in one table, every metric in one plot, and in what they differ."""

import json
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zoo.config import differing, flatten, to_dict, to_yaml
from zoo.report import components, page, plots
from zoo.report.folder import Run, read_outcome, read_run
from zoo.report.overlay import Line, Look, evaluated, height, looks, trained
from zoo.report.page import Html, Part, Section
from zoo.report.run import SPLITS, write_page
from zoo.report.words import duration, measured, named
from zoo.storage import check_place, is_run

PLOT = 4.2
"""Inches from left to right."""
MANY = 3
"""More models than these do not fit into a title."""
ABSENT = "–"


class Entry(NamedTuple):
    """A run among others."""

    name: str
    """Its folder's, with as many of those around it as tell it from the others."""
    look: Look
    run: Run
    """Without its model, for those of many runs need much memory."""
    parameters: int | None

    @property
    def judged(self) -> tuple[str, dict[str, float]]:
        """The last metrics on data that it was not trained on; without that, the others have nothing to compare."""
        split, metrics = self.run.final
        return (ABSENT, {}) if split == "train" else (split, metrics)

    @property
    def data(self) -> str:
        """The name of its data."""
        return self.run.config.data.get("name", "something")

    @property
    def label(self) -> Html:
        """The name and how the run is drawn."""
        return page.tag("span", self.look.swatch(), self.name, class_="run")


def compare_page(folders: Sequence[str | Path], out: str | Path = "comparison.html") -> Path:
    """Write one page about several runs, and its plots as PNGs into a folder of the page's name.

    Args:
        folders: the runs; one that has not ended, or crashed, is shown as far as it came.
        out: the page.

    Returns:
        The page's path.

    Raises:
        OSError: a folder is not that of a run, is damaged, or the page cannot be written.
        ValueError: a run is given twice, there are too many, or the page would stand among a run's own files.
        ConfigError: a run's config cannot be read.
        ImportError: matplotlib is not installed.
    """
    paths, out = [Path(folder) for folder in folders], Path(out)
    _check(paths, out)
    entries = [_entry(*given) for given in zip(paths, names(paths), looks(len(paths)), strict=True)]
    parts = [
        results(entries),
        codes(entries),
        evaluation(entries),
        training(entries),
        settings(entries),
        repeat(entries),
    ]
    return write_page(out.parent, title(entries), hero(entries), parts, eyebrow="zoo · runs compared", name=out.stem)


def _check(paths: Sequence[Path], out: Path) -> None:
    if out.suffix != ".html":
        raise ValueError(f"{out}: a page's name ends in .html, such as {out.stem or 'comparison'}.html")
    if out.name == "report.html" and is_run(out.parent):
        raise ValueError(f"{out} is that run's own page; give the comparison another name")
    if is_run(out.with_suffix("")):
        raise ValueError(f"{out}: its plots would go into {out.with_suffix('')}, which is a run; give another name")
    check_place(out)
    seen: dict[Path, Path] = {}
    for path in paths:
        first = seen.setdefault(path.resolve(), path)
        if first is not path:
            also = "" if str(first) == str(path) else f", also as {first}"
            raise ValueError(f"{path}: this run is given twice{also}; give each run once")


def _entry(path: Path, name: str, look: Look) -> Entry:
    run = read_outcome(path)
    return Entry(name, look, run._replace(model=None), run.parameters)


def names(paths: Sequence[Path]) -> list[str]:
    """The shortest end of each path that no other path has."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    found = []
    for one in parts:
        others = [other for other in parts if other is not one]
        lengths = range(1, len(one) + 1)
        unique = (n for n in lengths if all(one[-n:] != other[-n:] for other in others))
        found.append("/".join(one[-next(unique, len(one)) :]))
    return found


def title(entries: Sequence[Entry]) -> str:
    """The models' and the data's names, where they are few."""
    models = list(dict.fromkeys(entry.run.config.model.get("name", "something") for entry in entries))
    data = {entry.data for entry in entries}
    what = " and ".join(models) if len(models) < MANY else f"{len(entries)} runs"
    return f"{what} on {data.pop()}" if len(data) == 1 else what


def hero(entries: Sequence[Entry]) -> Html | None:
    """The best run, where one can say which that is: all were judged by one metric on one part of the same data."""
    if len({(entry.run.headline, entry.judged[0], entry.data) for entry in entries}) > 1:
        return None
    key, split = entries[0].run.headline, entries[0].judged[0]
    found = [(entry.judged[1][key], entry) for entry in entries if key in entry.judged[1]]
    if len(found) < len(entries) or len({value for value, _ in found}) == 1:
        return None
    (value, best), *others = sorted(found, key=lambda pair: pair[0], reverse=entries[0].run.larger_is_better)
    rest = ", ".join(f"{entry.name} {measured(key, other)}" for other, entry in others)
    return page.hero(measured(key, value), f"{named(key)} on {SPLITS[split]} by {best.name}", rest, best.look.css)


def results(entries: Sequence[Entry]) -> Part:
    """What came of each run, a row for each."""
    keys = _in_order([entry.run.headline for entry in entries], (key for entry in entries for key in entry.judged[1]))
    header = ["run", *map(named, keys), "evaluated on", "model", "parameters", "steps", "time"]
    rows = [
        [
            entry.label,
            *(measured(key, entry.judged[1][key]) if key in entry.judged[1] else ABSENT for key in keys),
            entry.judged[0] if entry.judged[1] else "nothing yet",
            entry.run.config.model.get("name", ABSENT),
            ABSENT if entry.parameters is None else f"{entry.parameters:,}",
            f"{entry.run.steps:,}",
            duration(entry.run.seconds),
        ]
        for entry in entries
    ]
    remarks = [f"{entry.name}: {remark}" for entry in entries for remark in entry.run.remarks]
    data = list(dict.fromkeys(entry.data for entry in entries))
    if len(data) > 1:
        remarks.append(
            f"The runs have different data ({', '.join(data)}), so their metrics do not say which is better."
        )
    return Part((Section("Results", page.join([page.table(header, rows), *map(page.note, remarks)])),))


def _in_order(first: Sequence[str], found: Iterable[str]) -> list[str]:
    """What was found, each once; those that are to come first do so."""
    known = dict.fromkeys(found)
    return [key for key in dict.fromkeys([*first, *known]) if key in known]


def evaluation(entries: Sequence[Entry]) -> Part:
    """Every metric on the parts that the runs were not trained on, the headlines first."""
    keys = _in_order([entry.run.headline for entry in entries], _logged(entries, "val", "test"))
    lines = {key: [line for entry in entries if (line := _evaluated(entry, key))] for key in keys}
    alone = any(not line.values for drawn in lines.values() for line in drawn)
    lead = "A dotted level is a run that was evaluated at its end only." if alone else ""
    return _plots("Evaluation", lead, evaluated, lines)


def codes(entries: Sequence[Entry]) -> Part:
    """Autoencoders of the same images beside principal components; nothing where there are other runs among them."""
    points = [components.point(entry.run, entry.name, entry.look.colour) for entry in entries]
    known = [point for point in points if point is not None]
    if len(known) < len(entries) or differing([flatten(entry.run.config.data) for entry in entries]):
        return Part(())
    splits = read_run(entries[0].run.folder).splits
    found = None if splits is None else components.principal(splits)
    return Part(()) if splits is None or found is None else components.beside(found, splits, known)


def training(entries: Sequence[Entry]) -> Part:
    """Every metric that was logged on the way, the loss first."""
    keys = _in_order(["loss"], _logged(entries, "train"))
    lines = {
        key: [
            Line(entry.name, entry.look, steps, values)
            for entry in entries
            for steps, values in [entry.run.history.column("train", key)]
            if values
        ]
        for key in keys
    }
    smoothing = {entry.run.config.objective.get("label_smoothing") or 0 for entry in entries}
    lead = "Faint is what was logged, and over it a moving average."
    if len(smoothing) > 1:
        lead += " The runs' label smoothing differs, and their training loss includes it."
    return _plots("Training", lead, trained, lines, "train-")


def _logged(entries: Sequence[Entry], *splits: str) -> Iterator[str]:
    """The metrics of some splits, in order of appearance."""
    return (key for split in splits for entry in entries for key in entry.run.history.metrics(split))


def _evaluated(entry: Entry, key: str) -> Line | None:
    """A metric of a run on the validation and on the test part; None where it has neither."""
    steps, values = entry.run.history.column("val", key)
    tested = list(zip(*entry.run.history.column("test", key), strict=True))
    return Line(entry.name, entry.look, steps, values, tested[-1] if tested else None) if values or tested else None


def _plots(
    heading: str, lead: str, plot: Callable[..., None], lines: Mapping[str, Sequence[Line]], prefix: str = ""
) -> Part:
    """A plot for each metric, on the page and as a PNG."""
    if not lines:
        return Part((Section(heading, page.note("Nothing has been logged yet.")),))
    drawings = {
        key: plots.draw(f"{heading}: {named(key)}", plot, key, drawn, size=(PLOT, height(drawn)))
        for key, drawn in lines.items()
    }
    files = {prefix + re.sub(r"[^\w@.-]+", "-", key) + ".png": drawing.png() for key, drawing in drawings.items()}
    return Part((Section(heading, page.in_columns(*map(page.figure, drawings.values())), lead),), files)


def settings(entries: Sequence[Entry]) -> Part:
    """The settings in which the runs are not alike; those that only some of them have are folded."""
    flat = [flatten(to_dict(entry.run.config)) for entry in entries]
    keys = differing(flat)
    shared = [key for key in keys if all(key in values for values in flat)]
    others = [key for key in keys if key not in shared]
    body = [_table(entries, flat, shared)] if shared else []
    if others:
        body.append(page.folded(f"{len(others)} that only some of the runs have", _table(entries, flat, others)))
    same = page.note("None: the runs have the same settings.")
    return Part((Section("Settings that differ", page.join(body or [same])),))


def _table(entries: Sequence[Entry], flat: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Html:
    """A row for each setting; of many runs that differ in few, a row for each run."""
    cells = [[json.dumps(values[key]) if key in values else ABSENT for key in keys] for values in flat]
    labels = [entry.label for entry in entries]
    if len(keys) < len(entries):
        return page.table(["run", *keys], [[label, *row] for label, row in zip(labels, cells, strict=True)])
    return page.table(["setting", *labels], [[key, *row] for key, *row in zip(keys, *cells, strict=True)])


def repeat(entries: Sequence[Entry]) -> Part:
    """How to train each run again."""
    blocks = []
    for entry in entries:
        config, out = entry.run.folder / "config.yaml", Path("runs", "again", entry.name)
        command = page.code(f"zoo train {shlex.quote(str(config))} --out {shlex.quote(str(out))}")
        blocks.append(page.folded(entry.name, page.join([command, page.code(to_yaml(entry.run.config))])))
    lead = "Each run's command and its config, with nothing left open."
    return Part((Section("Repeat them", page.join(blocks), lead),))
