"""Weights of other libraries, recognised by their names and written back under them.

`zoo/convert/<architecture>.py` exports `FORMATS`: the other library's name -> a function from our config to the
`Layout` of its checkpoints, which raises ValueError where the library has no such network; and `NAMES`: the library's
name -> the presets that it has too.
"""

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from zoo.convert.keymap import Layout, overlap, to_ours, to_theirs
from zoo.registry import architecture_of, did_you_mean
from zoo.storage import staged_file
from zoo.weights.fit import MismatchError
from zoo.weights.tensors import Lazy, write_tensors

WRAPPERS = ("module.", "_orig_mod.", "model.", "state_dict.")
"""What data-parallel training, torch.compile and some trainers put before every name."""

HEADED = ("torchvision",)
"""The libraries that build no network without its head; a checkpoint of theirs may still be read into ours."""


def formats(architecture: str) -> Mapping[str, Callable[[Any], Layout]]:
    """The libraries whose checkpoints of an architecture are understood."""
    module = f"zoo.convert.{architecture}"
    return importlib.import_module(module).FORMATS if importlib.util.find_spec(module) else {}


def layouts(architecture: str, config: Any) -> tuple[dict[str, Layout], list[str]]:
    """The libraries that can build the network of a config, and where things stand in their checkpoints.

    Returns:
        These, and for each other library why it cannot.
    """
    found: dict[str, Layout] = {}
    refused: list[str] = []
    for name, make in formats(architecture).items():
        try:
            found[name] = make(config)
        except ValueError as error:
            refused.append(str(error))
    return found, refused


def peers(architecture: str, format: str) -> dict[str, str]:
    """The presets of an architecture that a library has too, and what they are called there."""
    module = importlib.import_module(f"zoo.convert.{architecture}") if formats(architecture) else None
    found: Mapping[str, str] | tuple[str, ...] = getattr(module, "NAMES", {}).get(format, ())
    return dict(found) if isinstance(found, Mapping) else {name: name for name in found}


class Recognised(NamedTuple):
    """A checkpoint under our names."""

    format: str
    """Whose it is; `zoo` for our own."""
    tensors: dict[str, Lazy]
    passed: list[str]
    """What it holds beside the model, such as auxiliary heads that the config leaves out."""
    drawn: tuple[str, ...] = ()
    """Tensors that the library has not, so that they are drawn anew."""


def recognise(architecture: str, config: Any, model: nn.Module, tensors: Mapping[str, Lazy]) -> Recognised:
    """Whose checkpoint this is, by its names alone, and its tensors under ours.

    Args:
        architecture: the architecture's name.
        config: the config of the model that it shall fit.
        model: that model, on any device.
        tensors: the checkpoint.

    Raises:
        MismatchError: none of its names is ours, and there are libraries that have no network of this config.
    """
    names = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = _unwrapped(tensors)
    if names.keys() <= tensors.keys():  # ours, as nearly always
        return Recognised("zoo", dict(tensors), [])
    theirs, refused = layouts(architecture, config)
    known = {"zoo": None, **theirs}
    best = max(known, key=lambda name: overlap(known[name], names, tensors))  # the first of equals
    layout = known[best]
    if refused and not overlap(layout, names, tensors):
        raise MismatchError(f"none of its names is ours, and {', '.join(refused)}")
    if layout is None:
        return Recognised(best, dict(tensors), [])
    remedy = "; create it with tie_embeddings=False" if getattr(config, "tie_embeddings", False) else ""
    found, passed = to_ours(layout, names, tensors, remedy)
    return Recognised(best, found, passed, tuple(name for name in names if layout.lacks(name)))


def _unwrapped(tensors: Mapping[str, Lazy]) -> Mapping[str, Lazy]:
    for prefix in WRAPPERS:
        if tensors and all(name.startswith(prefix) for name in tensors):
            return _unwrapped({name.removeprefix(prefix): tensor for name, tensor in tensors.items()})
    return tensors


def export_weights(model: nn.Module, path: str | Path, *, format: str) -> Path:
    """Write a model's weights as another library's current release would save them.

    Args:
        model: of a registered architecture.
        path: the .safetensors file; one that is there is replaced.
        format: the library: `torchvision`, `timm`, ...; or `zoo` for our own names.

    Raises:
        ValueError: this architecture has no such format, or the library no network of this config; the path is not a
            .safetensors file's; or the model is on the meta device.
        OSError: the disk is full or not writable; what was there before is untouched.
    """
    tensors, target = foreign_tensors(model, format), Path(path)
    if target.suffix != ".safetensors":
        raise ValueError(f"{target}: weights are written as safetensors; give a path that ends in .safetensors")
    if (on_meta := next((name for name, tensor in tensors.items() if tensor.is_meta), None)) is not None:
        raise ValueError(f"{on_meta!r} is on the meta device, which holds no weights; create the model elsewhere")
    with staged_file(target) as staging:
        write_tensors(staging, tensors)
    return target


def foreign_tensors(model: nn.Module, format: str) -> dict[str, Tensor]:
    """A model's tensors under another library's names and in its shapes; errors as for `export_weights`."""
    record = architecture_of(model)
    if record is None:
        raise ValueError(f"{type(model).__name__} is the model of no registered architecture; zoo.register(...) it")
    known = {"zoo": None, **formats(record.name)}
    if format not in known:
        hint = did_you_mean(format, known) or f"; {record.name} has {', '.join(known)}"
        raise ValueError(f"unknown format {format!r}{hint}")
    make, config = known[format], getattr(model, "config", None)
    if make is None:
        return dict(model.state_dict())
    skipped = HEADED if getattr(config, "num_classes", None) == 0 else ()
    try:
        if format in skipped:
            raise ValueError(f"{format} has no {record.name} with num_classes 0")
        layout = make(config)
    except ValueError as error:
        other = next((name for name in layouts(record.name, config)[0] if name not in skipped), "zoo")
        raise ValueError(f"{error}; format={other!r} has") from None
    return to_theirs(layout, model.state_dict())
