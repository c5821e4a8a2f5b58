"""What `make demo` shows: the zoo's parts, one after the other, on real data, in under three minutes.

It uses nothing that is not public, prints what it does, and writes one page with the plots in it.
"""

import shutil
import sysconfig
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.columns import Columns
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

import zoo
from zoo.cli import few_shot
from zoo.pipelines import sample
from zoo.pipelines.predict import wanted_by
from zoo.report import page, plots, results, sections
from zoo.report.drawn import drawings as drawings_of
from zoo.report.folder import Run, read_run
from zoo.report.page import Part, Section
from zoo.report.run import hero, write_page
from zoo.report.words import duration, measured
from zoo.training.data import Spec

EPOCHS = 15
"""The config's own 20 are a little surer, and take a third more time."""
SEEDS = range(5)
GPT_TEXT = "asyncio"
"""A package of Python's standard library; to measure a model on the whole library takes as long as to train it."""
GPT_CHANGES = ["data.seq_len=32", "trainer.steps=1000", "optimizer.lr=6e-3", "optimizer.groups=[]"]
"""Short pieces learn fastest in seconds, and AdamW alone: on one core, Muon costs more time than it saves steps."""
DRAWN = 100
"""Digits that are drawn, each as often."""
SHADES = " ░▒▓█"
"""From no ink to full ink."""


def demo(out: Path, configs: Path) -> Path:
    """Run the whole demonstration.

    Args:
        out: a folder for the page and the runs; those of an earlier demonstration are replaced.
        configs: this project's folder of configs.

    Returns:
        The page's path.
    """
    console, begun = Console(highlight=False), time.monotonic()
    torch.manual_seed(0)
    with stage(console, "What the zoo has"):
        presets = show_presets(console)
    recipe = configs / "resnet" / "resnet20-digits.yaml"
    with stage(console, "A ResNet-20 learns to read real digits"):
        digits = train_digits(console, out / "digits", recipe)
    with stage(console, "It is saved, loaded again, and asked"):
        save_load_predict(console, digits, out / "saved")
    with stage(console, "A bundled diffusion network draws digits, and the ResNet reads them"):
        drawings = draw_digits(console, digits)
    with stage(console, "It learns new digits from five images each"):
        accuracies = learn_new_digits(console, out / "old-digits", recipe)
    with stage(console, "A small GPT reads a package of Python's standard library"):
        gpt = train_gpt(console, out / "gpt", configs / "gpt2" / "gpt2-stdlib.yaml")
    with stage(console, "All of it on one page"):
        path = write(out, digits, drawings, accuracies, gpt, presets)
        console.print(f"{path}  [dim]({path.stat().st_size / 1024:.0f} kB, nothing beside it is needed)[/]")
        console.print(f"{out / 'report'}/*.png")
    console.print(f"\nDone in {duration(time.monotonic() - begun)}. Open [bold]{path.resolve().as_uri()}[/]")
    return path


@contextmanager
def stage(console: Console, title: str) -> Iterator[None]:
    """A headline before, and the time that it took after."""
    console.print()
    console.rule(f"[bold]{title}", align="left", style="dim")
    begun = time.monotonic()
    yield
    console.print(f"[dim]{duration(time.monotonic() - begun)}[/]")


def fresh(folder: Path) -> Path:
    """The folder, without the run of an earlier demonstration."""
    if (folder / "config.yaml").exists():
        shutil.rmtree(folder)
    return folder


