"""`zoo create-config`, `train`, `finetune` and `evaluate`: everything that reads data and a config."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.arguments import (
    Data,
    Json,
    Model,
    Overrides,
    create_name,
    say_if_random,
    weights_name,
)
from zoo.cli.output import heading, note, print_json, print_table
from zoo.storage import is_run

if TYPE_CHECKING:
    from zoo.training.run import RunConfig
    from zoo.training.trainer import Trainer

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="The run's folder.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint, if there is one.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")]

FINETUNE = {
    "data": {"batch_size": 32},
    "optimizer": {"name": "adamw", "lr": 1e-3, "weight_decay": 0.01},
    "schedule": {"name": "cosine", "warmup": 0.1},
    "trainer": {"steps": 300, "clip_norm": 1.0},
}
"""What `zoo finetune` does where neither a config nor an override says otherwise."""


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="What to train, on what, and how.")],
    out: Out,
    overrides: Overrides = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train a model as a config says.

    It is evaluated at the end and saved as DIR/model, with a page about the run in DIR/report.html.

    Example: zoo train configs/mlp/mlp-digits.yaml --out runs/mlp
    """
    from zoo.training.run import RunConfig
    from zoo.training.trainer import Trainer

    _run(Trainer(RunConfig.read(config, overrides or []), out=out, quiet=quiet), out, resume)


def finetune(
    model: Model,
    data: Annotated[str, typer.Option("--data", metavar="WHAT", help="A data set, a path, or torchvision:NAME.")],
    out: Out,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="CONFIG.yaml KEY=VALUE", help="Settings, as for zoo train.")
    ] = None,
    resume: Resume = False,
    quiet: Quiet = False,
) -> None:
    """Train a pretrained model further on other data.

    Where the classes are others, the head is new. Text is read by the tokenizer that came with the weights. Without a
    config: AdamW with a learning rate of 1e-3, 300 steps of 32 samples, as DIR/config.yaml then says.
    trainer.freeze=backbone trains the head alone, and optimizer.layer_decay=0.7 moves early layers less, which suits
    large models.

    Example: zoo finetune runs/digits --data photos/ --out runs/photos
    """
    from zoo.training.run import RunConfig
    from zoo.training.trainer import Trainer

    values = _finetuning_values(model, data, words or [])
    trainer = Trainer(RunConfig.of(values, "finetune"), out=out, quiet=quiet)
    if not quiet and _speaks():
        note(str(trainer.model.load_report))
    _run(trainer, out, resume)


class Part(StrEnum):
    """The parts of a data set."""

    TEST = "test"
    VAL = "val"
    TRAIN = "train"


def evaluate(
    model: Model,
    overrides: Overrides = None,
    data: Data = None,
    split: Annotated[Part, typer.Option(help="Which part of the data.")] = Part.TEST,
    as_json: Json = False,
) -> None:
    """Measure a model on data; a run's folder knows its own.

    Example: zoo evaluate runs/digits --json
    """
    import zoo
    from zoo.training.trainer import Trainer
    from zoo.weights import provenance_of

    config = _evaluation_config(model, data, overrides or [])
    built = zoo.create(weights_name(model))
    labels = provenance_of(built).labels
    trainer = Trainer(config, model=built)
    if not trainer.splits.spec.prompts:  # else classes are what texts say, and may be any
        _check_labels(labels, trainer.splits.spec.labels)
    metrics = trainer.evaluate(split.value)
    samples = len(getattr(trainer.splits, split.value))
    facts = {"model": model, "data": trainer.config.data["name"], "split": split.value, "samples": samples}
    if as_json:
        print_json({**facts, **metrics})
    else:
        heading(f"{model} on {samples:,} samples of {facts['data']} ({split.value})")
        print_table(["METRIC", "VALUE>"], [(name, f"{value:.4f}") for name, value in metrics.items()], indent=2)
    say_if_random(model, built)


def _evaluation_config(model: str, data: str | None, overrides: list[str]) -> "RunConfig":
    """The run's own config, or one made for the data; a length is asked for by all, and used by none here."""
    from zoo.config import merge, parse_overrides
    from zoo.training.data.locate import locate
    from zoo.training.run import RunConfig

    folder = Path(model)
    values: dict[str, Any] = {"trainer": {"steps": 1}}
    if is_run(folder):
        values = dict(_sections(folder / "config.yaml"))
    elif data is None:
        raise ValueError(f"{model} is no run, so it does not say on which data; add --data WHAT")
    if data is not None:
        values = {**values, "data": locate(data), "objective": {}}
    changes = parse_overrides(overrides)
    if "model" in changes:
        word = next(word for word in overrides if word.startswith("model"))
        raise ValueError(f"{word}: a model is measured as it is; settings may begin with data. or objective.")
    values = merge({**values, "model": {"name": weights_name(model)}}, changes)
    return RunConfig.of(_normalised_alike(values) if data is not None else values, model)


