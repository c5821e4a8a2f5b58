"""From a RunConfig to the parts of a run that fit together, and to the config with nothing left open."""

import inspect
import math
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from zoo import factory
from zoo.config import ConfigError, build, flatten, to_dict
from zoo.registry import ARCHITECTURES, Architecture, architecture_of, resolve
from zoo.tokenizer import tokenizer, tokenizer_files, tokenizer_of
from zoo.training.data import DATA_SETS, Spec, Splits
from zoo.training.objectives import OBJECTIVES, Objective, suited
from zoo.training.random import seed_torch
from zoo.training.run import RunConfig, TrainerConfig
from zoo.weights import TOKENIZER, provenance_of, remember
from zoo.weights.cards import find_card
from zoo.weights.fit import is_told

HARMLESS = {
    "data.workers", "trainer.checkpoint_every", "trainer.keep", "trainer.log_every", "trainer.device",
    "trainer.eval_every", "trainer.eval_batch_size",
}  # fmt: skip
"""What may change when a run is resumed, for it does not change the weights (`eval_every`: see `check_same_run`)."""


FROM_OPTIONS = {"image_size": "image_size", "in_channels": "in_channels", "max_seq_len": "seq_len"}
"""Fields of a model that follow from an option of the data, where these have it."""
CHANNELS = (1, 3)
"""What photos can be read with."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How batches are made; part of every data section."""

    batch_size: int = 64
    """Samples in one forward pass of one rank."""
    workers: int = 0
    """Processes that prepare batches ahead; 0 prepares them in the training process."""

    def __post_init__(self) -> None:
        """Refuse an empty batch."""
        if self.batch_size < 1 or self.workers < 0:
            raise ValueError(f"batch_size {self.batch_size} must be >= 1 and workers {self.workers} >= 0")


class Parts(NamedTuple):
    """What a trainer needs."""

    config: RunConfig
    model: nn.Module
    splits: Splits
    objective: Objective
    arguments: tuple[str, ...]
    """The arguments of the model's forward."""


def assemble(config: RunConfig, model: nn.Module | None, data: Splits | None, objective: Objective | None) -> Parts:
    """Build what was not given, and check that all parts fit.

    Raises:
        ConfigError: a section is missing or does not fit; the message names the parts.
    """
    section, splits = _data(_read_alike(config.data, config.model) if data is None else config.data, data)
    named, model = _model(config, model, splits.spec)
    goal, objective = _objective(config.objective, objective, model, splits.spec)
    _check_sizes(model, splits.spec, section)
    resolved = replace(
        config, data=section, model=named, objective=goal, trainer=_lengths(config.trainer, section, len(splits.train))
    )
    return Parts(resolved, model, splits, objective, tuple(inspect.signature(model.forward).parameters))


def note_data(model: nn.Module, spec: Spec, learnt: Mapping[str, Any]) -> bool:
    """Let a model say what it was trained on, so that its folder does; False for a class that nobody registered.

    Args:
        model: the model.
        spec: of the data.
        learnt: what the objective adds.
    """
    if architecture_of(model) is None:
        return False
    judged = spec.vocab_size is not None and spec.num_classes is not None  # texts, not what is written of them
    facts: dict[str, Any] = {"max_seq_len": spec.max_seq_len} if judged else {}
    if spec.mean:
        facts |= {"mean": spec.mean, "std": spec.std, "image_size": spec.image_size}
    facts |= {
        name: getattr(spec, name)
        for name in ("columns", "value_range", "frames", "target_mean", "target_std")
        if getattr(spec, name)
    }
    if spec.prompts:
        facts["prompts"] = _texts(spec)
    facts |= learnt
    reader: dict[str, Any] = {"tokenizer": TOKENIZER, "files": spec.tokenizer} if spec.tokenizer else {}
    remember(model, labels=spec.labels, preprocessing=facts if spec.mean or judged else None, **reader)
    return True