def show_presets(console: Console) -> list[tuple[str, str, str]]:
    """Print every preset; returns (name, task, parameters) of each."""
    rows = [(found.name, found.task, f"{found.num_params:,}") for found in map(zoo.describe, zoo.list_models())]
    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    table.add_column("preset", style="bold")
    table.add_column("task")
    table.add_column("parameters", justify="right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    return rows


def train_digits(console: Console, folder: Path, config: Path) -> Run:
    """Train by the project's own config, for fewer epochs."""
    run = zoo.RunConfig.read(config, [f"trainer.epochs={EPOCHS}"])
    metrics = zoo.Trainer(run, out=fresh(folder)).fit().metrics
    console.print(f"[bold]{measured('accuracy', metrics['accuracy'])}[/] of the test images are read correctly.")
    return read_run(folder)


def save_load_predict(console: Console, run: Run, folder: Path) -> None:
    """Compare a model with what comes back from the disk, bit for bit, and let that read some digits.

    Raises:
        RuntimeError: they differ.
    """
    splits, model = run.splits, run.model
    if splits is None or splits.test is None or model is None:
        raise RuntimeError(f"{run.folder} has no model or no data; look into {run.folder / 'log.jsonl'}")
    zoo.save(model, folder)
    again = zoo.create(f"local-dir:{folder}").eval()
    images = splits.test.fetch(range(len(splits.test)), None)["image"]
    with torch.inference_mode():
        before, after = model(images), again(images)
    same = all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    if not (same and torch.equal(before, after)):
        raise RuntimeError(f"{folder} does not give back the model that was saved into it; please report this")
    console.print(
        f"All {len(model.state_dict())} tensors and the logits of {len(images)} images are equal, bit for bit.\n"
    )
    answers = results.answers(again, splits.test, 64)
    shown = results.images(images[: max(1, console.width // 20)], splits.spec)
    drawings = [
        drawing(image, f"{splits.spec.labels[guess]}, {sure:.0%} sure", right=bool(guess == truth))
        for image, truth, guess, sure in zip(shown, answers.truth, answers.predicted, answers.confidence, strict=False)
    ]
    console.print(Columns(drawings, padding=(0, 2)))


def draw_digits(console: Console, reader: Run) -> Part:
    """Let `unet.digits` draw each digit a few times, and the reader say what it sees.

    Raises:
        RuntimeError: the reader's run has no model or no data.
    """
    if reader.splits is None or reader.model is None:
        raise RuntimeError(f"{reader.folder} has no model or no data; look into {reader.folder / 'log.jsonl'}")
    painter, spec = zoo.create("unet.digits"), reader.splits.spec
    images, asked = sample(painter, DRAWN), torch.arange(DRAWN) % len(spec.labels)
    with torch.inference_mode():
        guesses = reader.model(wanted_by(reader.model).normalised(images)).argmax(1)
    shown = results.images(images[: max(1, console.width // 20)], Spec(keys=()))
    captions = [
        f"a {spec.labels[label]}, read as {spec.labels[guess]}" for label, guess in zip(asked, guesses, strict=True)
    ]
    right = (guesses == asked).tolist()
    console.print(Columns([drawing(*each) for each in zip(shown, captions, right, strict=False)], padding=(0, 2)))
    console.print(f"\n{sum(right)} of {DRAWN} are read as what was asked for.")
    found = drawings_of(painter)
    return found._replace(sections=(found.sections[0]._replace(title="A diffusion network draws digits"),))


def drawing(image: np.ndarray, caption: str, right: bool) -> Text:
    """A small grey image in characters, two for each pixel."""
    levels = (image * len(SHADES)).astype(int).clip(max=len(SHADES) - 1)
    lines = ["".join(SHADES[level] * 2 for level in row) for row in levels]
    verdict = Text(f"{caption} {'✓' if right else '✗'}", style="green" if right else "red")
    return Text("\n").join([*map(Text, lines), verdict])


def learn_new_digits(console: Console, folder: Path, config: Path) -> dict[str, list[float]]:
    """Test accuracy of each seed, for a model that knew other digits and for one that knew nothing."""
    metrics = zoo.Trainer(few_shot.old_digits(config), out=fresh(folder)).fit().metrics
    console.print(f"A ResNet-20 knows 0 to 4 ({measured('accuracy', metrics['accuracy'])}). Now it learns 5 to 9.")
    todo = [(arm, seed) for arm in few_shot.RATES for seed in SEEDS]
    accuracies: dict[str, list[float]] = {arm: [] for arm in few_shot.RATES}
    for arm, seed in track(todo, "learning", console=Console(stderr=True), transient=True):
        accuracies[arm].append(few_shot.new_digits(arm, folder / "model", seed, few_shot.RATES[arm]))
    table = Table(box=None, header_style="dim", padding=(0, 3, 0, 0))
    for name in comparison_header():
        table.add_column(name)
    for row in comparison_rows(accuracies):
        table.add_row(*row)
    console.print(table)
    console.print(verdict(accuracies))
    return accuracies


def comparison_header() -> list[str]:
    """What the columns of `comparison_rows` are."""
    return ["", *(f"draw {seed + 1}" for seed in SEEDS), "mean ± spread"]


def comparison_rows(accuracies: Mapping[str, Sequence[float]]) -> list[list[str]]:
    """One row per arm, in per cent; the spread is the standard deviation over the draws."""
    return [
        [
            arm,
            *(f"{100 * value:.1f}" for value in values),
            f"{100 * np.mean(values):.1f} ± {100 * np.std(values, ddof=1):.1f}",
        ]
        for arm, values in accuracies.items()
    ]


def verdict(accuracies: Mapping[str, Sequence[float]]) -> str:
    """What the comparison shows, whatever that is."""
    (first, tuned), (second, scratch) = accuracies.items()
    gains = 100 * (np.array(tuned) - np.array(scratch))
    wins = f"better in {(gains > 0).sum()} of {len(gains)} draws"
    return f"{first} minus {second}: {gains.mean():+.1f} points on average, {wins}."


def train_gpt(console: Console, folder: Path, config: Path) -> Run:
    """Train by the project's own config, but on less text and in shorter pieces, and let the model write."""
    text = Path(sysconfig.get_path("stdlib")) / GPT_TEXT
    zoo.Trainer(zoo.RunConfig.read(config, [f"data.path={text}", *GPT_CHANGES]), out=fresh(folder)).fit()
    run = read_run(folder)
    console.print(f"{measured('bits_per_byte', run.final[1]['bits_per_byte'])} bits per byte. It writes:\n")
    console.print(results.continuation(run.model, "    def ", 300), style="cyan", markup=False, soft_wrap=True)
    return run


def write(
    out: Path,
    digits: Run,
    drawings: Part,
    accuracies: Mapping[str, Sequence[float]],
    gpt: Run,
    presets: Sequence[Sequence[str]],
) -> Path:
    """The page of the ResNet's run, with the rest of the demonstration between its mistakes and its facts."""
    curves = sections.curves(digits)
    learning = curves._replace(sections=(curves.sections[0]._replace(title="A ResNet-20 learns to read digits"),))
    listed = page.folded(f"{len(presets)} presets", page.table(["preset", "task", "parameters"], presets))
    parts = [
        learning,
        sections.behaviour(digits),
        drawings,
        few_shot_part(accuracies),
        gpt_part(gpt),
        Part((Section("The zoo", listed),)),
        sections.facts(digits),
        sections.use(digits),
    ]
    return write_page(out, "A tour of the zoo", hero(digits), parts, eyebrow=f"zoo {zoo.__version__} · make demo")


def few_shot_part(accuracies: Mapping[str, Sequence[float]]) -> Part:
    """The comparison as points, one per draw of the images, and as a table."""
    groups = [(arm, [100 * value for value in values]) for arm, values in accuracies.items()]
    drawing = plots.draw("few-shot accuracy", plots.points, groups, "test accuracy in %", size=(11, 2))
    body = page.join([page.wide(page.figure(drawing)), page.table(comparison_header(), comparison_rows(accuracies))])
    lead = (
        f"A ResNet-20 trained on the digits 0 to 4 learns 5 to 9 from {few_shot.SHOTS} labelled images of each; "
        f"beside it, one from random weights. Both see the same images for {few_shot.STEPS} steps, each at the rate "
        "that suits it best on other images. A point is one draw of the images, a bar mean ± standard deviation. "
        f"{verdict(accuracies).capitalize()}"
    )
    return Part((Section("New digits from five images each", body, lead),), {"few-shot.png": drawing.png()})


def gpt_part(run: Run) -> Part:
    """The GPT's curves and what it writes, under one heading."""
    (curves,), (text,) = sections.curves(run).sections, sections.behaviour(run).sections
    bits = measured("bits_per_byte", run.final[1]["bits_per_byte"])
    seconds = duration(max(row["time"] for row in run.history.rows))
    lead = (
        f"{seconds} of reading {GPT_TEXT} in Python's standard library: {bits} bits per byte on its unseen last tenth."
    )
    body = page.join([curves.body, page.tag("p", text.lead, class_="lead"), text.body])
    return Part((Section("A small GPT learns to write Python", body, lead),))
