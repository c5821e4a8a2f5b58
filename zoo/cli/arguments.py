"""Arguments that several commands share, and what they stand for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.output import note

if TYPE_CHECKING:
    from torch import nn

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A preset, preset.tag, local-dir:FOLDER, hf-hub:OWNER/NAME, or a run's folder."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]
Data = Annotated[
    str | None,
    typer.Option("--data", metavar="WHAT", help="A registered data set, a path, or torchvision:NAME."),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Settings, such as optimizer.lr=3e-4.")
]


def create_name(model: str) -> str:
    """What `zoo.create` takes for a MODEL: a run's folder, or a saved model's, becomes `local-dir:`.

    Raises:
        FileNotFoundError: the folder is a run that has not ended yet.
    """
    folder = Path(model)
    if is_run(folder) and not (folder / "model").is_dir():
        raise FileNotFoundError(f"{model}: this run has no model yet, for it has not ended; go on with --resume")
    return f"local-dir:{model}" if is_run(folder) or (folder / "config.json").is_file() else model


def is_run(folder: Path) -> bool:
    """Whether `zoo train` wrote this folder."""
    return (folder / "config.yaml").is_file()


def has_default_weights(name: str) -> bool:
    """Whether this is a bare preset for which pretrained weights are known."""
    import zoo

    if ":" in name:
        return False
    known = zoo.describe(name)
    return known.tag is None and any(card.default for card in known.weights)


def open_model(model: str) -> "nn.Module":
    """The model that a command uses: with its weights, or, where none are known, with random ones."""
    import zoo

    name = create_name(model)
    return zoo.create(name, pretrained=has_default_weights(name) or None)


def say_if_random(model: str, built: "nn.Module") -> None:
    """Warn of an answer that means nothing; after it, because an error before it shall be a single line."""
    if not hasattr(built, "load_report"):
        note(f"warning: {model} names no weights, so these were random; give preset.tag, or a run's folder")
