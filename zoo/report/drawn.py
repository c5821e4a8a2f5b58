"""What a trained generator draws, whichever kind it is."""

import io

from torch import nn

from zoo.pipelines import picture, sample
from zoo.pipelines.sample import classes_of, names_of
from zoo.report import page, results
from zoo.report.folder import Run
from zoo.report.page import Part, Section
from zoo.training.data import Spec

GENERATORS = ("adversarial", "denoising", "elbo")
"""Objectives whose models draw images of noise."""
COUNT, COLUMNS = 30, 10
"""Images at the most; and side by side in the PNG, where classes do not say otherwise."""


def drawn(run: Run) -> Part:
    """Images of noise, the classes in turn where there are some; nothing for runs that learnt something else."""
    if run.objective not in GENERATORS or run.model is None:
        return Part(())
    try:
        return drawings(run.model)
    except ValueError as error:  # such as weights that do not say what noise they were trained on
        return Part((Section("What it draws", page.note(f"{error}.")),))


def drawings(model: nn.Module) -> Part:
    """The first images that a model draws.

    Raises:
        ValueError: it draws none, or its weights do not say how.
    """
    classes = len(set(classes_of(model, COUNT) or ()))
    count, columns = (COUNT // classes * classes, classes) if classes else (COUNT, COLUMNS)
    images = sample(model, count)
    shown = results.images(images, Spec(keys=()))
    section = Section(
        "What it draws",
        page.gallery(shown, _names(model, count)),
        "The first ones, not the best ones" + (", in turn of each class." if classes else "."),
    )
    file = io.BytesIO()
    picture(images, columns).save(file, format="PNG")
    return Part((section,), {"samples.png": file.getvalue()})


def _names(model: nn.Module, count: int) -> list[str | None]:
    """What is asked for in each image, as its caption."""
    classes = classes_of(model, count)
    return [None] * count if classes is None else [names_of(model)[each] for each in classes]
