"""A model as a folder: `config.json`, `model.safetensors` (several where it is large), `zoo.json` with their sha256.

Saving stages the whole folder and puts it in place at once. Loading trusts nothing: bytes are compared with the
manifest, headers are parsed within bounds, the config is typed, and the model is built without memory and must
match the stored tensors name by name and shape by shape before anything is allocated.
"""

import dataclasses
import errno
import json
import os
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor, nn

from zoo.config import ConfigError, build, replace, to_dict
from zoo.registry import ARCHITECTURES, Architecture, UnknownName, architecture_of
from zoo.storage import DamagedFile, check_folder, staged_folder
from zoo.version import __version__
from zoo.weights.fit import fit, on_meta, tied
from zoo.weights.tensors import Stored, read_header, write_tensors

CONFIG, TENSORS, INDEX, MANIFEST = "config.json", "model.safetensors", "model.safetensors.index.json", "zoo.json"
TOKENIZER, TOKENIZER_CONFIG = "tokenizer.json", "tokenizer_config.json"
GENERATION = "generation_config.json"
"""Says which tokens end a text where there are several."""
DIFFUSERS = "diffusion_pytorch_model"
"""What diffusers' files of tensors are called where ours and transformers' are called `model`."""
OURS = re.compile(
    r"config\.json|zoo\.json|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json"
    r"|tokenizer\.json|tokenizer_config\.json|generation_config\.json"
)
FORMAT = 1
"""Of config.json; a renamed field raises it and adds an upgrade."""
UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Format -> pure function from a config.json of that format to one of the next."""
MAX_JSON = 4 * 2**20
"""Bytes of a config.json or an index."""
MAX_TOKENIZER = 64 * 2**20
"""Bytes of a tokenizer's file; Llama 3's has 17 million."""
PICKLED = (
    "pickled files can run code; read it by torch.load(..., weights_only=True), and write its tensors by "
    "safetensors.torch.save_file"
)
"""Why other files are not loaded, and what can be done."""
SHARD = 5 * 10**9
"""Bytes of tensors above which a model is stored in several files."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a model comes from and what belongs to its weights; kept as `model.provenance` and in config.json."""

    architecture: str
    preset: str
    tag: str | None = None
    labels: tuple[str, ...] = ()
    """The name of each class."""
    preprocessing: Mapping[str, Any] | None = None
    """What the weights expect of their inputs: mean, std, image_size, ..."""
    tokenizer: str | None = None
    """`tokenizer.json` where `files` has one."""
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    """A tokenizer's files, by name; they are saved beside the weights."""


FACTS = ("architecture", "preset", "tag", "labels", "preprocessing", "tokenizer")
"""What of a provenance stands in config.json."""


@dataclass(frozen=True, kw_only=True)
class _Record:
    """The keys of config.json."""

    format: int
    library_name: str
    library_version: str
    architecture: str
    preset: str
    tag: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] | None = None
    labels: tuple[str, ...] = ()
    tokenizer: str | None = None


class Saved(NamedTuple):
    """What a folder says about its model."""

    folder: Path
    architecture: Architecture
    config: Any
    provenance: Provenance


def provenance_of(model: nn.Module) -> Provenance:
    """A model's provenance; for one built by hand, what the registry knows of its class.

    Raises:
        ValueError: no registered architecture has this class.
    """
    known = getattr(model, "provenance", None)
    if isinstance(known, Provenance):
        return known
    record = architecture_of(model)
    if record is None:
        who = type(model).__name__
        raise ValueError(f"{who} is the model of no registered architecture; zoo.register(...) its record")
    return provenance_of_config(record, getattr(model, "config", None))


def provenance_of_config(architecture: Architecture, config: Any) -> Provenance:
    """The preset that a config equals, or else the architecture's own name."""
    presets = [name for name in architecture.names() if architecture.preset(name) == config]
    return Provenance(architecture=architecture.name, preset=presets[-1] if presets else architecture.name)


def remember(model: nn.Module, *, files: Mapping[str, bytes] | None = None, **facts: Any) -> None:
    """Note facts about a model's weights, fields of `Provenance`, so that they are saved with it."""
    known = provenance_of(model)
    known = dataclasses.replace(known, files=known.files if files is None else files)
    vars(model)["provenance"] = replace(known, facts, f"provenance of {type(model).__name__}")


