"""What autoencoders make of images that they were not trained on."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.nn.patches import to_image, to_patches
from zoo.report import components, page, plots, results
from zoo.report.folder import Run
from zoo.report.page import Part, Section
from zoo.report.plots import FIRST
from zoo.training.data import Spec, Split
from zoo.training.quality import unit_image
from zoo.training.random import Rows

COLUMNS = 8
"""Images that are shown."""
HIDDEN = 0.5
"""The grey of a patch that was hidden."""
SIDE = 96
"""Pixels: smaller images are shown larger, each of their pixels a square."""
FEW = 400
"""Samples in a map of codes, where more would lie on top of each other."""
LINE = 4
"""Pixels between an image and what was made of it."""
AXES = 2
"""Numbers in a code that is shown as a map."""
PLAIN = Spec(keys=())
"""Of images in [0, 1]."""


def autoencoder(run: Run, model: Any, test: Split, spec: Spec) -> Part:
    """Images, and as they are after going through their codes; short codes beside principal components."""
    image = _some(test)["image"]
    with torch.inference_mode():
        back = model(image=image).reconstruction.float()
    shown = [unit_image(image, spec), unit_image(back, spec)]
    known = components.point(run, run.config.model.get("name", "autoencoder"), FIRST)
    found = None if known is None or run.splits is None else components.principal(run.splits)
    if known is None or run.splits is None or found is None:
        return _strips("What comes back", "Above what was given, below what came back.", shown)
    lead = f"From the top: what was given, what came back, and what {known.latent_dim} principal components give back."
    part = _strips("What comes back", lead, [*shown, found.rebuilt(shown[0], known.latent_dim)])
    curve = components.beside(found, run.splits, [known])
    return _joined(part, curve, _map(model, found, test, spec) if known.latent_dim == AXES else Part(()))


def masked(run: Run, model: nn.Module, test: Split, spec: Spec) -> Part:
    """Images without most of their patches, what is predicted there, and what was there."""
    image = _some(test)["image"]
    with torch.inference_mode():
        nothing_hidden, _ = model(image=image)
        rows = Rows(run.config.trainer.seed, "report/", [(0, row) for row in range(len(image))], image.device)
        prediction, mask = model(image=image, noise=rows.uniform("noise", nothing_hidden.shape[1:2]))
    size = round((prediction.shape[-1] // image.shape[1]) ** 0.5)
    grid = (image.shape[-2] // size, image.shape[-1] // size)
    patches = to_patches(image, size)
    if run.config.objective.get("normalize_patches"):  # then it says nothing of a patch's mean and deviation
        prediction = prediction * patches.std(-1, keepdim=True) + patches.mean(-1, keepdim=True)
    filled = unit_image(to_image(prediction.where(mask[..., None], patches), size, grid), spec)
    whole = unit_image(image, spec)
    seen = to_image(to_patches(whole, size).masked_fill(mask[..., None], HIDDEN), size, grid)
    lead = "From the top: what it sees, grey where a patch is hidden, what it makes of that, and what was hidden."
    return _strips("What it fills in", lead, [seen, filled, whole])


def _some(test: Split) -> dict[str, Tensor]:
    return test.fetch(np.linspace(0, len(test) - 1, min(COLUMNS, len(test))).round().astype(int).tolist(), None)


def _strips(title: str, lead: str, rows: Sequence[Tensor]) -> Part:
    """Each image above what was made of it; rows are (images, channels, height, width) in [0, 1]."""
    times = max(1, SIDE // rows[0].shape[-1])
    shown = [results.images(row.repeat_interleave(times, -1).repeat_interleave(times, -2), PLAIN) for row in rows]
    strips = [np.concatenate(_apart(column)) for column in zip(*shown, strict=True)]
    height = 9 / COLUMNS * strips[0].shape[0] / strips[0].shape[1]
    drawing = plots.draw(title, plots.pictures, strips, [""] * len(strips), size=(9, height))
    return Part((Section(title, page.gallery(strips, [None] * len(strips)), lead),), {"images.png": drawing.png()})


def _apart(column: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The images of a column with a white line between them."""
    line = np.ones((LINE, *column[0].shape[1:]), column[0].dtype)
    return [piece for image in column for piece in (line, image)][1:]


def _map(model: Any, found: components.Components, test: Split, spec: Spec) -> Part:
    """Codes of two numbers as a map of the classes."""
    if "target" not in spec.keys or not spec.labels:
        return Part(())
    batch = test.fetch(results.some_of(test)[:FEW].tolist(), None)
    with torch.inference_mode():
        codes = model.encode(batch["image"])
    panels = [("codes", codes), ("principal components", found.codes(unit_image(batch["image"], spec))[:, :AXES])]
    drawing = plots.draw("Codes", components.maps, panels, batch["target"], spec.labels, size=(9, 4.4))
    section = Section("Where the classes lie", page.figure(drawing), "Codes of images that were not trained on.")
    return Part((section,), {"codes.png": drawing.png()})


def _joined(*parts: Part) -> Part:
    files = {name: png for part in parts for name, png in part.files.items()}
    return Part(tuple(section for part in parts for section in part.sections), files)
