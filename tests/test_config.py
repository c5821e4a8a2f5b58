"""Configs are read strictly: what is written is what is meant, and everything else is one clear line."""

import ast
import math
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from zoo.config import (
    ConfigError,
    UnknownOption,
    build,
    merge,
    parse_overrides,
    read_yaml,
    read_yaml_text,
    replace,
    to_dict,
    to_yaml,
)

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Part:
    match: str
    lr: float | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    steps: int = 1
    lr: float = 0.1
    fast: bool = False
    name: str = "x"
    depths: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.9, 0.99)
    kind: Literal["sgd", "adamw"] = "sgd"
    seed: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    freeze: str | tuple[str, ...] = ()
    part: Part = Part("*")
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise ValueError(f"steps {self.steps} is negative")


@dataclass(frozen=True)
class Needy:
    path: str


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E+3", 1000.0),
        ("-.5", -0.5),
        ("+1.5e2", 150.0),
        ("1.", 1.0),
        (".inf", math.inf),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("no", "no"),
        ("Yes", "Yes"),
        ("y", "y"),
        ("1:30", "1:30"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2024-01-01", "2024-01-01"),
        ("=", "="),
        ("~", None),
        ("null", None),
        ("", None),
        ("'1e-3'", "1e-3"),
        ("e3", "e3"),
        ("1e", "1e"),
        ("0b11", "0b11"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text, value):
    read = read_yaml_text(text, "here")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", r"here, line 1, column 5: not valid YAML"),
        ("a: 1\nb: 2\na: 3", r"line 3, column 1: .*key 'a' stands twice"),
        ("? [a]\n: 3", r"a key must be a word"),
        ("a: [1", r"not valid YAML"),
        ("--- 1\n--- 2", r"another document"),
        ("!!python/object/apply:os.system [ls]", r"could not determine a constructor"),
        ("!!int abc", r"does not fit its tag"),
        ("!!bool maybe", r"does not fit its tag"),
        ("!!timestamp 3", r"does not fit its tag"),
        ("[" * 5000, r"nested too deeply"),
        ("\0", r"special characters"),
    ],
    ids=range(11),
)
def test_what_is_no_yaml_is_one_line_that_names_the_place(text, message):
    with pytest.raises(ConfigError, match=message) as caught:
        read_yaml_text(text, "here")
    assert str(caught.value).startswith("here")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_no_yaml(tmp_path):
    (tmp_path / "a.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"a\.yaml: not valid YAML: not UTF-8 text \(byte 3\)"):
        read_yaml(tmp_path / "a.yaml")


def random_value(rng: random.Random, depth: int = 0) -> Any:
    kinds = ["int", "float", "text", "word", "bool", "none"] + (["list", "map"] if depth < 3 else [])
    kind = rng.choice(kinds)
    if kind == "list":
        return [random_value(rng, depth + 1) for _ in range(rng.randrange(4))]
    if kind == "map":
        return {random_text(rng): random_value(rng, depth + 1) for _ in range(rng.randrange(4))}
    words = [
        "on",
        "no",
        "1e-3",
        "010",
        "1:30",
        "null",
        "~",
        ".inf",
        "0x1F",
        "true",
        "=",
        "<<",
        "- a",
        "#",
        "a: b",
        "&a",
    ]
    makers = {
        "int": lambda: rng.randrange(-(10**12), 10**12),
        "float": lambda: rng.choice([rng.uniform(-1, 1) * 10 ** rng.randrange(-300, 300), math.inf, 1e-5, 0.0]),
        "text": lambda: random_text(rng),
        "word": lambda: rng.choice(words),
        "bool": lambda: rng.random() < 0.5,
        "none": lambda: None,
    }
    return makers[kind]()


def random_text(rng: random.Random) -> str:
    return "".join(rng.choice("ab01.:-+ e_#'\"\n\té漢{}[],&*!|>%@`?=~") for _ in range(rng.randrange(8)))


def test_yaml_gives_back_what_was_written():
    for seed in range(1000):
        value = {"value": random_value(random.Random(seed))}
        assert read_yaml_text(to_yaml(value), "here") == value, seed


def test_a_config_survives_yaml():
    config = Whole(
        lr=1e-5, depths=(), kind="adamw", options={"a": {"b": [1, "on"]}}, freeze=("a.*",), part=Part("é", 1e-3),
        parts=(Part("on"), Part("1e-3", 0.5)),
    )  # fmt: skip
    assert build(Whole, read_yaml_text(to_yaml(config), "here"), "run") == config


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"lr": 1}, Whole(lr=1.0)),
        ({"depths": [3]}, Whole(depths=(3,))),
        ({"steps": np.int64(4), "lr": np.float32(0.5)}, Whole(steps=4, lr=0.5)),
        ({"name": Path("a/b")}, Whole(name="a/b")),
        ({"freeze": "head.*"}, Whole(freeze="head.*")),
        ({"freeze": ["a", "b"]}, Whole(freeze=("a", "b"))),
        ({"part": {"match": "a", "lr": 1}}, Whole(part=Part("a", 1.0))),
        ({"parts": [{"match": "a"}, Part("b")]}, Whole(parts=(Part("a"), Part("b")))),
        ({"seed": None}, Whole()),
    ],
    ids=str,
)
def test_values_take_the_type_of_their_field(values, expected):
    config = build(Whole, values, "run")
    assert config == expected
    assert [type(value) for value in vars(config).values()] == [type(value) for value in vars(expected).values()]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": "10"}, "run: steps must be a whole number, got '10'"),
        ({"steps": True}, "run: steps must be a whole number, got True"),
        ({"steps": 3.0}, "run: steps must be a whole number, got 3.0"),
        ({"steps": None}, "run: steps must be a whole number, got None"),
        ({"steps": print}, "run: steps must be a whole number, got <built-in function print>"),
        ({"lr": "fast"}, "run: lr must be a number, got 'fast'"),
        ({"lr": True}, "run: lr must be a number, got True"),
        ({"fast": 1}, "run: fast must be true or false, got 1"),
        ({"name": 5}, "run: name must be text, got 5"),
        ({"depths": 3}, "run: depths must be a list, each item a whole number, got 3"),
        ({"depths": [1, 2.5]}, "run: depths must be a list, each item a whole number, got [1, 2.5]"),
        ({"betas": [1]}, "run: betas must be a list of length 2, each item a number, got [1]"),
        ({"kind": "sdg"}, "run: kind must be one of sgd, adamw, got 'sdg'"),
        ({"seed": "x"}, "run: seed must be a whole number or null, got 'x'"),
        ({"options": 3}, "run: options must be a mapping, got 3"),
        ({"part": 3}, "run.part: expected a mapping of options, got 3; write `key: value` pairs"),
        ({"part": {"match": 3}}, "run.part: match must be text, got 3"),
        ({"part": {}}, "run.part: 'match' is missing and has no default; give it a value"),
        ({"parts": {"match": "a"}}, "run.parts: expected a list, got {'match': 'a'}"),
        ({"parts": [{"match": "a"}, {"mach": "b"}]}, "run.parts[1]: unknown option 'mach'; did you mean match?"),
        ({"step": 3}, "run: unknown option 'step'; did you mean steps?"),
        ({7: 3}, "run: unknown option 7; it has steps, lr,"),
        ({"steps": -1}, "run: steps -1 is negative"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_one_line_with_value_and_rule(values, message):
    with pytest.raises(ConfigError) as caught:
        build(Whole, values, "run")
    assert str(caught.value).startswith(message)


def test_an_unknown_option_is_also_a_type_error_as_for_any_keyword():
    with pytest.raises(TypeError):
        build(Whole, {"stepz": 3}, "run")
    assert issubclass(UnknownOption, ValueError)


def test_a_field_without_default_must_be_given():
    with pytest.raises(ConfigError, match="data: 'path' is missing"):
        build(Needy, {}, "data")


def test_replacing_checks_like_building():
    assert replace(Whole(steps=3), {"lr": 1}, "run") == Whole(steps=3, lr=1.0)
    with pytest.raises(ConfigError, match="steps -2 is negative"):
        replace(Whole(), {"steps": -2}, "run")
    with pytest.raises(UnknownOption, match="did you mean pretrained"):
        replace(Whole(), {"pretraned": True}, "run", also=["pretrained"])


def test_overrides_are_yaml_and_nest():
    words = ["trainer.steps=10", "model.depths=[1, 1]", "name=a=b", "optimizer.lr=1e-3", "model.stem=on", "seed="]
    assert parse_overrides(words) == {
        "trainer": {"steps": 10},
        "model": {"depths": [1, 1], "stem": "on"},
        "name": "a=b",
        "optimizer": {"lr": 0.001},
        "seed": None,
    }


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["steps"], "'steps' is no override"),
        (["=3"], "'=3' is no override"),
        (["a..b=1"], "'a..b=1' is no override"),
        (["a=1", "a.b=2"], "'a.b=2': 'a' already has a value"),
        (["a.b=2", "a=1"], "'a=1': 'a' already has keys"),
        (["a=[1"], "a=[1, line 1"),
    ],
    ids=" ".join,
)
def test_an_override_that_cannot_be_is_named(words, message):
    with pytest.raises(ConfigError) as caught:
        parse_overrides(words)
    assert str(caught.value).startswith(message)