def save(model: nn.Module, folder: str | Path, *, shard_bytes: int = SHARD) -> Path:
    """Write a model's folder; one that `save` wrote before is replaced once the new one is whole.

    Args:
        model: of a registered architecture, on any device.
        folder: where; its parents are made.
        shard_bytes: the most bytes of tensors in one file.

    Raises:
        OSError: the disk is full or not writable; what was there before is untouched.
        ValueError: the folder holds other things, or the model is not what its config describes.
    """
    if not isinstance(model, nn.Module) or not isinstance(folder, str | os.PathLike):
        raise TypeError(f"expected a model and a folder, got {type(model).__name__} and {type(folder).__name__}")
    target, model = Path(folder).resolve(), _uncompiled(model)
    _refuse_strangers(target)
    provenance = provenance_of(model)
    facts = {name: getattr(provenance, name) for name in FACTS}
    tensors = _tensors_as_configured(model, ARCHITECTURES.find(facts["architecture"]))
    config: Any = model.config
    record = _Record(
        format=FORMAT, library_name="zoo", library_version=__version__, config=to_dict(config), **facts
    )  # fmt: skip
    with staged_folder(target, MANIFEST) as staging:
        _write_json(staging / CONFIG, to_dict(record))
        for name, content in provenance.files.items():
            (staging / name).write_bytes(content)
        _write_tensors(staging, tensors, shard_bytes)
    return target


def _uncompiled(model: nn.Module) -> nn.Module:
    """The model that torch.compile wrapped, or the model itself."""
    return getattr(model, "_orig_mod", model)


def _refuse_strangers(target: Path) -> None:
    """Replacing a folder deletes what is in it, so that may only be a model's files."""
    if target.exists() and not target.is_dir():
        raise ValueError(f"{target} is a file; give a folder for the model")
    names = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    strangers = [name for name in names if not OURS.fullmatch(name)]
    if strangers or (names and MANIFEST not in names):
        raise ValueError(f"{target} holds {(strangers or names)[0]!r}, which no model does; give another folder")


def _tensors_as_configured(model: nn.Module, architecture: Architecture) -> dict[str, Tensor]:
    """A model's tensors, tied ones once; they must be those of a model that is built from its config."""
    state, config = model.state_dict(keep_vars=True), getattr(model, "config", None)
    if not isinstance(config, architecture.config):
        raise ValueError(f"a {architecture.name} has a {architecture.config.__name__} as .config, not {config!r}")
    described = on_meta(architecture, config).state_dict(keep_vars=True)
    for name in {**state, **described}:
        shapes = [tuple(tensors[name].shape) if name in tensors else None for tensors in (state, described)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"{name!r} is {shapes[0]}, but {shapes[1]} by the model's config; change both together")
    for names in tied(described):
        if state[names[0]].is_meta:
            raise ValueError(f"{names[0]!r} is on the meta device, which holds no weights; create the model elsewhere")
        if len({state[name].data_ptr() for name in names}) > 1:
            raise ValueError(f"{', '.join(names)} are one tensor by the model's config, but differ; tie them again")
    return {names[0]: state[names[0]] for names in tied(described)}


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_tensors(folder: Path, tensors: Mapping[str, Tensor], shard_bytes: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    files = files if len(shards) > 1 else [TENSORS]
    for file, shard in zip(files, shards, strict=True):
        write_tensors(folder / file, shard)
    if len(shards) > 1:
        places = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
        total = sum(tensor.nbytes for tensor in tensors.values())
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})


def load(folder: str | Path, verify: bool = True) -> nn.Module:
    """The model in a folder that `save` wrote, in train mode; what was done is kept as `model.load_report`.

    Args:
        folder: the folder, or that of a run, whose `model` it then is.
        verify: whether to compare every file with its sha256.

    Raises:
        FileNotFoundError: no model lies there.
        DamagedFile: files are missing, or their bytes are not those that were written.
        ValueError: the folder was written by something else, or by a newer zoo.
    """
    saved, tensors = open_folder(folder, verify)
    model = on_meta(saved.architecture, saved.config, beside=tensors)
    vars(model).update(load_report=fit(model, tensors, str(saved.folder)), provenance=saved.provenance)
    return model.train()


def open_folder(folder: str | Path, verify: bool = True) -> tuple[Saved, dict[str, Stored]]:
    """What a folder says about its model, and its tensors, still unread; see `load`."""
    path = _locate(folder)
    listed = check_folder(path, MANIFEST)["files"] if verify else None
    return read_folder(path), read_tensors(path, listed)


def read_tensors(
    folder: Path, listed: Collection[str] | None = None, *, links: bool = False, stem: str = "model"
) -> dict[str, Stored]:
    """The tensors of a folder, still unread, be they in one file or in several with an index.

    Args:
        folder: the folder.
        listed: the files that a manifest knows, where there is one; others are refused.
        links: whether files may be links, as they are in the Hub's cache.
        stem: how the names of its files begin.

    Raises:
        DamagedFile: a file is missing or broken, or the index is wrong.
        ValueError: the weights are pickled.
    """
    index = folder / INDEX.replace("model", stem, 1)
    places = read_index(index, stem) if index.exists() else {}
    tensors: dict[str, Stored] = {}
    for file in sorted(set(places.values())) or [TENSORS.replace("model", stem, 1)]:
        path = folder / file
        if listed is None and not path.is_file():
            raise _missing(path, index, stem, bool(places))
        if not path.is_file() or (path.is_symlink() and not links) or (listed is not None and file not in listed):
            raise DamagedFile(f"{path}: missing, linked, or not listed in {MANIFEST}; use another copy")
        tensors |= read_header(path)
    if places and {name: stored.file.name for name, stored in tensors.items()} != places:
        raise DamagedFile(f"{index}: the files hold other tensors than it says; use another copy")
    return tensors


