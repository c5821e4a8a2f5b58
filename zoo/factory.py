"""From a name to a model: `create`, and what can be asked about names without building one."""

import dataclasses
import os
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from zoo.config import replace
from zoo.convert import recognise
from zoo.convert.folder import is_foreign, read_foreign
from zoo.hub.client import fetch, fetch_tokenizer
from zoo.registry import ARCHITECTURES, RESERVED, Architecture, Weights, did_you_mean, resolve
from zoo.weights import (
    INDEX,
    PICKLED,
    TOKENIZER,
    Provenance,
    open_folder,
    provenance_of,
    provenance_of_config,
    read_folder,
)
from zoo.weights.cards import bundled_folder, bundled_names, cards, find_card, labels
from zoo.weights.fit import MismatchError, draw, fit, on_meta
from zoo.weights.tensors import Lazy, read_header

LOCAL, HUB = "local-dir:", "hf-hub:"


def create(
    name: Any,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    verify: bool = True,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    endpoint: str | None = None,
    **config: Any,
) -> nn.Module:
    """Build a model, in train mode; it has `.config`, `.provenance`, and `.load_report` where weights were loaded.

    Random weights are drawn on the CPU, so that a seed means the same weights on every device; on the meta device
    there are none. Stored weights keep their dtype unless another is asked for. Where `num_classes` or
    `in_channels` is given and differs from the stored weights', head or stem are adapted, which the report says.

    Args:
        name: `preset`, `preset.tag`, an alias, `local-dir:folder`, or a config instance. The folder is one that
            `zoo.save` wrote, or transformers or diffusers.
        pretrained: True loads the default tag; False loads nothing, also where a tag or a folder is named.
        weights: a .safetensors file, or such a folder, to load instead.
        verify: whether to compare stored files with their sha256.
        device: where the model shall be.
        dtype: of its floating-point parameters and buffers.
        endpoint: the Hub's address; by default HF_ENDPOINT, or huggingface.co.
        **config: fields of the model's config.

    Raises:
        UnknownName: nothing has this name or tag; the message gives the nearest names.
        ConfigError: an option is unknown, has the wrong type, or contradicts another.
        MismatchError: weights and model do not belong together.
        DamagedFile: stored files are not what was written.
        OSError: weights or their tokenizer cannot be downloaded.
    """
    if pretrained and (weights is not None or not isinstance(name, str)):
        raise ValueError("pretrained=True is for a name without weights=; leave one of them out")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype must be a floating-point torch.dtype such as torch.bfloat16, got {dtype!r}")
    if not isinstance(weights, str | os.PathLike | None):
        raise TypeError(
            f"weights must be the path of a file or folder, got {type(weights).__name__}; see load_state_dict"
        )
    load = weights is None and pretrained is not False
    start = _start(name, bool(pretrained), load, verify, endpoint)
    if weights is not None:
        start = _with_weights(start, str(weights), verify, keep_config=not isinstance(name, str))
    named = config if isinstance(name, str) else [field.name for field in dataclasses.fields(start.config)]
    start = start._replace(config=replace(start.config, config, start.provenance.preset, also=RESERVED))
    on = _device(device)
    model = _build(start, str(weights or name), named, on)
    return model.to(device=on, dtype=dtype).train()


def config(name: str, **overrides: Any) -> Any:
    """The frozen config that a name stands for, with some fields changed; errors as for `create`."""
    start = _start(name, pretrained=False, load=False, verify=False)
    return replace(start.config, overrides, start.provenance.preset)


def _device(device: str | torch.device | None) -> torch.device:
    try:
        return torch.device("cpu" if device is None else device)
    except RuntimeError:  # torch's own lists two dozen types of device
        raise ValueError(f"device={device!r} is no device; give cpu, cuda, cuda:1, mps or meta") from None


class _Start(NamedTuple):
    """What a name stands for."""

    architecture: Architecture
    config: Any
    provenance: Provenance
    tensors: Mapping[str, Lazy] | None = None
    """Its weights, where they are wanted."""
    from_file: bool = False
    """Whether a file says what the config is, which then may ask for anything."""


