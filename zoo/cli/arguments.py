"""Arguments that several commands share, and what they stand for."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoo.cli.output import note
from zoo.storage import is_run

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
    from zoo.weights import model_folder

    return f"local-dir:{model}" if is_run(folder) or model_folder(folder) else model


def weights_name(model: str) -> str:
    """The same for a command that uses weights: a bare preset stands for its default tag, if it has one."""
    from zoo.registry import resolve
    from zoo.weights.cards import cards

    name = create_name(model)
    if ":" in name or (found := resolve(name)).tag is not None:
        return name
    default = next((card.tag for card in cards(found.architecture, found.preset) if card.default), None)
    return name if default is None else f"{found.preset}.{default}"


def say_if_random(model: str, built: "nn.Module") -> None:
    """Warn of an answer that means nothing; after it, because an error before it shall be a single line."""
    if not hasattr(built, "load_report"):
        note(f"warning: {model} names no weights, so these were random; give preset.tag, or a run's folder")