def _texts(spec: Spec) -> tuple[tuple[str, ...], ...]:
    """The prompts of each class as texts, for people and other tokenizers to read."""
    reader = tokenizer_of(spec.tokenizer)

    def text(tokens: Sequence[int]) -> str:
        ended = spec.end_token is not None and spec.end_token in tokens
        return reader.decode(tokens[: tokens.index(spec.end_token)] if ended else tokens)

    return tuple(tuple(text(tokens) for tokens in each) for each in spec.prompts)


def load_data(section: Mapping[str, Any]) -> Splits:
    """Read the data that a config's data section names."""
    return _data(section, None)[1]


def _data(section: Mapping[str, Any], data: Splits | None) -> tuple[dict[str, Any], Splits]:
    loading_names = {field.name for field in fields(Loading)}
    loading = build(Loading, {k: v for k, v in section.items() if k in loading_names}, "data")
    options = {k: v for k, v in section.items() if k not in loading_names and k != "name"}
    if data is not None:
        return {**section, **to_dict(loading)}, data
    record = DATA_SETS.find(_name(section, "data"))
    built = build(record.config, options, "data")
    splits = record.load(built)
    if len(splits.train) == 0:
        raise ConfigError(f"data {record.name}: the training part is empty; choose other options")
    return {"name": record.name, **to_dict(loading), **to_dict(built)}, splits