def _start(
    name: Any, pretrained: bool, load: bool, verify: bool, endpoint: str | None = None, *, text: bool = False
) -> _Start:
    """Look a name up.

    Args:
        name: as for `create`.
        pretrained: whether a bare name means its default tag.
        load: whether the weights of a tag or a folder are wanted.
        verify: whether to compare files with their sha256 before.
        endpoint: the Hub's address.
        text: whether the tokenizer of a tag is wanted, which weights bring with them.
    """
    if not isinstance(name, str):
        return _from_instance(name)
    if name.startswith(HUB):
        raise ValueError(
            f"{name!r}: this version loads nothing from the Hub; download the files and use {LOCAL}folder, or a "
            f"preset's name with weights=file.safetensors; {bundled_names()}"
        )
    if name.startswith(LOCAL):
        return _from_folder(Path(name.removeprefix(LOCAL)), load, verify)
    found = resolve(name)
    if found.tag is None and not pretrained:
        provenance = Provenance(architecture=found.architecture.name, preset=found.preset)
        return _Start(found.architecture, found.config, provenance)
    card = find_card(found.architecture, found.preset, found.tag)
    folder = bundled_folder(card)
    if folder is not None:
        return _from_folder(folder, load, verify)
    config = replace(found.config, card.config, f"{found.preset}.{card.tag}")
    tensors = fetch(card, endpoint, verify) if load else None
    files = fetch_tokenizer(card, endpoint, verify) if load or text else {}
    provenance = Provenance(
        architecture=found.architecture.name, preset=found.preset, tag=card.tag, labels=labels(card),
        preprocessing=card.preprocessing or None, files=files, tokenizer=TOKENIZER if files else None,
    )  # fmt: skip
    return _Start(found.architecture, config, provenance, tensors)


def _from_instance(instance: Any) -> _Start:
    for architecture in ARCHITECTURES.records().values():
        if type(instance) is architecture.config:
            return _Start(architecture, instance, provenance_of_config(architecture, instance))
    raise TypeError(f"expected a model's name or an instance of its config, got {instance!r}")


def _from_folder(folder: Path, load: bool, verify: bool) -> _Start:
    if is_foreign(folder):
        foreign = read_foreign(folder, load)
        provenance = dataclasses.replace(
            provenance_of_config(foreign.architecture, foreign.config),
            labels=foreign.labels, files=foreign.files, tokenizer=TOKENIZER if foreign.files else None,
            preprocessing=foreign.preprocessing,
        )  # fmt: skip
        return _Start(foreign.architecture, foreign.config, provenance, foreign.tensors, from_file=True)
    saved, tensors = open_folder(folder, verify) if load else (read_folder(folder), None)
    return _Start(saved.architecture, saved.config, saved.provenance, tensors, from_file=True)


def _with_weights(start: _Start, place: str, verify: bool, keep_config: bool) -> _Start:
    """What a name stands for, with the weights of a file or folder.

    A folder says how its model was configured, so that its config is used, unless the caller gave a whole one.
    """
    if place.startswith(HUB):
        raise ValueError(f"weights={place!r}: this version loads nothing from the Hub; give a file or a folder")
    path = Path(place.removeprefix(LOCAL))
    if path.is_dir():
        other = _from_folder(path, load=True, verify=verify)
        here, there = start.provenance, other.provenance
        same = here.preset == there.preset or (is_foreign(path) and here.preset == here.architecture)
        if here.architecture != there.architecture or not (same or keep_config):
            raise MismatchError(f"{path} holds a {there.preset}, not a {here.preset}; use {LOCAL}{path} as the name")
        return other._replace(config=start.config, from_file=False) if keep_config else other
    if path.name.endswith(INDEX.removeprefix("model")):
        raise ValueError(f"{path} is the index of weights in several files; give their folder, {path.parent}")
    if path.exists() and path.suffix != ".safetensors":
        raise ValueError(f"{path}: only .safetensors files and folders are loaded, for {PICKLED}")
    return start._replace(tensors=read_header(path))


def _build(start: _Start, source: str, named: Collection[str], device: torch.device) -> nn.Module:
    """The model on the CPU, or on meta if it shall stay there."""
    model = on_meta(start.architecture, start.config, beside=start.tensors if start.from_file else None)
    if start.tensors is not None:
        if device.type == "meta":
            raise ValueError(f"a model on the meta device holds no weights; load {source} on another, or none")
        try:
            found = recognise(start.architecture.name, start.config, model, start.tensors)
        except MismatchError as error:
            raise MismatchError(f"{source} does not fit {type(model).__name__}: {error}") from None
        report = fit(model, found.tensors, source, adapt=named, drawn=found.drawn)
        if found.drawn:
            parts = ", ".join(dict.fromkeys(name.split(".")[0] for name in found.drawn))
            warnings.warn(
                f"{source} holds a part of {type(model).__name__}: {parts} drawn anew; train it", stacklevel=3
            )
        report = dataclasses.replace(report, ignored=(*report.ignored, *found.passed), format=found.format)
        vars(model).update(load_report=report, provenance=_still_true(start.provenance, start.config))
        return model
    vars(model).update(provenance=Provenance(architecture=start.architecture.name, preset=start.provenance.preset))
    if device.type != "meta":
        draw(model)
    return model


