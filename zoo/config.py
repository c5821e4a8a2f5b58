"""Dataclass <-> YAML and JSON, strictly: unknown keys and wrong types are errors that name the way out.

Values are checked against the field's annotation in pydantic's strict JSON mode, so a list fills a tuple
and an int a float, but nothing else is bent. YAML is read by the rules of YAML 1.2: `1e-3` is a number,
and `on`, `no`, `yes` are words (YAML 1.1, PyYAML's own dialect, disagrees with both).
"""

import dataclasses
import functools
import json
import math
import numbers
import os
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from zoo.registry import did_you_mean

T = TypeVar("T")


class ConfigError(ValueError):
    """A config that cannot be read; the message names the key, the rule and the remedy."""


class UnknownOption(ConfigError, TypeError):
    """A key that is no field; also a TypeError, as for any unknown keyword."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with YAML 1.2's numbers and booleans, and without silently overwritten keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key_node.start_mark)
            if key_node.value in seen:
                problem = f"key {key_node.value!r} stands twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = self.construct_scalar(node)
        return int(text, 0) if text.startswith(("0x", "0o")) else int(text, 10)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, regexp)
        for tag, regexp in resolvers
        if not tag.endswith((":bool", ":int", ":float", ":timestamp", ":value"))
    ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^(?:[-+]?\d+|0o[0-7]+|0x[\da-fA-F]+)$", re.ASCII), "-+0123456789"
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+|[-+]?(?:\d+\.\d*|\.\d+)|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    "-+0123456789.",
)


def read_yaml_text(text: str, where: str) -> Any:
    """Parse YAML.

    Raises:
        ConfigError: it is not YAML; the message gives line and column.
    """
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}{place}: not valid YAML: {problem}") from None
    except RecursionError:
        raise ConfigError(f"{where}: not valid YAML: nested too deeply") from None
    except (ValueError, LookupError, AttributeError) as error:  # PyYAML's, for tags such as `!!bool maybe`
        raise ConfigError(f"{where}: not valid YAML: a value does not fit its tag ({error})") from None


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file; see `read_yaml_text`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not valid YAML: not UTF-8 text (byte {error.start})") from None
    return read_yaml_text(text, str(path))


def to_yaml(value: Any) -> str:
    """A dataclass, or plain data, as YAML that `read_yaml` reads back equal."""
    data = to_dict(value) if dataclasses.is_dataclass(value) else value
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes by the loader's rules and writes short lists on one line."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def represent_plain_sequence(self, data: Any) -> yaml.Node:
        flow = all(isinstance(item, int | float | str) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


_Dumper.add_representer(list, _Dumper.represent_plain_sequence)
_Dumper.add_representer(tuple, _Dumper.represent_plain_sequence)


def to_dict(config: Any) -> dict[str, Any]:
    """Every field of a dataclass as plain data: tuples become lists, nested dataclasses mappings."""
    return {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, numbers.Real) and not isinstance(value, bool | int | float):  # numpy's, say
        return int(value) if isinstance(value, numbers.Integral) else float(value)
    return value


def build(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Build a dataclass from plain data, strictly.

    Args:
        cls: the dataclass.
        values: its fields; what is missing takes the field's default.
        where: what the data are, for messages: "resnet18", "trainer".

    Raises:
        ConfigError: a value has the wrong type, a field without default is missing, or values contradict.
        UnknownOption: a key is no field of `cls`.
    """
    checked = _check_fields(cls, values, where)
    missing = [
        field.name
        for field in dataclasses.fields(cls)  # pyright: ignore[reportArgumentType] - any dataclass type
        if field.name not in checked and field.default is field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise ConfigError(f"{where}: {missing[0]!r} is missing and has no default; give it a value")
    return _construct(lambda: cls(**checked), where)


def replace(config: T, values: Mapping[str, Any], where: str, also: Iterable[str] = ()) -> T:
    """A copy of a dataclass instance with some fields changed; errors as for `build`.

    Args:
        config: the instance.
        values: the fields that change.
        where: what the data are, for messages.
        also: further words that the caller understands, for "did you mean".
    """
    checked = _check_fields(type(config), values, where, also)
    return _construct(lambda: dataclasses.replace(config, **checked), where)  # pyright: ignore[reportArgumentType, reportReturnType]


def _construct(make: Callable[[], T], where: str) -> T:
    try:
        return make()
    except ConfigError:
        raise
    except ValueError as error:  # a contradiction that __post_init__ found
        raise ConfigError(f"{where}: {error}") from None


def _check_fields(cls: type, values: Mapping[str, Any], where: str, also: Iterable[str] = ()) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected a mapping of options, got {values!r}; write `key: value` pairs")
    types = _types(cls)
    checked = {}
    for key, value in values.items():
        if key not in types:
            hint = did_you_mean(str(key), [*types, *also]) or f"; it has {', '.join(types) or 'no options'}"
            raise UnknownOption(f"{where}: unknown option {key!r}{hint}")
        checked[key] = _check(types[key], value, where, key)
    return checked


@functools.cache
def _types(cls: type) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


@functools.cache
def _adapter(annotation: Any) -> Any:
    import pydantic  # here, for listing models should not pay for it

    return pydantic.TypeAdapter(annotation)


def _check(annotation: Any, value: Any, where: str, key: str) -> Any:
    name = f"{where}.{key}"
    if dataclasses.is_dataclass(annotation):
        return value if isinstance(value, annotation) else build(annotation, value, name)  # pyright: ignore[reportArgumentType]
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple and arguments and dataclasses.is_dataclass(arguments[0]):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}: expected a list, got {value!r}")
        return tuple(_check(arguments[0], item, where, f"{key}[{i}]") for i, item in enumerate(value))
    if not _finite(value):
        raise ConfigError(f"{where}: {key} must be {_describe(annotation)}, and finite, got {value!r}")
    try:
        text = json.dumps(_plain(value))
    except (TypeError, RecursionError):
        raise ConfigError(f"{where}: {key} must be {_describe(annotation)}, got {value!r}") from None
    try:
        return _adapter(annotation).validate_json(text, strict=True)
    except ValueError:  # pydantic's ValidationError
        raise ConfigError(f"{where}: {key} must be {_describe(annotation)}, got {value!r}") from None


