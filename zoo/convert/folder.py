"""Folders of the transformers, diffusers and open_clip libraries: a config of theirs beside tensors of theirs.

`zoo/convert/<architecture>.py` exports `MODEL_TYPES`: the `model_type` of such a config, or with diffusers its
`_class_name`, or `open_clip`, whose file does not say it, -> a function from it to the fields of ours. No code is taken
from a folder, and no class is looked up by a name that stands in it. Of a pipeline of diffusers, several models in a
folder each, the one that denoises is read.
"""

import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from zoo import convert
from zoo.config import ConfigError, build
from zoo.convert import open_clip
from zoo.convert.image_processor import image_processor
from zoo.convert.scheduler import preprocessing
from zoo.registry import ARCHITECTURES, Architecture, did_you_mean
from zoo.weights import CONFIG, DIFFUSERS, GENERATION, MANIFEST, TENSORS, read_json, read_tensors, read_tokenizer
from zoo.weights.tensors import Stored

KINDS = ("model_type", "_class_name")
"""What says in a config of transformers, and of diffusers, which network it is."""
PIPELINE, PARTS = "model_index.json", ("unet", "transformer", "vae")
"""What lies in a pipeline's folder, and in which folders therein a network may lie, that which denoises first."""

Reader = Callable[[Mapping[str, Any]], dict[str, Any]]


class Foreign(NamedTuple):
    """What such a folder says, and its tensors, still unread."""

    architecture: Architecture
    config: Any
    labels: tuple[str, ...]
    """The names of the classes, where the folder gives some."""
    files: dict[str, bytes]
    """Those of its tokenizer, by name."""
    tensors: dict[str, Stored] | None
    preprocessing: dict[str, Any] | None = None
    """What it says of its inputs, and of the noise that it removes."""


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds a model that transformers, diffusers or open_clip has saved."""
    return not (folder / MANIFEST).exists() and (_is_told(folder) or _is_open_clip(folder))


def _is_told(folder: Path) -> bool:
    where = _network(folder) / CONFIG
    return where.is_file() and any(kind in read_json(where) for kind in KINDS)


def _is_open_clip(folder: Path) -> bool:
    """Whether it is open_clip's; beside its files there may be those of transformers, or a config.json of timm's."""
    if not (folder / open_clip.CONFIG).is_file():
        return False
    return not (_is_told(folder) and (folder / TENSORS).is_file())


def _network(folder: Path) -> Path:
    """The folder itself, or that of its network if it is a pipeline's."""
    if (folder / CONFIG).exists() or not (folder / PIPELINE).is_file():
        return folder
    return next((folder / part for part in PARTS if (folder / part / CONFIG).is_file()), folder)


def read_foreign(folder: Path, load: bool = True) -> Foreign:
    """Our architecture and config for a folder, with its tensors if they are wanted.

    Raises:
        ConfigError: no architecture of ours is this model, or a setting asks for what ours cannot do.
        DamagedFile: a file is missing or broken.
    """
    if _is_open_clip(folder):
        return _read_open_clip(folder, load)
    folder = _network(folder)
    where = folder / CONFIG
    theirs = read_json(where)
    known, field = _readers(), next(name for name in KINDS if name in theirs)
    kind = theirs[field]
    if not isinstance(kind, str) or kind not in known:
        hint = did_you_mean(str(kind), known) or f"; known are {', '.join(sorted(known))}"
        raise ConfigError(f"{where}: no architecture here has the {field} {kind!r}{hint}")
    architecture, config = _understood(where, theirs, kind)
    stem = DIFFUSERS if field == "_class_name" else "model"
    tensors = read_tensors(folder, links=True, stem=stem) if load else None
    classes, facts = getattr(config, "num_classes", None), None
    labels = _labels(theirs, classes)
    if field == "_class_name":
        labels = labels or _labels_of_pipeline(folder.parent / PIPELINE, classes)
        facts = preprocessing(folder, theirs, config, loud=load)
    elif hasattr(config, "image_size"):
        facts = image_processor(folder)
    return Foreign(architecture, config, labels, _tokenizer(folder, theirs), tensors, facts)


def _understood(where: Path, theirs: Mapping[str, Any], kind: str) -> tuple[Architecture, Any]:
    """Our architecture for a kind, and our config for one of theirs."""
    name, reader = _readers()[kind]
    architecture = ARCHITECTURES.find(name)
    try:
        return architecture, build(architecture.config, reader(theirs), "its config")
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None


def _read_open_clip(folder: Path, load: bool) -> Foreign:
    where = folder / open_clip.CONFIG
    theirs = read_json(where)
    architecture, config = _understood(where, theirs, "open_clip")
    tensors = read_tensors(folder, links=True, stem=open_clip.STEM) if load else None
    facts = open_clip.preprocessing(theirs, config.image_size)
    return Foreign(architecture, config, (), read_tokenizer(folder), tensors, facts)


def _tokenizer(folder: Path, theirs: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a folder's tokenizer; what ends a text stood in config.json before it got a file of its own."""
    files = read_tokenizer(folder)
    if files and GENERATION not in files and theirs.get("eos_token_id") is not None:
        files[GENERATION] = json.dumps({"eos_token_id": theirs["eos_token_id"]}).encode()
    return files


def _labels(theirs: Mapping[str, Any], num_classes: int | None) -> tuple[str, ...]:
    """The names of a classifier's classes; those that transformers makes up itself are none."""
    names = theirs.get("id2label")
    if num_classes is None or not isinstance(names, Mapping) or len(names) != num_classes:
        return ()
    found = tuple(str(names.get(str(index))) for index in range(num_classes))
    return () if found == tuple(f"LABEL_{index}" for index in range(num_classes)) else found


def _labels_of_pipeline(where: Path, num_classes: int | None) -> tuple[str, ...]:
    """The names in a pipeline's own file, each of which may be several with commas between; else the numbers."""
    names = read_json(where).get("id2label") if num_classes and where.is_file() else None
    if not num_classes or not names or not isinstance(names, Mapping):
        return ()
    return tuple(str(names.get(str(index), index)) for index in range(num_classes))


def _readers() -> dict[str, tuple[str, Reader]]:
    """What a config says it is -> the architecture and what reads the config."""
    known: dict[str, tuple[str, Reader]] = {}
    for module in pkgutil.iter_modules(convert.__path__):
        readers = getattr(importlib.import_module(f"{convert.__name__}.{module.name}"), "MODEL_TYPES", {})
        known |= {kind: (module.name, reader) for kind, reader in readers.items()}
    return known