def _still_true(provenance: Provenance, config: Any) -> Provenance:
    """Without the labels of another number of classes, and the normalisation of another number of channels."""
    classes, channels = getattr(config, "num_classes", None), getattr(config, "in_channels", None)
    mean = (provenance.preprocessing or {}).get("mean", ())
    return dataclasses.replace(
        provenance,
        labels=provenance.labels if classes in (None, len(provenance.labels)) else (),
        preprocessing=provenance.preprocessing if channels in (None, len(mean)) else None,
    )


@dataclass(frozen=True, kw_only=True)
class Description:
    """All that is known of a model by its name."""

    name: str
    architecture: str
    preset: str
    tag: str | None
    task: str
    paper: str
    config: Any
    num_params: int
    weights: tuple[Weights, ...]
    """Every tag of the preset."""


def describe(name: Any) -> Description:
    """What is known of a model, by anything that `create` takes; nothing is loaded or allocated."""
    start = _start(name, pretrained=False, load=False, verify=False)
    model = on_meta(start.architecture, start.config)
    return Description(
        name=name if isinstance(name, str) else start.provenance.preset,
        architecture=start.architecture.name,
        preset=start.provenance.preset,
        tag=start.provenance.tag,
        task=start.architecture.task,
        paper=start.architecture.paper,
        config=start.config,
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        weights=cards(start.architecture, start.provenance.preset),
    )


def list_models(
    pattern: str = "*",
    *,
    task: str | None = None,
    pretrained: bool | None = None,
    license: str | None = None,
    tags: bool = False,
) -> list[str]:
    """The names of presets, sorted.

    Args:
        pattern: shell-style, such as `resnet*`; case and `-` for `_` do not matter.
        task: a Hub pipeline tag, such as `image-classification`.
        pretrained: only presets with weights, or only those without.
        license: only with weights of this licence; `commercial-ok` for all that permit commercial use.
        tags: list `preset.tag` for all weights instead of presets.

    Raises:
        ValueError: no model has such a task, or no weights such a licence.
    """
    for name, value in (("pattern", pattern), ("task", task or ""), ("license", license or "")):
        if not isinstance(value, str):
            raise TypeError(f"{name} must be text, got {value!r}")
    architectures = ARCHITECTURES.records().values()
    tasks = {architecture.task for architecture in architectures}
    if task is not None and task not in tasks:
        known = ", ".join(sorted(tasks))
        raise ValueError(f"unknown task {task!r}{did_you_mean(task, tasks) or f'; known: {known}'}")
    if license is not None and license.lower() not in (licences := _licences()):
        raise ValueError(f"unknown licence {license!r}; known: {', '.join(licences)}")
    found: list[str] = []
    for architecture in architectures:
        for preset in architecture.names() if task in (None, architecture.task) else ():
            known = cards(architecture, preset) if tags or license or pretrained is not None else ()
            suitable = [card for card in known if permits(card, license)]
            if tags:
                found += [full for card in suitable if _matches(pattern, preset, full := f"{preset}.{card.tag}")]
                continue
            wanted = license is pretrained is None or bool(suitable) == (pretrained is not False)
            found += [preset] if wanted and _matches(pattern, preset) else []
    return sorted(found)


def permits(card: Weights, license: str | None) -> bool:
    """Whether weights have a licence, or with `commercial-ok` one that permits commercial use."""
    if license == "commercial-ok":
        return card.commercial is True
    return license is None or card.license.lower() == license.lower()


def _licences() -> list[str]:
    """What `license` may be."""
    every = {card.license.lower() for record in ARCHITECTURES.records().values() for card in cards(record)}
    return ["commercial-ok", *sorted(every)]


def _matches(pattern: str, *names: str) -> bool:
    spelt = re.sub(r"\[[^]]*]|-", lambda part: "_" if part[0] == "-" else part[0], pattern.lower())
    return any(fnmatchcase(name, spelt) for name in names)


def provenance(model_or_name: nn.Module | str, *, text: bool = False) -> Provenance:
    """Where a model comes from and what belongs to its weights; of a name, what a model made by it would say.

    Args:
        model_or_name: a model, or what `create` takes.
        text: whether a name's tokenizer is wanted too, which may have to be downloaded.

    Raises:
        OSError: it cannot be.
    """
    if isinstance(model_or_name, nn.Module):
        return provenance_of(model_or_name)
    return _start(model_or_name, pretrained=False, load=False, verify=False, text=text).provenance
