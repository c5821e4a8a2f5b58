"""From a name to the record of an architecture: discovery, plugins, and the guard over catalogue.

A file of `zoo/architectures` exports one `ARCHITECTURE`; importing it registers nothing. On first use
the registry lists the package, collects the records, and then asks the installed plugins (entry point
group `zoo_architectures`) unless `ZOO_PLUGINS=0`. Objectives and data sets are found the same way.
"""

import difflib
import importlib
import importlib.metadata
import os
import pkgutil
import re
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Generic, NamedTuple, TypeVar

import catalogue

Record = TypeVar("Record")

RESERVED = ("name", "pretrained", "weights", "verify", "device", "dtype", "endpoint")
"""The arguments of `zoo.create` itself, which no config may have as a field."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Everything the house knows about one architecture file."""

    name: str
    model: Callable[[Any], Any]
    """The nn.Module class; called with one instance of `config`."""
    config: type
    task: str
    """The Hub's pipeline_tag word for what the model does."""
    paper: str
    tiny: Any
    """A config that builds and runs in milliseconds, for tests."""
    presets: Mapping[str, Any]
    """Preset name -> config instance: the paper's table."""
    params: Mapping[str, int]
    """Preset name -> published number of parameters."""
    aliases: Mapping[str, str] = field(default_factory=dict)
    """Name known elsewhere -> preset or preset.tag."""

    def __post_init__(self) -> None:
        """Refuse what the house could not look up, build or save.

        Raises:
            ValueError: a name is not spelt `[a-z0-9_]+`, a field is one of `RESERVED`, a preset is no instance
                of `config`, a count or an alias belongs to no preset, or a name has two meanings.
        """
        if odd := [name for name in self.names() if not re.fullmatch("[a-z0-9_]+", name)]:
            raise ValueError(f"{self.name}: the name {odd[0]!r} has characters other than a-z, 0-9 and _; respell it")
        if taken := [field.name for field in fields(self.config) if field.name in RESERVED]:
            raise ValueError(f"{self.name}: the field {taken[0]!r} is an argument of zoo.create itself; rename it")
        if alien := [name for name, preset in self.presets.items() if not isinstance(preset, self.config)]:
            raise ValueError(f"{self.name}: preset {alien[0]!r} is no instance of {self.config.__name__}")
        targets = {alias: target.partition(".")[0] for alias, target in self.aliases.items()}
        targets |= {name: name for name in self.params}
        if lost := [name for name, target in targets.items() if target not in self.names()]:
            raise ValueError(f"{self.name}: {lost[0]!r} belongs to no preset; it has {', '.join(self.names())}")
        meanings = {name: name for name in self.names()}
        for alias, target in self.aliases.items():
            if meanings.setdefault(normalise(alias), target) != target:
                raise ValueError(f"{self.name}: {alias!r} has two meanings; keep one")

    def preset(self, name: str) -> Any:
        """The config of a preset; the architecture's own name stands for its config's defaults."""
        return self.presets[name] if name in self.presets else self.config()

    def names(self) -> list[str]:
        """Every preset, the architecture's own name first."""
        return [self.name, *(name for name in self.presets if name != self.name)]

    def target(self, name: str) -> str:
        """The preset, or preset.tag, that an alias in any spelling stands for; other names stand for themselves."""
        targets = {normalise(alias): target for alias, target in self.aliases.items()}
        return targets.get(normalise(name), normalise(name))


@dataclass(frozen=True, kw_only=True)
class Weights:
    """One tag of a preset: where its weights lie and all that belongs to them."""

    preset: str
    tag: str
    source: Mapping[str, Any]
    """`{bundled: file}`, `{torchvision: enum name}` or `{repo:, revision:, file:, sha256:}`.

    A repository's file is one of tensors, or the index of several; its sha256 is that file's, or one for each file
    name. `pinned: false` says that revision and sha256 could not be known when the card was written, `gated: true` that
    the owner asks for consent before a download, `tokenizer` which other repository has the tokenizer."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Config fields in which this tag differs from its preset."""
    license: str = "unknown"
    commercial: bool | None = None
    """Whether the licence permits commercial use; None where that is not known."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    label_set: str | None = None
    """A known list of labels instead: `imagenet-1k` or `kinetics-400`."""
    tokenizer: str | None = None
    """`tokenizer.json` where the weights read text by the one that lies beside them."""
    recipe: str | None = None
    """The config of this repository that trained it, where one did."""
    default: bool = False
    """Whether `pretrained=True` on the bare preset means this tag."""


class UnknownName(KeyError):
    """A name that nothing is registered under; its text is the whole message."""

    def __str__(self) -> str:
        return str(self.args[0])


def normalise(name: str) -> str:
    """Look-up ignores case and treats `-` as `_`."""
    return name.lower().replace("-", "_")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean a, b?` with the names that end in `name`, then those nearest to it, or the empty string."""
    known = list(known)
    longer = [each for each in known if name and each.endswith(f"_{name}")]
    close = list(dict.fromkeys([*longer, *difflib.get_close_matches(name, known, 3)]))[:3]
    return f"; did you mean {', '.join(close)}?" if close else ""


