"""`zoo list` and `zoo info`: what there is, and what one model is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.arguments import Json, Model, create_name
from zoo.cli.output import heading, print_json, print_table, short_number

if TYPE_CHECKING:
    from zoo.cli.anatomy import Anatomy
    from zoo.factory import Description
    from zoo.registry import Weights


def list_models(
    pattern: Annotated[str, typer.Argument(metavar="PATTERN", help="Names to show, with * and ?.")] = "*",
    task: Annotated[str | None, typer.Option(help="Only this task, such as image-classification.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Only models with weights.")] = False,
    license: Annotated[str | None, typer.Option(help="Only weights with this licence, or commercial-ok.")] = None,
    tags: Annotated[bool, typer.Option("--tags", help="List the weights, each as name.tag.")] = False,
    as_json: Json = False,
) -> None:
    """List models, by name, task or licence.

    Example: zoo list 'resnet*' --task image-classification
    """
    import zoo
    from zoo.registry import UnknownName, did_you_mean

    names = zoo.list_models(pattern, task=task, pretrained=pretrained or None, license=license, tags=tags)
    if not names:
        every = zoo.list_models(tags=tags)
        if pattern == "*" or zoo.list_models(pattern, tags=tags):
            raise UnknownName("no model fits these options; leave one out")
        hint = did_you_mean(pattern.strip("*?"), every) or "; `zoo list` shows all"
        raise UnknownName(f"no model is called {pattern!r}{hint}")
    entries = [_entry(name, license) for name in names]
    if as_json:
        print_json(entries)
    elif tags:
        rows = [(e["name"], e["license"], _metrics(e["metrics"]), e["task"]) for e in entries]
        print_table(["NAME", "LICENSE", "METRICS", "TASK"], rows)
    else:
        rows = [(e["name"], short_number(e["num_params"], "kMB"), e["task"], " ".join(e["tags"])) for e in entries]
        print_table(["NAME", "PARAMS>", "TASK", "WEIGHTS"], rows)


def _entry(name: str, license: str | None) -> dict[str, Any]:
    """What is known of a preset and its suitable weights, or of preset.tag; built only where nobody counted it."""
    import zoo
    from zoo.factory import permits
    from zoo.registry import resolve
    from zoo.weights.cards import cards

    found = resolve(name)
    record = found.architecture
    known = cards(record, found.preset)
    entry = {
        "name": name,
        "architecture": record.name,
        "task": record.task,
        "paper": record.paper,
        "num_params": record.params.get(found.preset) or zoo.describe(found.preset).num_params,
    }
    if found.tag is None:
        return entry | {"tags": [card.tag for card in known if permits(card, license)]}
    return entry | next(_weights(card) for card in known if card.tag == found.tag)


def _weights(card: "Weights") -> dict[str, Any]:
    return {
        "tag": card.tag,
        "default": card.default,
        "license": card.license,
        "commercial": card.commercial,
        "metrics": dict(card.metrics),
        "preprocessing": dict(card.preprocessing),
        "source": dict(card.source),
        "tokenizer": card.tokenizer,
    }


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def info(name: Model, as_json: Json = False) -> None:
    """Show what a model is: size, cost, config, layers.

    Example: zoo info resnet18
    """
    import zoo
    from zoo.cli.anatomy import dissect
    from zoo.config import to_dict

    known = zoo.describe(create_name(name))
    model: Any = zoo.create(known.config, device="meta")
    anatomy = dissect(model, model.example_inputs(1))
    config = to_dict(known.config)
    if not as_json:
        return _show(known, config, anatomy)
    print_json(
        {
            "name": known.name,
            "architecture": known.architecture,
            "task": known.task,
            "paper": known.paper,
            "num_params": known.num_params,
            "flops": anatomy.flops,
            "inputs": anatomy.inputs,
            "config": config,
            "layers": [part._asdict() for part in anatomy.parts],
            "weights": [_weights(card) for card in known.weights],
        }
    )


def _show(known: "Description", config: dict[str, Any], anatomy: "Anatomy") -> None:
    """The same for readers."""
    inputs = ", ".join(f"{name} {_shape(shape)}" for name, shape in anatomy.inputs.items())
    heading(known.name)
    print_table(
        ["", ""],
        [
            ("task", known.task),
            ("paper", known.paper),
            ("parameters", f"{known.num_params:,}"),
            ("FLOPs", f"{short_number(anatomy.flops)} for {inputs} (a multiply-add is two)"),
            ("weights", _where(known)),
        ],
        indent=2,
    )
    if known.weights and ":" not in known.name:
        heading("\nweights")
        print_table(["TAG", "LICENCE", "COMMERCIAL", "METRICS", "INPUT"], map(_weights_row, known.weights), indent=2)
    heading("\nconfig")
    print_table(["", ""], list(config.items()), indent=2)
    heading("\nlayers")
    rows = [
        (part.name, part.kind, f"{part.num_params:,}", _shape(part.output) if part.output else "not called")
        for part in anatomy.parts
    ]
    print_table(["NAME", "TYPE", "PARAMETERS>", "OUTPUT"], rows, indent=2)


def _where(known: "Description") -> str:
    if ":" in known.name:
        return "in this folder"
    if not known.weights:
        return "none: zoo.create draws them at random"
    default = next((card.tag for card in known.weights if card.default), None)
    meant = f", of which {default} is meant by pretrained=True" if default else ""
    return f"{len(known.weights)}{meant}"


def _weights_row(card: "Weights") -> tuple[str, ...]:
    """One tag: what it may be used for, how good it is, and what its inputs look like."""
    commercial = {True: "yes", False: "no", None: "unknown"}[card.commercial]
    record = card.preprocessing
    size, mean = record.get("image_size"), ", ".join(f"{value:.3g}" for value in record.get("mean", ()))
    frames = [f"{record['frames']} frames"] if record.get("frames") else []
    inputs = [*frames, f"{size} x {size}", record.get("interpolation", "bilinear"), f"mean {mean}"] if size else []
    inputs += ["text"] if card.tokenizer else []
    licence = f"{card.license}, gated" if card.source.get("gated") else card.license
    return card.tag, licence, commercial, _metrics(card.metrics), ", ".join(inputs)


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a number"