def _missing(path: Path, index: Path, stem: str, indexed: bool) -> Exception:
    """The error for a file of tensors that is not there; what lies in its place says why."""
    folder = path.parent
    shards = sorted(found.name for found in folder.glob(f"{stem}-*.safetensors"))
    pickled = sorted(found.name for found in folder.glob("*pytorch_model*.bin"))
    if indexed:
        return DamagedFile(f"{path}: missing, though {index.name} names it; fetch it too, or use another copy")
    if shards:
        return DamagedFile(f"{index}: missing, and only it says what belongs to {shards[0]}; fetch it too")
    if pickled:
        return ValueError(f"{folder}: has no {path.name}, and {pickled[0]} is not loaded, for {PICKLED}")
    return DamagedFile(f"{path}: missing; fetch it too, or use another copy")


def read_folder(folder: str | Path) -> Saved:
    """What a folder says about its model; bytes are not checked."""
    path = _locate(folder)
    where = path / CONFIG
    record = build(_Record, _upgraded(read_json(where), where), str(where))
    try:
        architecture = ARCHITECTURES.find(record.architecture)
    except UnknownName as error:
        raise UnknownName(f"{where}: {error}; if it comes from a plugin, install that") from None
    config = build(architecture.config, record.config, f"{where}: config")
    facts = {name: getattr(record, name) for name in FACTS}
    files = read_tokenizer(path) if record.tokenizer == TOKENIZER else {}
    return Saved(path, architecture, config, Provenance(**facts, files=files))


def read_tokenizer(folder: Path) -> dict[str, bytes]:
    """The files of a folder's tokenizer, by name; none where it has no tokenizer.json.

    Raises:
        DamagedFile: one is larger than any tokenizer.
    """
    paths = [folder / name for name in (TOKENIZER, TOKENIZER_CONFIG, GENERATION) if (folder / name).is_file()]
    for path in paths:
        if path.stat().st_size > MAX_TOKENIZER:
            raise DamagedFile(f"{path}: has {path.stat().st_size} bytes, more than any tokenizer; use another copy")
    return {path.name: path.read_bytes() for path in paths} if (folder / TOKENIZER) in paths else {}


def model_folder(folder: Path) -> Path | None:
    """Where a model lies, be it damaged: in the folder, or in its `model`, as in a run's; None where there is none."""
    places = (folder, folder / "model")
    return next((place for place in places if (place / CONFIG).exists() or (place / MANIFEST).exists()), None)


def _locate(folder: str | Path) -> Path:
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"expected the path of a folder, got {type(folder).__name__}; zoo.load(folder) makes the model")
    path = model_folder(Path(folder))
    if path is None:
        raise FileNotFoundError(errno.ENOENT, f"no model lies there, for there is no {CONFIG}", os.fspath(folder))
    if not (path / MANIFEST).exists() and read_json(path / CONFIG).get("library_name") != "zoo":
        raise ConfigError(
            f"{path / CONFIG}: was not written by zoo.save; zoo.create('local-dir:...') reads what transformers "
            "or diffusers wrote"
        )
    return path


def _upgraded(data: dict[str, Any], where: Path) -> dict[str, Any]:
    """A config.json of the present format."""
    while data.get("format") in UPGRADES:
        data = UPGRADES[data["format"]](data)
    if data.get("format") != FORMAT:
        raise ConfigError(f"{where}: has format {data.get('format')!r}, this zoo reads up to {FORMAT}; upgrade zoo")
    return data


def read_index(index: Path, stem: str = "model") -> dict[str, str]:
    """Tensor -> file, as the index of a model in several files says, whose names begin with `stem`.

    Raises:
        DamagedFile: it is none, or names files that no model has.
    """
    places, known = read_json(index).get("weight_map"), re.compile(rf"{stem}(-\d{{5}}-of-\d{{5}})?\.safetensors")
    if not isinstance(places, dict) or not all(known.fullmatch(str(file)) for file in places.values()):
        raise DamagedFile(f"{index}: names files that no model has; use another copy")
    return places


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of bounded size; DamagedFile where there is none."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_JSON + 1)
        data = json.loads(text) if len(text) <= MAX_JSON else None
    except (ValueError, RecursionError, FileNotFoundError):
        data = None
    if not isinstance(data, dict):
        raise DamagedFile(f"{path}: missing, or no JSON object of at most {MAX_JSON} bytes; use another copy")
    return data