def test_merging_goes_section_by_section():
    base = {"model": {"name": "a", "width": 3}, "steps": 1}
    assert merge(base, {"model": {"width": 4}, "steps": {"x": 1}}) == {
        "model": {"name": "a", "width": 4},
        "steps": {"x": 1},
    }
    assert base["model"]["width"] == 3


def test_a_dataclass_becomes_plain_data():
    assert to_dict(Whole(parts=(Part("a"),)))["parts"] == [{"match": "a", "lr": None}]


ORDERS = {
    "function first": "import zoo; f = zoo.config; import zoo.config",
    "module first": "import zoo; from zoo.config import build; import zoo.config; f = zoo.config",
    "by the package": "from zoo import config as f; import zoo.training.run, zoo.config; import zoo",
}


@pytest.mark.parametrize("order", ORDERS)
def test_the_function_zoo_config_is_never_hidden_by_the_file_of_that_name(order):
    program = f"{ORDERS[order]}\nassert f is zoo.config, zoo.config\nassert zoo.config('resnet20').num_classes == 10"
    program += (
        "\nfrom zoo.config import build, ConfigError\nassert callable(build) and issubclass(ConfigError, ValueError)"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize("path", sorted((ROOT / "zoo").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_is_imported_by_names(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
        package = "" if isinstance(node, ast.Import) else f"{getattr(node, 'module', '')}."
        assert "zoo.config" not in [package + name for name in names], (
            f"line {node.lineno}: zoo.config is a function; write `from zoo.config import ...`"
        )
