"""The parts of a run's page; each is a function of the run, and which ones a run gets depends on what was learnt."""

import json
import shlex
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import nn

from zoo.config import to_yaml
from zoo.report import described, page, plots, rebuilt, results
from zoo.report.folder import Run
from zoo.report.page import Html, Part, Section
from zoo.report.results import Answers
from zoo.report.words import duration, named
from zoo.tokenizer import BYTES
from zoo.training.data import Spec, Split

MAX_PICTURES, FEW_PICTURES = 24, 16
"""At most so many mistakes or samples are shown; with fewer than so many mistakes, other images beside them."""
PROMPT, WRITTEN = 48, 600
"""Bytes that a language model is given, and characters that it writes at the most."""


def curves(run: Run) -> Part:
    """Loss, headline metric and learning rate over the steps."""
    followed = {*run.history.metrics("train"), *run.history.metrics("val")}
    keys = [key for key in dict.fromkeys(("loss", run.headline, "lr")) if key in followed]
    if not keys:
        return Part((Section("Training", page.note("Nothing has been logged yet.")),))
    panels = [
        page.figure(plots.draw(f"{named(key)} of {run.title}", plots.curves, run.history, [key], size=(4, 3)))
        for key in keys
    ]
    together = plots.draw("curves", plots.curves, run.history, keys, size=(3.7 * len(keys), 2.9))
    smoothed = run.config.objective.get("label_smoothing")
    lead = "The training loss includes label smoothing, the others do not." if smoothed else ""
    return Part((Section("Training", page.in_columns(*panels), lead),), {"curves.png": together.png()})


def classifier(run: Run, model: nn.Module, test: Split, spec: Spec) -> Part:
    """Confusion matrix, accuracy of each class, and the images that are taken for something else."""
    answers = results.answers(model, test, run.config.data.get("batch_size", 64))
    counts = answers.confusion(max(spec.num_classes or 0, answers.truth.max() + 1, answers.predicted.max() + 1))
    labels = [*spec.labels, *map(str, range(len(spec.labels), len(counts)))]
    drawing = plots.draw("confusion matrix", plots.confusion, counts, labels, size=(5, 5))
    wrong, asked = len(answers.wrong()), len(answers.truth)
    lead = f"{wrong:,} of {asked:,} test samples {'is' if wrong == 1 else 'are'} wrong."
    if asked < len(test):
        lead += f" These are evenly spaced among all {len(test):,}."
    body = page.side_by_side(page.figure(drawing), _class_bars(counts, labels))
    pictures = _mistakes(answers, test, spec, labels) if "image" in spec.keys else Part(())
    files = {"confusion.png": drawing.png(), **pictures.files}
    return Part((Section("Where it is right and wrong", body, lead), *pictures.sections), files)


def _class_bars(counts: np.ndarray, labels: list[str]) -> Html:
    """The accuracy of each class; of many classes, the worst ones."""
    total, right = counts.sum(axis=1), counts.diagonal()
    present = [i for i in range(len(labels)) if total[i]]
    if len(present) > plots.MAX_CLASSES:
        present = sorted(present, key=lambda i: right[i] / total[i])[: plots.MAX_CLASSES]
    return page.bars([(labels[i], right[i] / total[i], f"{right[i]} of {total[i]}") for i in present])


def _mistakes(answers: Answers, test: Split, spec: Spec, labels: list[str]) -> Part:
    """Images taken for something else, the surest first; where they are few, followed by those it was least sure of."""
    wrong = answers.wrong()
    unsure = [i for i in answers.unsure() if i not in wrong][: max(0, FEW_PICTURES - len(wrong))]
    chosen = [*wrong[:MAX_PICTURES], *unsure]
    shown = results.images(test.fetch(answers.indices[chosen].tolist(), None)["image"], spec)
    captions, plain = [], []
    for i in chosen:
        truth, guess, sure = labels[answers.truth[i]], labels[answers.predicted[i]], f"{answers.confidence[i]:.0%} sure"
        taken = [" taken for ", page.tag("b", guess, class_="wrong")] if truth != guess else []
        captions.append(page.join([page.tag("b", truth), *taken, page.tag("span", sure)]))
        plain.append(f"{truth} → {guess}\n{sure}" if taken else f"{truth}\n{sure}")
    title = "Mistakes, the surest first" if len(wrong) else "No mistakes"
    lead = "Then the right answers it was least sure of." if unsure and len(wrong) else ""
    lead = lead or ("These right answers it was least sure of." if unsure else "")
    return Part(
        (Section(title, page.gallery(shown, captions), lead),), {"mistakes.png": _grid("mistakes", shown, plain)}
    )