class Registry(Generic[Record]):
    """The guard around one catalogue namespace: built-ins win, duplicates fail, broken plugins are isolated."""

    def __init__(self, kind: str, package: str, attribute: str, claims: Callable[[Record], Iterable[str]]) -> None:
        """Describe where records come from; nothing is imported before the first look-up.

        Args:
            kind: the namespace; plugins use the entry point group `zoo_<kind>`.
            package: the package whose modules hold the built-in records.
            attribute: the constant that such a module exports: a record or a tuple of them.
            claims: every name a record answers to, its own first.
        """
        self.kind, self.package, self.attribute, self.claims = kind, package, attribute, claims
        self.catalogue = catalogue.create("zoo", kind)  # with entry_points=True a plugin would win over a built-in
        self._owners: dict[str, str] = {}  # every claimed name, normalised -> the record's own name
        self._loaded = False
        self._lock = threading.RLock()

    def records(self) -> dict[str, Record]:
        """All records by their own name; the first call discovers them."""
        with self._lock:
            if not self._loaded:
                self._loaded = True  # before the work, so that a plugin may look at the zoo while it is imported
                try:
                    self._discover()
                except BaseException:
                    self._loaded = False
                    self._owners.clear()
                    raise
            return {name: self.catalogue.get(name) for name in sorted(set(self._owners.values()))}

    def owner(self, name: str) -> Record | None:
        """The record that claims `name` in any spelling, or None."""
        self.records()
        owner = self._owners.get(normalise(name))
        return None if owner is None else self.catalogue.get(owner)

    def find(self, name: str) -> Record:
        """The record that claims `name`.

        Raises:
            UnknownName: no record does; the message gives the nearest names.
        """
        record = self.owner(name)
        if record is None:
            hint = did_you_mean(normalise(name), self._owners) or f"; known: {', '.join(self.records())}"
            raise UnknownName(f"unknown {self.kind.rstrip('s')} {name!r}{hint}")
        return record

    def register(self, record: Record) -> Record:
        """Add a record by hand, as a notebook does.

        Raises:
            ValueError: one of its names is taken. Re-running the cell that defines it, that is code in
                `__main__`, replaces the earlier definition.
        """
        self.records()
        with self._lock:
            own, before = next(iter(self.claims(record))), self._owners
            if _is_from_main(record) and own in before.values() and _is_from_main(self.catalogue.get(own)):
                self._owners = {name: owner for name, owner in before.items() if owner != own}
            try:
                self._add(record)
            except ValueError:
                self._owners = before
                raise
        return record

    def _discover(self) -> None:
        package = importlib.import_module(self.package)
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
            exported = getattr(importlib.import_module(f"{self.package}.{module.name}"), self.attribute, ())
            for record in exported if isinstance(exported, tuple) else (exported,):
                self._add(record)
        if os.environ.get("ZOO_PLUGINS", "1") == "0":
            return
        points = importlib.metadata.entry_points(group=f"zoo_{self.kind}")
        for point in sorted(points, key=lambda point: (point.name, point.value)):
            try:
                self._add(point.load())
            except (Exception, SystemExit) as error:  # isolated: another's package must not take the zoo down
                warnings.warn(
                    f"zoo plugin {point.name!r} ({point.value}) is left out: {type(error).__name__}: {error}; "
                    "ZOO_PLUGINS=0 leaves out all plugins",
                    stacklevel=2,
                )

    def _add(self, record: Record) -> None:
        own, *others = self.claims(record)
        claimed = dict.fromkeys(normalise(name) for name in (own, *others))
        taken = {name: self._owners[name] for name in claimed if name in self._owners}
        if taken:
            name, owner = next(iter(taken.items()))
            raise ValueError(f"{self.kind}: {own!r} claims the name {name!r}, which {owner!r} has already; rename one")
        self.catalogue.register(own, func=record)
        self._owners.update(dict.fromkeys(claimed, own))


def _is_from_main(record: Any) -> bool:
    parts = (record, getattr(record, "model", None), getattr(record, "load", None))
    return any(getattr(part, "__module__", None) == "__main__" for part in parts)


def _architecture_claims(architecture: Architecture) -> list[str]:
    if not isinstance(architecture, Architecture):
        raise TypeError(f"expected an Architecture record, got {type(architecture).__name__}")
    return [*architecture.names(), *architecture.aliases]


ARCHITECTURES: Registry[Architecture] = Registry(
    "architectures", "zoo.architectures", "ARCHITECTURE", _architecture_claims
)


def architecture_of(model: object) -> Architecture | None:
    """The record whose class a model has, or None."""
    return next((record for record in ARCHITECTURES.records().values() if record.model is type(model)), None)


class Resolved(NamedTuple):
    """What a name stands for."""

    architecture: Architecture
    preset: str
    tag: str | None
    config: Any


def register(architecture: Architecture) -> Architecture:
    """Add an architecture of your own to the running zoo; packages use the entry point group instead."""
    return ARCHITECTURES.register(architecture)


def resolve(name: str) -> Resolved:
    """Look up `preset`, `preset.tag` or an alias of either; a tag that is spelt out wins over an alias's own.

    Raises:
        UnknownName: no preset or alias matches; the message gives the nearest names.
    """
    base, tag = normalise(name), ""
    architecture = ARCHITECTURES.owner(base)
    if architecture is None:  # only now, for an alias may have dots of its own
        base, _, tag = base.partition(".")
        architecture = ARCHITECTURES.owner(base)
    if architecture is None:
        known = [name for found in ARCHITECTURES.records().values() for name in (*found.names(), *found.aliases)]
        folder = f"; for the folder of that name say local-dir:{name}" if os.path.isdir(name) else ""
        hint = folder or did_you_mean(re.sub(r"\W", "_", base), known) or "; `zoo list` shows all"
        raise UnknownName(f"unknown model {name!r}{hint}")
    preset, _, alias_tag = architecture.target(base).partition(".")
    return Resolved(architecture, preset, tag or alias_tag or None, architecture.preset(preset))
