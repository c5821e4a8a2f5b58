"""A config to start from: what matters is set, and every other option stands there with its default and meaning."""

import ast
import dataclasses
import inspect
import itertools
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from zoo.config import to_yaml

FROM_DATA = ("num_classes", "in_features", "in_channels", "image_size", "vocab_size", "max_seq_len")
WIDTH = 100


def template(model: str, model_config: Any, task: str, data: Mapping[str, Any], what: str) -> str:
    """The YAML text.

    Args:
        model: what goes into `model.name`.
        model_config: the config that the name stands for.
        task: the architecture's.
        data: the data section that names the data.
        what: the user's word for the data.
    """
    from zoo.training.assemble import Loading
    from zoo.training.data import DATA_SETS
    from zoo.training.objectives import DEFAULT, OBJECTIVES
    from zoo.training.run import OptimizerConfig, ScheduleConfig, TrainerConfig

    objective = OBJECTIVES.find(DEFAULT[task]) if task in DEFAULT else None
    data_config = DATA_SETS.find(data["name"]).config
    lines = [
        f"# {model} on {what}. Train it: zoo train THIS.yaml --out runs/{data['name']}",
        "# A line `#key: value` shows a default; take the # away to change it.",
    ]
    lines += ["", "model:", *_options({"name": model}, model_config, skip=FROM_DATA)]
    lines += [f"  # From the data: {', '.join(name for name in FROM_DATA if hasattr(model_config, name))}."]
    chosen = {**data, "batch_size": 64}
    if task == "unconditional-image-generation":
        chosen["normalize"] = "range"  # generators draw in [-1, 1]
    lines += ["", "data:", *_options(chosen, Loading, data_config)]
    if objective is not None:
        lines += ["", "objective:", *_options({"name": objective.name}, objective.config)]
    lines += ["", "optimizer:", *_options({"name": "adamw", "lr": 1e-3}, OptimizerConfig)]
    lines += ["", "schedule:", *_options({"name": "cosine", "warmup": 0.05}, ScheduleConfig)]
    lines += ["", "trainer:", *_options({"steps": 1000, "seed": 0}, TrainerConfig, skip=("epochs",))]
    return "\n".join(lines) + "\n"


def _options(chosen: Mapping[str, Any], *configs: Any, skip: tuple[str, ...] = ()) -> Iterator[str]:
    """What is chosen, then every other field of the dataclasses or instances, commented out."""
    for key, value in chosen.items():
        yield f"  {_line(key, value)}"
    for config in configs:
        docs = field_docs(config if isinstance(config, type) else type(config))
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
