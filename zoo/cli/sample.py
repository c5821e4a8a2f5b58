"""`zoo sample`: a model that makes images, at work."""

import io
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.arguments import Json, Model, say_if_random, weights_name
from zoo.cli.output import print_json, print_table
from zoo.storage import check_place

if TYPE_CHECKING:
    from torch import Tensor

FRAMES = 24
"""Of a GIF, at the most."""
WIDEST = 16
"""Classes at the most that each get a column of the picture."""


class Sampler(StrEnum):
    """The way from noise to images; names in `zoo.diffusion.SAMPLERS`."""

    DDPM = "ddpm"
    DDIM = "ddim"
    HEUN = "heun"
    DPM_SOLVER = "dpm_solver"


def sample(
    model: Model,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The picture: a .png file.")],
    count: Annotated[int, typer.Option(help="How many images.")] = 64,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="The same seed draws the same images.")] = 0,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CLASS",
            help="What to draw: the name or the number of a class. Give it again for another; by default all classes "
            "take turns.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Of a diffusion network: in how many steps noise is removed. By default 25; 50 for ddim, 250 for ddpm."
        ),
    ] = None,
    sampler: Annotated[
        Sampler | None, typer.Option(help="Of a diffusion network: how noise is removed; by default dpm_solver.")
    ] = None,
    guidance: Annotated[
        float | None,
        typer.Option(help="Of a diffusion network with classes: above 1, more like the class and less like others."),
    ] = None,
    vae: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Of a diffusion network that draws latents: the autoencoder that makes images of them. By default "
            "that of a pipeline's folder.",
        ),
    ] = None,
    gif: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Of a diffusion network: its way from noise, as a .gif file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw images from a GAN, a VAE or a diffusion network, and put them into one picture.

    Example: zoo sample runs/unet --out digits.png --gif digits.gif --label 3 --label 7
    """
    import zoo
    from zoo.pipelines import sample as draw
    from zoo.pipelines.picture import animation, picture
    from zoo.pipelines.sample import classes_of, draws_latents, kind_of, names_of
    from zoo.storage import replace_file

    _check_files(out, gif)
    name = weights_name(model)
    kind = kind_of(zoo.create(zoo.config(name), device="meta"))  # before weights are fetched
    if gif is not None and kind != "diffusion":
        raise ValueError(
            f"--gif {gif}: {model} makes images of noise at once, so there is no way to show; leave it out"
        )
    built = zoo.create(name)
    first = vae or _beside(name) if draws_latents(built) else vae
    classes = classes_of(built, count, label)
    columns = _columns(count, len(set(classes or ())))
    frames: list[Any] = []

    def keep(images: "Tensor") -> None:
        frames.append(picture(images, columns))

    with _Bar(quiet=as_json, keep=keep if gif else None) as bar:
        images = draw(
            built, count, seed=seed, label=label, steps=steps, sampler=sampler, guidance=guidance,
            vae=zoo.create(weights_name(first)) if first else None, watch=bar.watch,
        )  # fmt: skip
    buffer = io.BytesIO()
    picture(images, columns).save(buffer, format="PNG")
    replace_file(out, buffer.getvalue())
    if gif is not None:
        replace_file(gif, animation(frames))
    facts: dict[str, Any] = {"out": str(out), "count": count, "seed": seed, "image": list(images.shape[1:])}
    facts |= {} if gif is None else {"gif": str(gif), "frames": len(frames)}
    facts |= {} if classes is None else {"classes": [names_of(built)[each] for each in dict.fromkeys(classes)]}
    if as_json:
        print_json(facts)
    else:
        rows = [("images", f"{count} of {' x '.join(map(str, images.shape[1:]))}"), ("picture", out)]
        print_table(["", ""], [*rows, *([("gif", gif)] if gif else [])])
    say_if_random(model, built)


def _columns(count: int, classes: int) -> int | None:
    """Of the picture, so that each class has columns of its own; None where it has no or too many classes."""
    if not 1 < classes <= min(WIDEST, count):
        return None
    return classes * max(1, round(count**0.5 / classes))


def _check_files(out: Path, gif: Path | None) -> None:
    """Before minutes of drawing, for a picture that has no place."""
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out {out}: pictures are written as PNG; give a name that ends in .png")
    if gif is not None and gif.suffix.lower() != ".gif":
        raise ValueError(f"--gif {gif}: what moves is written as GIF; give a name that ends in .gif")
    for path in (out, *([gif] if gif else [])):
        check_place(path)


def _beside(name: str) -> str | None:
    """The first stage of the pipeline in whose folder a network lies, where it has one."""
    from zoo.factory import LOCAL

    folder = Path(name.removeprefix(LOCAL))
    places = [place / "vae" for place in (folder, folder.parent) if (place / "model_index.json").is_file()]
    found = next((place for place in places if (place / "config.json").is_file()), None)
    return f"{LOCAL}{found}" if found and name.startswith(LOCAL) else None


class _Bar:
    """Progress on standard error where that is a terminal, and the frames of a GIF."""

    def __init__(self, quiet: bool, keep: Callable[["Tensor"], None] | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console, self.keep = Console(stderr=True), keep
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self.task = self.progress.add_task("drawing", total=None)

    def __enter__(self) -> "_Bar":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def watch(self, done: int, total: int, images: Callable[[], "Tensor"]) -> None:
        """See `zoo.pipelines.sample.Watch`."""
        self.progress.update(self.task, completed=done, total=total)
        shown = min(total, FRAMES - 1)
        if self.keep is not None and done in {round(total * frame / shown) for frame in range(shown + 1)}:
            self.keep(images())