def _finetuning_values(model: str, data: str, words: list[str]) -> dict[str, Any]:
    """The config of a fine-tuning run: MODEL and --data replace what a config file says of other models and data."""
    from zoo.config import merge, parse_overrides
    from zoo.training.data.locate import locate

    path, overrides = _split_words(words)
    base = FINETUNE if path is None else _sections(path)
    found = {"model": {"name": _with_weights(model)}, "data": locate(data)}
    kept = {section: _named(base.get(section, {})) for section in found}
    if kept["data"].get("name", found["data"]["name"]) != found["data"]["name"]:
        kept["data"] = {key: value for key, value in kept["data"].items() if key in ("batch_size", "workers")}
    if "name" in kept["model"]:
        kept["model"] = {}
    return _normalised_alike(merge(merge({**base, **kept}, found), parse_overrides(overrides)))


def _sections(path: Path) -> Mapping[str, Any]:
    from zoo.config import ConfigError, read_yaml

    values = read_yaml(path)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{path}: expected sections such as optimizer and trainer, got {values!r}")
    return values


def _named(section: Any) -> dict[str, Any]:
    """`data: digits` means `data: {name: digits}`."""
    return dict(section) if isinstance(section, Mapping) else {"name": section}


def _with_weights(model: str) -> str:
    """A name that stands for weights, not only for a shape."""
    from zoo.registry import resolve
    from zoo.weights.cards import cards

    name = weights_name(model)
    if ":" not in name and (found := resolve(name)).tag is None:
        tags = [f"{found.preset}.{card.tag}" for card in cards(found.architecture, found.preset)]
        there = f"; there are {', '.join(tags)}" if tags else ""
        raise ValueError(f"{name} has no weights to start from{there}; give a run's folder, or use zoo train")
    return name


def _normalised_alike(values: dict[str, Any]) -> dict[str, Any]:
    """The config with its data normalised as the model's weights expect it, unless the user says how."""
    from zoo.factory import provenance
    from zoo.training.assemble import load_data
    from zoo.training.data import DATA_SETS

    section = _named(values["data"])
    stored = provenance(values["model"]["name"]).preprocessing or {}
    statistics = {key: stored[key] for key in ("mean", "std") if stored.get(key)}
    options = {field.name for field in dataclasses.fields(DATA_SETS.find(section["name"]).config)}
    if "image_size" in options and "in_channels" in options and statistics:  # photos, which can take any form
        form = {"image_size": stored.get("image_size"), "in_channels": len(statistics["mean"])}
        section = {**{key: value for key, value in form.items() if value is not None}, **section}
        values = {**values, "data": section}
    if not statistics or not set(statistics) <= options or {"mean", "std", "normalize"} & set(section):
        return values
    if len(load_data(section).spec.mean) != len(statistics["mean"]):  # other channels, so the stem changes too
        return values
    return {**values, "data": {**section, **statistics}}


def _check_labels(known: Sequence[str], given: Sequence[str]) -> None:
    """Refuse data whose classes are not the model's; their numbers alone would compare different things."""
    if known and given and tuple(known[: len(given)]) != tuple(given):
        raise ValueError(
            f"the model knows the classes {_few(known)}, but the data have {_few(given)}; "
            "choose other data, or the same classes in the same order"
        )


def _few(labels: Sequence[str]) -> str:
    return ", ".join(labels[:5]) + (f", ... ({len(labels)})" if len(labels) > 5 else "")


def _run(trainer: "Trainer", out: Path, resume: bool) -> None:
    """Train, then say where everything is."""
    result = trainer.fit(resume)
    if not _speaks():
        return
    page = _write_report(out)
    metrics = (
        ", ".join(f"{name} {value:.4g}" for name, value in result.metrics.items()) or "none, there is no test part"
    )
    print_table(["", ""], [("metrics", metrics), ("model", out / "model"), *([("report", page)] if page else [])])


def _speaks() -> bool:
    """Whether this process is the first of those that torchrun started, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def _write_report(out: Path) -> Path | None:
    """The page of a run, which may fail without harm: the run is over and saved."""
    try:
        from zoo.report import run_page

        return run_page(out)
    except ImportError as error:
        note(f"no report: {error}; install the extra `zoo[train]` and run `zoo report {out}`")
    except Exception as error:
        note(f"no report: {type(error).__name__}: {error}; the run is complete, `zoo report {out}` tries again")
    return None


def _split_words(words: list[str]) -> tuple[Path | None, list[str]]:
    """At most one config file among KEY=VALUE words."""
    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise ValueError(f"{files[1]!r} is neither KEY=VALUE nor the config, which is {files[0]!r} already")
    return (Path(files[0]) if files else None), [word for word in words if "=" in word]


def create_config(
    model: Model,
    data: Annotated[str, typer.Option("--data", metavar="WHAT", help="A data set, a path, or torchvision:NAME.")],
    overrides: Overrides = None,
) -> None:
    """Print a commented config to start from.

    Example: zoo create-config resnet20 --data digits > resnet20-digits.yaml
    """
    import zoo
    from zoo.cli.template import objective_for, starting_data, template
    from zoo.config import parse_overrides
    from zoo.training.assemble import has_weights
    from zoo.training.data.locate import locate

    name, changes = create_name(model), parse_overrides(overrides or [])
    task, config = zoo.describe(name).task, zoo.config(name)
    changes["data"] = {**starting_data(locate(data), task, config, has_weights(name, {})), **changes.get("data", {})}
    goal = objective_for(name, task, changes)
    typer.echo(template(name, config, goal, changes, data), nl=False)