def _grid(name: str, shown: list[np.ndarray], captions: list[str]) -> bytes:
    rows = -(-len(shown) // 8)
    return plots.draw(name, plots.pictures, shown, captions, size=(9, 1.4 * rows)).png()


def describer(run: Run, model: nn.Module, test: Split, spec: Spec) -> Part:
    """What a model of images and texts takes images for: a class that has texts, or some image's text."""
    named_classes = described.by_names(model, spec)
    if named_classes is not None:
        return classifier(run, named_classes, test, spec)
    return described.likeliest(model, test, spec)


def regressor(run: Run, model: nn.Module, test: Split, spec: Spec) -> Part:
    """Predicted against true values."""
    output, truth = results.outputs(model, test, results.some_of(test), run.config.data.get("batch_size", 64))
    predicted = output.float() * torch.tensor(spec.target_std) + torch.tensor(spec.target_mean)
    pair = truth.flatten().numpy(), predicted.flatten().numpy()
    drawing = plots.draw("predicted against true values", plots.scatter, *pair, size=(6, 4.5))
    return Part(
        (Section("Predictions", page.figure(drawing), "Test samples; on the line they are right."),),
        {"predictions.png": drawing.png()},
    )


def writer(run: Run, model: nn.Module, test: Split, spec: Spec) -> Part:  # noqa: ARG001 - all are called alike
    """How a language model of bytes continues a text that it has not seen."""
    if spec.vocab_size != BYTES:
        return Part(())
    prompt = bytes(test.fetch([0], None)["tokens"][0, :PROMPT].tolist()).decode(errors="replace")
    written = results.continuation(model, prompt, WRITTEN)
    text = page.tag("pre", page.tag("code", page.tag("span", prompt, class_="given"), written), class_="prose")
    lead = "The beginning, in grey, is from the test text; the model wrote the rest."
    return Part((Section("What it writes", text, lead),))


BY_OBJECTIVE: Mapping[str, Callable[[Run, nn.Module, Split, Spec], Part]] = {
    "classification": classifier,
    "node_classification": classifier,
    "graph_classification": classifier,
    "regression": regressor,
    "causal_lm": writer,
    "contrastive": describer,
    "reconstruction": rebuilt.autoencoder,
    "elbo": rebuilt.autoencoder,
    "masked_reconstruction": rebuilt.masked,
}
"""What is shown of a model that learnt this; the others have their curves and facts."""


def behaviour(run: Run) -> Part:
    """What the model does with data that it was not trained on."""
    shown = BY_OBJECTIVE.get(run.objective)
    if shown is None or run.model is None or run.splits is None:
        return Part(())
    part = run.splits.test or run.splits.val
    return Part(()) if part is None else shown(run, run.model, part, run.splits.spec)


def facts(run: Run) -> Part:
    """The figures of the run, and what is missing or damaged."""
    trainer, data, history = run.config.trainer, run.config.data, run.history
    speeds = history.column("train", "samples_per_second")[1]
    values = {
        "parameters": None if run.parameters is None else f"{run.parameters:,}",
        "steps": f"{run.steps:,}",
        "time": duration(run.seconds),
        "samples per second": f"{np.median(speeds):,.0f}" if speeds else None,
        "global batch": f"{data.get('batch_size', 0) * trainer.accumulate:,} per process",
        "training samples": f"{len(run.splits.train):,}" if run.splits else None,
        "optimizer": f"{run.config.optimizer.name}, lr {run.config.optimizer.lr:g}",
        "precision": trainer.precision,
        "seed": trainer.seed,
    }
    body = page.facts({name: value for name, value in values.items() if value is not None})
    return Part((Section("Facts", page.join([body, *map(page.note, run.remarks)])),))


def use(run: Run) -> Part:
    """How to load the model, and the whole config to repeat the run."""
    folder = shlex.quote(str(run.folder))
    name = f"local-dir:{run.folder / 'model'}"
    python = f"import zoo\n\nmodel = zoo.create({json.dumps(name)}).eval()"
    shell = "\n".join(
        [
            f"zoo evaluate {folder} --json",
            f"zoo finetune {folder} --data WHAT --out runs/mine",
            f"zoo train {shlex.quote(str(run.folder / 'config.yaml'))} --out runs/again",
        ]
    )
    blocks = [page.code(python), page.code(shell)] if run.model else [page.code(shell.splitlines()[-1])]
    config = page.folded("config.yaml, with nothing left open", page.code(to_yaml(run.config)))
    return Part((Section("Use it", page.join(blocks)), Section("Repeat it", config)))
