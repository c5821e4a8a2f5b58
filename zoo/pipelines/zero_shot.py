"""Images told apart by words alone: each class is a few texts, and an image belongs to the one whose texts lie nearest.

Source: Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision", section 3.1;
https://arxiv.org/abs/2103.00020
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.factory import config, provenance
from zoo.pipelines.inputs import read_inputs
from zoo.pipelines.predict import Prediction, choices, wanted_of
from zoo.preprocess import preprocessing
from zoo.registry import ARCHITECTURES, architecture_of
from zoo.tokenizer import batch, tokenizer

TASK = "zero-shot-image-classification"
TEMPLATES = (
    "a photo of {}.", "a close-up photo of {}.", "a bad photo of {}.", "a drawing of {}.", "a picture of {}.", "{}",
)  # fmt: skip
"""They read well whether a label has an article or not."""
PLACE = "{}"
TEXTS = 256
"""Texts that are encoded at once."""


class ZeroShot(nn.Module):
    """A classifier whose classes are texts."""

    vectors: Tensor

    def __init__(self, model: Any, labels: Sequence[str], vectors: Tensor) -> None:
        """Keep the parts.

        Args:
            model: one with `encode_image` and `logit_scale`, a CLIP.
            labels: the name of each class.
            vectors: (classes, dim), where each lies, of length 1.
        """
        super().__init__()
        self.model, self.labels = model, tuple(labels)
        self.register_buffer("vectors", vectors, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """The cosine of each image and each class, scaled as in training.

        Args:
            image: (batch, channels, height, width), as `zoo.transforms(model)` makes it.

        Returns:
            Logits (batch, classes), float32.
        """
        return self.model.logit_scale.exp().float() * self.model.encode_image(image).float() @ self.vectors.mT

    def predict(self, path: str | Path, *, top: int = 5) -> Iterator[Prediction]:
        """Answer for every image at a path: an image, a folder of images, or a .npy or .npz array.

        Args:
            path: what to look at.
            top: how many classes to name.

        Raises:
            OSError: nothing lies there, or a file cannot be read.
            ValueError: the file holds something that this model does not take.
        """
        if top < 1:
            raise ValueError(f"top {top} is below 1")
        for names, logits in _over_images(self.model, Path(path), self):
            yield from choices(names, logits, self.labels, top)


def zero_shot(
    model: nn.Module, labels: Sequence[str] | None = None, templates: Sequence[str] | None = None
) -> ZeroShot:
    """A classifier for any classes that have names.

    A class lies at the mean of where its texts lie, each of length 1, and that mean is scaled to length 1 again.

    Args:
        model: a CLIP with a tokenizer.
        labels: the classes' names; by default those of the data that it was trained on, where these had some.
        templates: texts in which `{}` stands for a name; by default some of photos, or for labels of the training what
            these were called there.

    Returns:
        The classifier, on the model's device; the texts have been encoded once for all.

    Raises:
        ValueError: the model is no CLIP, or has no tokenizer; labels are missing, fewer than two or twice the same; or
            a template has no place for a label.
    """
    labels, known = classes_for(model, labels), prompts_of(model)
    if templates is not None:
        _check_texts("templates", templates)
    if templates is None and all(label in known for label in labels):
        prompts = [known[label] for label in labels]
    else:
        prompts = [_filled(TEMPLATES if templates is None else templates, label) for label in labels]
    vectors = embed_texts(model, [text for texts in prompts for text in texts]).split([len(p) for p in prompts])
    means = torch.stack([each.mean(0) for each in vectors])
    return ZeroShot(model, labels, F.normalize(means, dim=-1))


@torch.no_grad()
def embed_texts(model: nn.Module, texts: Sequence[str]) -> Tensor:
    """Where texts lie in the space that they share with images.

    Args:
        model: a CLIP with a tokenizer.
        texts: one or more; what is longer than the model reads loses its end.

    Returns:
        (texts, dim) float32, each of length 1, on the model's device.

    Raises:
        TypeError: texts is a single one, or one of them is no text.
        ValueError: the model is no CLIP, or has no tokenizer; or there is no text.
    """
    check_tells_by_texts(model)
    _check_texts("texts", texts)
    built: Any = model
    reader, device, training = tokenizer(model), next(model.parameters()).device, model.training
    found = []
    model.eval()
    try:
        for start in range(0, len(texts), TEXTS):
            part = batch(reader, texts[start : start + TEXTS], max_seq_len=built.config.max_seq_len, end=True)
            found.append(built.encode_text(part["tokens"].to(device)).float())
    finally:
        model.train(training)
    if not found:
        raise ValueError("there is no text; give one or more")
    return torch.cat(found)


def embed_images(model: nn.Module, path: str | Path) -> tuple[list[str], Tensor]:
    """Where images lie in the space that they share with texts.

    Args:
        model: a CLIP.
        path: an image, a folder of images, or a .npy or .npz array.

    Returns:
        The name of each image, and (images, dim) float32, each of length 1.

    Raises:
        OSError: nothing lies there, or a file cannot be read.
        ValueError: the file holds something that this model does not take.
    """
    check_tells_by_texts(model)
    built: Any = model
    parts = list(_over_images(model, Path(path), built.encode_image))
    return [name for names, _ in parts for name in names], torch.cat([vectors for _, vectors in parts])


def classes_for(model_or_name: nn.Module | str, labels: Sequence[str] | None) -> list[str]:
    """The labels, or where none are given those that the model knows from its training.

    Args:
        model_or_name: a CLIP, or what `zoo.create` takes, whose weights are not fetched for this.
        labels: as for `zero_shot`, which checks them by this.

    Raises:
        TypeError: labels is a single text, or one of them is no text.
        ValueError: the model is no CLIP; or there are no labels, fewer than two, or twice the same.
    """
    check_tells_by_texts(model_or_name)
    if labels is not None:
        _check_texts("labels", labels)
    known = prompts_of(model_or_name)
    chosen = [label.strip() for label in (known if labels is None else labels)]
    if not chosen and known:
        raise ValueError(
            f"labels are empty; give two or more, or leave them away to take those of the training: {_few(list(known))}"
        )
    if not chosen:
        raise ValueError(
            f"{_called(model_or_name)} tells images apart by whatever words it is given, and knows none of its own; "
            'say which, by labels=["a flower", "a temple"] or on the command line --labels "a flower,a temple"'
        )
    twice = [label for label in chosen if chosen.count(label) > 1]
    if twice:
        raise ValueError(f"label {twice[0]!r} is given twice; each class needs a name of its own")
    if len(chosen) < 2 or not all(chosen):
        raise ValueError(f"labels {chosen}: two or more are needed to choose between, and none may be empty")
    return chosen


def tells_by_texts(model_or_name: nn.Module | str) -> bool:
    """Whether a model maps images and texts to one space, as a CLIP does."""
    if isinstance(model_or_name, str):
        record, own = ARCHITECTURES.find(provenance(model_or_name).architecture), config(model_or_name)
    else:
        record, own = architecture_of(model_or_name), getattr(model_or_name, "config", None)
    return record is not None and record.task == TASK and getattr(own, "vision", None) != "text"


def check_tells_by_texts(model_or_name: nn.Module | str) -> None:
    """Refuse models that do not compare images with texts.

    Raises:
        ValueError: this is one.
    """
    if not tells_by_texts(model_or_name):
        raise ValueError(
            f"{_called(model_or_name)} does not compare images with texts, so labels and templates mean nothing to it; "
            f"take a CLIP, such as those of `zoo list --task {TASK}`"
        )


def prompts_of(model_or_name: nn.Module | str) -> dict[str, tuple[str, ...]]:
    """The classes of the data that a model was trained on, and what each was called; nothing where they had none."""
    facts = provenance(model_or_name)
    if facts.preprocessing is None:
        return {}
    return dict(zip(facts.labels, preprocessing(model_or_name).prompts, strict=False))


def _check_texts(what: str, given: Sequence[str]) -> None:
    """Refuse a single text, whose letters would count as several, and what is no text."""
    if isinstance(given, str):
        raise TypeError(f"{what} {given!r} is one text, not several; put it into brackets")
    for each in given:
        if not isinstance(each, str):
            raise TypeError(f"{what} hold {each!r}, which is no text; put it into quotation marks")


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f", ... ({len(labels)})" if len(labels) > 5 else "")


def _called(model_or_name: nn.Module | str) -> str:
    return model_or_name if isinstance(model_or_name, str) else type(model_or_name).__name__


@torch.no_grad()
def _over_images(model: nn.Module, path: Path, function: Any) -> Iterator[tuple[list[str], Tensor]]:
    """The names of some images at a time, and what a function makes of them in eval mode."""
    built: Any = model
    wanted = wanted_of(model, "image", built.example_inputs(1)["image"])
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for names, inputs in read_inputs(path, wanted):
            yield names, function(inputs["image"].to(device)).float().cpu()
    finally:
        model.train(training)


def _filled(templates: Sequence[str], label: str) -> tuple[str, ...]:
    """The texts of a label."""
    for template in templates:
        if PLACE not in template:
            raise ValueError(f"template {template!r} has no {PLACE}, in whose place the label shall stand; put it in")
    if not templates:
        raise ValueError(f"there is no template; give one or more texts with {PLACE}, such as 'a photo of {PLACE}.'")
    return tuple(template.replace(PLACE, label) for template in templates)
