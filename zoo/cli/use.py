"""`zoo predict`, `generate` and `export`: a model at work, here and elsewhere."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli.arguments import Json, Model, say_if_random, weights_name
from zoo.cli.errors import existing
from zoo.cli.output import print_json, print_table

SHOWN = 60
"""Letters of a text that are shown beside its label."""


def predict(
    model: Model,
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="An image, a folder of images, a .npy or .npz array, or a .csv table; texts: the column `text`, or "
            "the only one, of a .csv or .jsonl file, or the lines of a .txt file, each a text.",
        ),
    ],
    top: Annotated[int, typer.Option(help="How many classes to name.")] = 3,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="LABELS",
            help="Of a CLIP, the classes to choose between: words with commas between them, or a file with one in each "
            "line; by default those of its training, if it had some.",
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="Of a CLIP, a text for each label, with {} in its place; can be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what is on images, in rows of numbers or in texts.

    Arrays of images hold floats in [0, 1], or uint8; a table holds the columns that the model was trained on.
    A text longer than those of the training is cut short as they were.
    A CLIP is given the classes by --labels.
    Example: zoo predict runs/digits photo.png
    """
    import zoo
    from zoo.pipelines import predict as answers
    from zoo.pipelines import zero_shot
    from zoo.pipelines.predict_text import judges_texts
    from zoo.pipelines.zero_shot import classes_for, tells_by_texts

    name, texts = weights_name(model), False
    if labels is not None or template or tells_by_texts(name):
        classes = classes_for(name, None if labels is None else _labels(labels))  # before weights are fetched
        found = list(zero_shot(zoo.create(name), classes, template or None).predict(source, top=top))
    else:
        built = zoo.create(name)
        found, texts = list(answers(built, source, top=top)), judges_texts(built)
    if as_json:
        return print_json([answer._asdict() | {"top": [choice._asdict() for choice in answer.top]} for answer in found])
    rows = []
    for answer in found:
        others = ", ".join(f"{label} {confidence:.1%}" for label, confidence in answer.top[1:])
        rows.append(
            (
                _on_one_line(answer.input) if texts else answer.input,
                answer.label,
                f"{answer.confidence:.1%}" if answer.confidence else "",
                others,
            )
        )
    if found[0].confidence is None:
        return print_table(["INPUT", "VALUE>"], [row[:2] for row in rows])
    print_table(["INPUT", "LABEL", "CONFIDENCE>", "NEXT"], rows)


def _labels(given: str) -> list[str]:
    """The lines of a file, if there is one of this name, else words with commas between them.

    Raises:
        FileNotFoundError: it is called like a file, but there is none.
    """
    from zoo.training.data.labelled_text import read_lines

    if os.path.isfile(given) or Path(given).suffix == ".txt":
        return [line.strip() for line in read_lines(existing(Path(given), "file of labels")) if line.strip()]
    return [label.strip() for label in given.split(",") if label.strip()]


def generate(
    model: Model,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to continue, to translate and the like.")],
    max_new_tokens: Annotated[
        int | None, typer.Option(help="How much to write; by default 256, or what fits in the context.")
    ] = None,
    beams: Annotated[
        int, typer.Option(min=1, help="Of an encoder-decoder: how many texts to keep in the search for the likeliest.")
    ] = 1,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="0 takes the likeliest every time, 1 draws as the model says; by default 0.8, and 0 of an "
            "encoder-decoder."
        ),
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest only.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the fewest that together have this probability.")
    ] = None,
    min_p: Annotated[
        float | None, typer.Option(help="Draw only from those at least this many times as likely as the likeliest.")
    ] = None,
    repetition_penalty: Annotated[
        float, typer.Option(help="Above 1, what the text already has becomes less likely.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same text.")] = 0,
    as_json: Json = False,
) -> None:
    """Continue a text with a language model.

    An encoder-decoder writes what belongs to the text instead, such as its translation.

    Example: zoo generate runs/gpt "def main(" --temperature 0.5
    """
    import zoo
    from zoo.nn.sampling import Sampling
    from zoo.pipelines import complete
    from zoo.pipelines.text import check_writes, reads_source, usual

    name = weights_name(model)
    config = zoo.config(name)
    check_writes(zoo.create(config, device="meta"))  # before weights are fetched
    sampling = Sampling(
        temperature=usual(config).temperature if temperature is None else temperature,
        top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty,
    )  # fmt: skip
    built = zoo.create(name)
    pieces = complete(built, prompt, max_new_tokens, sampling=sampling, num_beams=beams, seed=seed)
    before = "" if reads_source(config) else prompt
    if as_json:
        completion = "".join(pieces)
        print_json({"prompt": prompt, "completion": completion, "text": before + completion})
    else:
        typer.echo(before, nl=False)
        for piece in pieces:
            typer.echo(_printable(piece) if sys.stdout.isatty() else piece, nl=False)
            sys.stdout.flush()
        typer.echo()
    say_if_random(model, built)


def _on_one_line(text: str) -> str:
    """A text as a cell of a table; on a terminal its beginning is enough."""
    line = _printable(" ".join(text.split()))
    return f"{line[: SHOWN - 3]}..." if sys.stdout.isatty() and len(line) > SHOWN else line


def _printable(text: str) -> str:
    """Without the control characters by which a text could drive the terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in text)


class Format(StrEnum):
    """What an exported file is for."""

    ONNX = "onnx"
    TORCH = "torch"


def export(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file: .onnx, or .pt2 for torch.")],
    format: Annotated[
        Format, typer.Option(help="onnx runs without PyTorch; torch is a program of torch.export.")
    ] = Format.ONNX,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Height and width of images; by default those that the weights expect.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a model as one file that runs without zoo.

    It takes batches, or graphs, of any size; its answers are compared with the model's own before the file appears.
    Example: zoo export runs/digits --out digits.onnx
    """
    import zoo
    from zoo.pipelines.export import axes_of, inputs_of
    from zoo.pipelines.export import export as write

    built = zoo.create(weights_name(model))
    path = write(built, out, format.value, image_size=image_size)
    example = inputs_of(built, 1, image_size)
    axes = axes_of(built, example)
    inputs = {name: [axes[name].get(i, side) for i, side in enumerate(x.shape)] for name, x in example.items()}
    facts = {"out": str(path), "format": format.value, "bytes": path.stat().st_size, "inputs": inputs}
    if as_json:
        print_json(facts)
    else:
        shapes = ", ".join(f"{name} ({', '.join(map(str, shape))})" for name, shape in inputs.items())
        print_table(["", ""], [("file", path), ("bytes", f"{facts['bytes']:,}"), ("inputs", shapes)])
    say_if_random(model, built)