def _read_alike(data: Mapping[str, Any], model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The data section, with the tokenizer that came with the weights to start from where text has none of its own.

    Raises:
        ConfigError: they read text, but neither came with a tokenizer nor read bytes.
    """
    options = {field.name for field in fields(DATA_SETS.find(_name(data, "data")).config)}
    if "tokenizer" not in options or data.get("tokenizer") is not None:
        return data
    source = _weights(model)
    if source is None or not hasattr(factory.config(source), "vocab_size"):
        return data
    try:
        reader = tokenizer(source)
    except ValueError as error:
        if "vocab_size" in model:  # weights without a config, which may have read bytes
            return data
        raise ConfigError(f"{error}; or name a tokenizer by data.tokenizer") from None
    return {**data, "tokenizer": source} if tokenizer_files(reader) else data


def _weights(model: Mapping[str, Any]) -> str | None:
    """The name of the weights to start from, if a model section names some."""
    name, place = model.get("name"), str(model.get("weights") or "").removeprefix(factory.LOCAL)
    if not isinstance(name, str) or not has_weights(name, model):
        return None
    if place and Path(place).is_dir():
        return f"{factory.LOCAL}{place}"
    if model.get("pretrained") and ":" not in name and (found := resolve(name)).tag is None:
        return f"{found.preset}.{find_card(found.architecture, found.preset, None).tag}"
    return name


def _name(section: Mapping[str, Any], kind: str) -> str:
    name = section.get("name")
    if not isinstance(name, str):
        found = "is missing" if name is None else f"must be text, got {name!r}"
        raise ConfigError(f"{kind}.name {found}; say which {kind} to use, such as {kind}.name=...")
    return name


def _model(config: RunConfig, model: nn.Module | None, spec: Spec) -> tuple[dict[str, Any], nn.Module]:
    """The model, and its section with every field of its config."""
    section = dict(config.model)
    if model is not None:
        _check_kind(architecture_of(model), config.data, spec)
    else:
        name = _name(section, "model")
        record = ARCHITECTURES.find(factory.provenance(name).architecture)
        _check_kind(record, config.data, spec)
        options = {key: value for key, value in section.items() if key != "name"}
        known = {field.name for field in fields(factory.config(name))}
        adaptable = _adaptable(name, record) if has_weights(name, options) else tuple(spec.model_fields())
        filled = {k: v for k, v in spec.model_fields().items() if k in adaptable and k in known and k not in options}
        if "in_features" in filled and {"in_features", "vocab_size"} <= known - options.keys():
            filled["vocab_size"] = spec.vocab_size  # a network that reads either: numbers, if the data have no tokens
        seed_torch(config.trainer.seed, "model")
        try:
            model = factory.create(name, **{**filled, **options})
        except ConfigError as error:
            raise ConfigError(f"{error}{_from_data(str(error), name, filled)}") from None
        if _names_classes(record):
            _renew_head(model, spec.labels)
        section = {"name": name, **{k: v for k, v in options.items() if k not in known}}
    own = getattr(model, "config", None)
    return {**section, **({} if own is None else to_dict(own))}, model


def _adaptable(name: str, record: Architecture) -> tuple[str, ...]:
    """The fields in which stored weights follow the data.

    What gives back images has their channels at both ends; and who was told no classes cannot begin with some.
    """
    if _names_classes(record):
        return "num_classes", "in_channels", "image_size"
    told = is_told(record.model) and getattr(factory.config(name), "num_classes", 0)
    return ("num_classes", "image_size") if told else ("image_size",)


def _names_classes(record: Architecture) -> bool:
    """Whether classes are what a network answers, by its head."""
    return "num_classes" in {field.name for field in fields(record.config)} and not is_told(record.model)


def _check_kind(record: Architecture | None, data: Mapping[str, Any], spec: Spec) -> None:
    """Refuse pictures for a model of videos, and videos for one of pictures; both are called `image`."""
    if record is None or "image" not in spec.keys or not {"image", "video"} & set(record.task.split("-")):
        return
    takes, has = "video" in record.task, spec.frames is not None
    if takes != has:
        kinds, examples = ("pictures", "videos"), ("digits", "moving_digits")
        raise ConfigError(
            f"{record.name} takes {kinds[takes]}, but the data {data.get('name', 'given')} are {kinds[has]}; choose "
            f"other data, such as {examples[takes]}"
        )


def _from_data(error: str, name: str, filled: Mapping[str, Any]) -> str:
    """Where a field comes from that a model refuses, if the user did not give it."""
    own = factory.config(name)
    for key, value in filled.items():
        if f"{key} {value}" in error:
            return f"; {key} {value} comes from the data: give data.{key}={getattr(own, key)}, or other model options"
    return ""


def _renew_head(model: nn.Module, labels: tuple[str, ...]) -> None:
    """Draw a loaded head anew where it knows as many classes as the data have, but others; the report says so."""
    report, before = getattr(model, "load_report", None), provenance_of(model).labels
    if report is None or not before or not labels or before == labels:
        return
    if any(note.startswith("head") for note in report.adapted):
        return
    for module in model.get_submodule("head").modules():
        reset: Any = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
    note = f"head drawn anew, for the classes {', '.join(labels[:5])} instead of {', '.join(before[:5])}"
    vars(model)["load_report"] = replace(report, adapted=(*report.adapted, note))


def has_weights(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a name, with the options of `zoo.create`, stands for weights and not only for a shape."""
    return ":" in name or "." in name or bool(options.get("pretrained")) or options.get("weights") is not None


def _objective(
    section: Mapping[str, Any], objective: Objective | None, model: nn.Module, spec: Spec
) -> tuple[dict[str, Any], Objective]:
    if objective is not None:
        _check_names(model, spec, objective)
        return {"name": type(objective).__name__, **to_dict(objective.options)}, objective
    name = section.get("name") or _suited_objective(model, spec)
    found = OBJECTIVES.find(name)
    _check_names(model, spec, found)
    given = {key: value for key, value in section.items() if key != "name"}
    options = build(
        found.config, {**found.remembered(provenance_of(model).preprocessing or {}, given), **given}, "objective"
    )
    return {"name": found.name, **to_dict(options)}, found(options, spec)


def _suited_objective(model: nn.Module, spec: Spec) -> str:
    record = architecture_of(model)
    arguments = inspect.signature(model.forward).parameters
    name = suited(None if record is None else record.task, spec, arguments)
    if name is None:
        known = ", ".join(OBJECTIVES.records())
        raise ConfigError(f"objective.name is missing, and {type(model).__name__} has no default; give one of {known}")
    return name


def _check_names(model: nn.Module, spec: Spec, objective: Objective | type[Objective]) -> None:
    """Compare what model and objective read with the keys of the data's batches."""
    given = ", ".join(spec.keys)
    for name, parameter in inspect.signature(model.forward).parameters.items():
        if parameter.default is parameter.empty and name not in (*spec.keys, *objective.supplies):
            raise ConfigError(f"{type(model).__name__} takes {name!r}, which the data do not give; they give {given}")
    for name in objective.reads:
        if name not in spec.keys:
            raise ConfigError(f"objective {objective.name} needs {name!r}, but the data give {given}; choose another")


def _check_sizes(model: nn.Module, spec: Spec, data: Mapping[str, Any]) -> None:
    """Compare the model's config with the data."""
    own, who = getattr(model, "config", None), type(model).__name__
    for name, given in spec.model_fields().items():
        has = getattr(own, name, None)
        if name == "num_classes" and has == 0 and is_told(model):
            continue  # it may do without
        enough = has is None or (has >= given if name in ("num_classes", "vocab_size", "max_seq_len") else has == given)
        if not enough and name == "vocab_size" and spec.tokenizer:
            raise ConfigError(
                f"{who} has vocab_size {has}, but the data's tokenizer has {given} tokens; name the model's own by "
                f"data.tokenizer, or if it starts without weights, set model.vocab_size={given}"
            )
        if not enough:
            option = option_for(name, has, data)
            remedy = "choose other data" if option is None else f"give data.{option}={has}"
            raise ConfigError(
                f"{who} has {name} {has}, but the data have {given}; {remedy}, or train with model.{name}={given}"
            )


def option_for(name: str, value: Any, options: Container[str]) -> str | None:
    """The option of the data, among those that they have, by which a model's field would have a value."""
    if name not in FROM_OPTIONS or (name == "in_channels" and value not in CHANNELS):
        return None
    return FROM_OPTIONS[name] if FROM_OPTIONS[name] in options else None


def _lengths(config: TrainerConfig, data: Mapping[str, Any], samples: int) -> TrainerConfig:
    """Steps instead of epochs, and the intervals that follow from them."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    steps = config.steps
    if steps is None:
        if config.epochs is None:
            raise ConfigError("trainer.steps is missing; say how long to train by it or by trainer.epochs")
        steps = max(1, math.ceil(config.epochs * samples / (data["batch_size"] * config.accumulate * ranks)))
    return replace(
        config,
        steps=steps,
        epochs=None,
        checkpoint_every=config.checkpoint_every or math.ceil(steps / 10),
        eval_every=config.eval_every or math.ceil(steps / 10),
        log_every=config.log_every or math.ceil(steps / 100),
    )


def check_same_run(out: Path, config: RunConfig, resume: bool) -> None:
    """Refuse to overwrite a run, and to go on with another one's config.

    Raises:
        ConfigError: `out` holds something and `resume` is not set, or holds a run with other settings.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir():
        raise ConfigError(f"{out} is a file; give a folder for the run")
    path = out / "config.yaml"
    if path.exists() and not _saved_anything(out):
        return
    if not resume:
        if not path.exists():
            raise ConfigError(f"{out} is not empty, and no run; choose another --out")
        raise ConfigError(f"{out} already holds a run; add --resume to go on with it, or choose another --out")
    if not path.exists():
        return
    before, now = flatten(to_dict(RunConfig.read(path))), flatten(to_dict(config))  # an older run lacks newer options
    harmless = HARMLESS - ({"trainer.eval_every"} if config.trainer.keep_best else set())
    changed = [key for key in sorted({*before, *now} - harmless) if before.get(key) != now.get(key)]
    if changed:
        key = changed[0]
        more = f" (and {len(changed) - 1} more)" if len(changed) > 1 else ""
        raise ConfigError(
            f"{out} was begun with {key} {before.get(key)}, now it is {now.get(key)}{more}; "
            "resume with the same config, or choose another --out"
        )


def _saved_anything(out: Path) -> bool:
    """Whether a run left more behind than its config and its log, which the next attempt may overwrite."""
    return any(path.name not in ("config.yaml", "log.jsonl", "checkpoints") for path in out.iterdir()) or any(
        (out / "checkpoints").glob("*")
    )