def _finite(value: Any) -> bool:
    """Whether no number in plain data is NaN or infinite, which no setting means."""
    if isinstance(value, list | tuple):
        return all(_finite(item) for item in value)
    return not isinstance(value, float) or math.isfinite(value)


def _describe(annotation: Any) -> str:
    """An annotation in a reader's words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (tuple, list):
        items = [_describe(argument) for argument in arguments if argument is not Ellipsis]
        length = "" if Ellipsis in arguments or origin is list else f" of length {len(items)}"
        return f"a list{length}, each item {' or '.join(dict.fromkeys(items))}"
    if origin is not None and arguments and origin not in (dict, Mapping):
        return " or ".join(_describe(argument) for argument in arguments)
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words.get(annotation, "a mapping" if origin else getattr(annotation, "__name__", str(annotation)))


def parse_overrides(overrides: list[str]) -> dict[str, Any]:
    """Turn `["trainer.steps=10", "model.depths=[1, 1]"]` into nested mappings; values are YAML.

    Raises:
        ConfigError: a word has no `=`, an empty key, or sets a key both to a value and to a section.
    """
    nested: dict[str, Any] = {}
    for word in overrides:
        key, equals, text = word.partition("=")
        parts = key.split(".")
        if not equals or not all(parts):
            raise ConfigError(f"{word!r} is no override; write key=value or section.key=value")
        section = nested
        for part in parts[:-1]:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{word!r}: {part!r} already has a value, so it cannot have keys of its own")
        if isinstance(section.get(parts[-1]), dict):
            raise ConfigError(f"{word!r}: {key!r} already has keys of its own, so it cannot have a value")
        section[parts[-1]] = read_yaml_text(text, word)
    return nested


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the values of `over` laid on top, section by section."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = merge(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as `section.key` -> value, the form in which overrides are written."""
    flat = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys at which flat settings are not all alike, section by section; a missing key differs from any value."""
    keys = list(dict.fromkeys(key for values in settings for key in values))
    sections = list(dict.fromkeys(key.partition(".")[0] for key in keys))
    alike = [all(key in values and values[key] == settings[0].get(key) for values in settings) for key in keys]
    different = [key for key, same in zip(keys, alike, strict=True) if not same]
    return sorted(different, key=lambda key: sections.index(key.partition(".")[0]))
