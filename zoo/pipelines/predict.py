"""From files to answers: which class, and how sure; or which quantity."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.pipelines.inputs import Wanted, read_inputs
from zoo.pipelines.predict_text import judges_texts, read_texts
from zoo.preprocess import preprocessing, transforms
from zoo.weights import provenance_of

TAKES = ("image", "features")
"""The arguments of forward that files can be read for."""


class Choice(NamedTuple):
    """One possible answer."""

    label: str
    confidence: float


class Prediction(NamedTuple):
    """The answer for one input."""

    input: str
    """The file, and the row where there are several; of a text, itself."""
    label: str
    """The likeliest class; of a quantity, the number in words."""
    confidence: float | None
    """Its probability according to the model; None for a quantity."""
    top: tuple[Choice, ...] = ()
    """The likeliest classes, best first."""
    value: float | None = None
    """The quantity, in the unit of the training data."""


def predict(model: nn.Module, path: str | Path, *, top: int = 5) -> Iterator[Prediction]:
    """Answer for everything at a path; inputs are prepared as in training, by what the model has stored.

    Args:
        model: a classifier, or a regression model, of images, of rows of numbers or of texts.
        path: an image, a folder of images, a .npy or .npz array, or a table (.csv, .tsv); for a model of texts a .csv,
            .tsv or .jsonl file with a column `text`, or only one, or a .txt file with a text in each line.
        top: how many classes to name.

    Raises:
        OSError: nothing lies there, or a file cannot be read.
        ValueError: this model answers no such question, or the file holds something that it does not take.
    """
    if top < 1:
        raise ValueError(f"top {top} is below 1")
    facts, file = provenance_of(model), Path(path)
    inputs = read_texts(model, file) if judges_texts(model) else read_inputs(file, wanted_by(model))
    device, training = next(model.parameters()).device, model.training
    model.eval()
    try:
        for names, batch in inputs:
            outputs = _answer(model, {key: value.to(device) for key, value in batch.items()})
            if outputs.shape[-1] == 1:
                yield from _quantities(names, outputs, facts.preprocessing or {})
            else:
                yield from _classes(names, outputs, facts.labels, top)
    finally:
        model.train(training)


def wanted_by(model: nn.Module) -> Wanted:
    """What a model takes, from its own example and from the preprocessing that is stored with its weights.

    Raises:
        ValueError: it takes something that no file is read for, or says nothing of its preprocessing.
    """
    built: Any = model
    example: Mapping[str, Tensor] = built.example_inputs(1)
    key = next(iter(example))
    if "edges" in example:
        raise ValueError(
            f"{type(model).__name__} reads graphs, which `predict` reads from no file; in Python, model(nodes, edges) "
            "answers for each node, and with graph=, where its config has a readout, for each graph"
        )
    if len(example) != 1 or key not in TAKES:
        raise ValueError(
            f"{type(model).__name__} takes {', '.join(example)}; `predict` reads files for models of "
            f"{' or '.join(TAKES)}, and texts for those with num_classes; writing is for `generate`, noise for `sample`"
        )
    if key == "features" and example[key].ndim > 2:
        raise ValueError(
            f"{type(model).__name__} reads series, and its weights do not say from how many rows, nor how far ahead "
            "they look; in Python, record = zoo.preprocess.preprocessing(model) has columns, mean and std, and with "
            "features = (rows - mean) / std what comes next is model(features[None])[0, -1] * std + mean"
        )
    record = preprocessing(model)
    if record.frames is not None:
        raise ValueError(f"{type(model).__name__} takes videos, which are not read from files; see zoo.transforms")
    shape = tuple(example[key].shape[1:])
    if record.image_size is None:
        return Wanted(key, shape, False, record, None)
    channels = shape[0] // record.image_size**2 if key == "features" else shape[0]
    size = (record.image_size, record.image_size)
    return Wanted(key, (channels, *size), key == "image", record, transforms(model))


@torch.no_grad()
def _answer(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Logits (batch, classes), or quantities (batch, 1)."""
    try:
        outputs = model(**batch)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        shapes = ", ".join(f"{key} {tuple(value.shape[1:])}" for key, value in batch.items())
        raise ValueError(f"{type(model).__name__} cannot take {shapes}: {error}") from error
    if not isinstance(outputs, Tensor) or outputs.ndim != 2:
        raise ValueError(
            f"{type(model).__name__} does not answer with one row of scores per input, as classifiers and regression "
            "models do; what an autoencoder makes of images is on its run's page (`zoo report RUN`), and `zoo sample` "
            "draws from a VAE"
        )
    return outputs.float().cpu()


def _classes(names: Sequence[str], logits: Tensor, labels: Sequence[str], top: int) -> Iterator[Prediction]:
    confidences, classes = logits.softmax(-1).topk(min(top, logits.shape[-1]))
    for name, row, indices in zip(names, confidences.tolist(), classes.tolist(), strict=True):
        named = [labels[index] if index < len(labels) else str(index) for index in indices]
        choices = tuple(itertools.starmap(Choice, zip(named, row, strict=True)))
        yield Prediction(name, choices[0].label, choices[0].confidence, choices)


def _quantities(names: Sequence[str], outputs: Tensor, stored: Mapping[str, Any]) -> Iterator[Prediction]:
    if not stored.get("target_mean") or not stored.get("target_std"):
        raise ValueError("this model does not say in which unit it answers: target_mean and target_std are not stored")
    for name, output in zip(names, outputs[:, 0].tolist(), strict=True):
        value = output * stored["target_std"][0] + stored["target_mean"][0]
        yield Prediction(name, f"{value:.4g}", None, value=value)
