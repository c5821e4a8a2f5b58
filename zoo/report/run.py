"""The page of a run: how the training went, what the model does, and how to use it."""

import platform
from collections.abc import Sequence
from pathlib import Path

import torch

from zoo.report import page, sections
from zoo.report.drawn import drawn
from zoo.report.folder import Run, read_run
from zoo.report.page import Html, Part
from zoo.report.words import measured, named
from zoo.storage import replace_file
from zoo.version import __version__

SPLITS = {"test": "the test part", "val": "the validation part", "train": "the training part"}


def run_page(folder: str | Path) -> Path:
    """Write `report.html`, and its plots as PNGs below `report/`, into a run's folder.

    Args:
        folder: the run; one that has not ended, or crashed, gets a page of what there is.

    Returns:
        The page's path.

    Raises:
        OSError: the folder is not that of a run, is damaged, or cannot be written to.
        ConfigError: its config cannot be read.
        ImportError: matplotlib is not installed.
    """
    run = read_run(folder)
    parts = [sections.curves(run), drawn(run), sections.behaviour(run), sections.facts(run), sections.use(run)]
    return write_page(run.folder, run.title, hero(run), parts)


def hero(run: Run) -> Html:
    """The metric that says how good the model is, and the others beside it."""
    split, metrics = run.final
    if not metrics:
        return page.hero("…", "not evaluated yet")
    headline = run.headline if run.headline in metrics else next(iter(metrics))
    rest = ", ".join(f"{named(key)} {measured(key, number)}" for key, number in metrics.items() if key != headline)
    return page.hero(measured(headline, metrics[headline]), f"{named(headline)} on {SPLITS[split]}", rest)


def write_page(
    folder: Path,
    title: str,
    top: Html | None,
    parts: Sequence[Part],
    *,
    eyebrow: str = "zoo · a run",
    name: str = "report",
) -> Path:
    """Write one page, `report.html` or another name's, into a folder, and the PNGs of its parts below that name."""
    footer = f"Written by zoo {__version__} with torch {torch.__version__} and Python {platform.python_version()}."
    text = page.page(title, eyebrow, top, [section for part in parts for section in part.sections], footer)
    (folder / name).mkdir(parents=True, exist_ok=True)
    for part in parts:
        for file, png in part.files.items():
            replace_file(folder / name / file, png)
    replace_file(folder / f"{name}.html", text.encode())
    return folder / f"{name}.html"
