"""A config to start from: what matters is set, and every other option stands there with its default and meaning."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from zoo.cli.output import note
from zoo.config import to_yaml

FROM_DATA = (
    "num_classes", "in_features", "out_features", "in_channels", "image_size", "vocab_size", "max_seq_len", "end_token",
)  # fmt: skip
PHOTOS = ("image_folder", "image_text")
"""Data whose images have any size."""
WIDTH = 100


def template(model: str, model_config: Any, goal: str, changes: Mapping[str, Any], what: str) -> str:
    """The YAML text.

    Args:
        model: what goes into `model.name`.
        model_config: the config that the name stands for.
        goal: the objective's name.
        changes: what is already decided, section by section; `data.name` among it.
        what: the user's word for the data.
    """
    from zoo.training.assemble import Loading
    from zoo.training.data import DATA_SETS
    from zoo.training.objectives import OBJECTIVES
    from zoo.training.run import OptimizerConfig, RunConfig, ScheduleConfig, TrainerConfig

    objective, data = OBJECTIVES.find(goal), changes["data"]
    data_config = DATA_SETS.find(data["name"]).config

    def section(name: str, chosen: Mapping[str, Any], *configs: Any, skip: tuple[str, ...] = ()) -> list[str]:
        return ["", f"{name}:", *_options({**chosen, **changes.get(name, {})}, *configs, skip=skip)]

    length = {} if "epochs" in changes.get("trainer", {}) else {"steps": 1000}
    from_data = [name for name in FROM_DATA if hasattr(model_config, name) and name not in changes.get("model", {})]
    lines = [
        f"# {model} on {what}. Train it: zoo train THIS.yaml --out runs/{data['name']}",
        "# A line `#key: value` shows a default; take the # away to change it.",
        *section("model", {"name": model}, model_config, skip=FROM_DATA),
        f"  # From the data: {', '.join(from_data)}.",
        *section("data", {**data, "batch_size": data.get("batch_size", 64)}, Loading, data_config),
        *section("objective", {"name": objective.name}, objective.config),
        *section("optimizer", {"name": "adamw", "lr": 1e-3}, OptimizerConfig),
        *section("schedule", {"name": "cosine", "warmup": 0.05}, ScheduleConfig),
        *section("trainer", {**length, "seed": 0}, TrainerConfig, skip=("epochs", "steps")),
        "",
        f"# {field_docs(RunConfig)['kernels']}",
        _line("kernels", changes["kernels"]) if "kernels" in changes else f"#{_line('kernels', RunConfig.kernels)}",
    ]
    return "\n".join(lines) + "\n"


def starting_data(data: Mapping[str, Any], task: str, model_config: Any, fixed: bool) -> dict[str, Any]:
    """The data section with what such a model asks of images: generators draw in [-1, 1], at sizes of their own.

    Args:
        data: the section so far.
        task: the architecture's.
        model_config: the config that the model's name stands for.
        fixed: whether it stands for weights, which do not follow the data.
    """
    from zoo.training.assemble import FROM_OPTIONS, option_for
    from zoo.training.data import DATA_SETS
    from zoo.training.data.images import ImageOptions
    from zoo.training.objectives import DEFAULT

    section = {**data}
    if DEFAULT.get(task) == "adversarial" and issubclass(DATA_SETS.find(data["name"]).config, ImageOptions):
        section |= {"normalize": "range"}
    if data["name"] in PHOTOS:
        fields = FROM_OPTIONS if fixed else ("image_size",)
        options = {field.name for field in dataclasses.fields(DATA_SETS.find(data["name"]).config)}
        own = {name: getattr(model_config, name) for name in fields if hasattr(model_config, name)}
        asked = {option_for(name, value, options): value for name, value in own.items()}
        section |= {option: value for option, value in asked.items() if option is not None}
    return section


def objective_for(model: str, task: str, changes: Mapping[str, Any]) -> str:
    """The objective that suits a model and data, both of which are tried out; the model takes no memory.

    Args:
        model: its name.
        task: its architecture's.
        changes: what is already decided, section by section.

    Raises:
        ConfigError: the two do not go together, or a setting is none; the message names it.
        OSError: the data cannot be read.
    """
    import torch

    from zoo.config import merge
    from zoo.training.assemble import assemble
    from zoo.training.objectives import DEFAULT, inputs
    from zoo.training.run import RunConfig

    shape = {"name": model, "pretrained": False, "device": "meta"}
    length = {} if "epochs" in changes.get("trainer", {}) else {"steps": 1}
    run = RunConfig.of(merge({"model": shape, "trainer": length}, changes), "create-config")
    try:
        parts = assemble(run, None, None, None)
    except OSError as error:
        if task not in DEFAULT:
            raise
        note(f"not tried out, for the data cannot be read: {error}")
        return run.objective.get("name") or DEFAULT[task]
    with torch.device("meta"):
        parts.objective.build(parts.model)  # it may refuse the model, as it would at the start of training
    batch = parts.splits.train.fetch([0], None)
    sample = inputs({name: value.to("meta") for name, value in batch.items()}, parts.arguments)
    try:
        if not parts.objective.supplies:  # else only the objective knows what the network reads
            parts.model.eval()(**sample)
    except RuntimeError as error:  # a plugin's network may need numbers, where there are only shapes
        note(f"not tried out on a sample: {str(error).splitlines()[0]}")
    return parts.config.objective["name"]


def _options(chosen: Mapping[str, Any], *configs: Any, skip: tuple[str, ...] = ()) -> Iterator[str]:
    """What is chosen, then every other field of the dataclasses or instances, commented out."""
    for key, value in chosen.items():
        yield f"  {_line(key, value)}"
    for config in configs:
        kind = config if isinstance(config, type) else type(config)
        docs = {name: text for base in reversed(kind.__mro__) for name, text in field_docs(base).items()}
        for field in dataclasses.fields(config):
            if field.name in chosen or field.name in skip:
                continue
            value = _default(config, field)
            for line in textwrap.wrap(docs.get(field.name, ""), WIDTH - 4):
                yield f"  # {line}"
            yield f"  #{_line(field.name, value)}"


def _default(config: Any, field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING and isinstance(config, type):
        return field.default_factory()
    return getattr(config, field.name, None)


def _line(key: str, value: Any) -> str:
    return to_yaml({key: value}).strip()


def field_docs(cls: type) -> dict[str, str]:
    """The docstrings that stand below a dataclass's fields; Python keeps them in the source only."""
    try:
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # pyright: ignore[reportAttributeAccessIssue]
    except (OSError, TypeError):  # defined where there is no source file, as in an interactive session
        return {}
    docs = {}
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
            docs[ast.unparse(field.target)] = " ".join(str(text.value.value).split())
    return docs
