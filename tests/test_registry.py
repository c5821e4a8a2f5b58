"""Names find their records; clashes, broken records and unknown names say what is wrong."""

import inspect
import sys
import threading
from dataclasses import dataclass, fields

import pytest
from toy_zoo import Toy, ToyConfig, architecture, registered

import zoo
from zoo.registry import ARCHITECTURES, RESERVED, Registry, UnknownName, resolve


@pytest.mark.parametrize("name", ["toy_wide", "TOY_WIDE", "toy-wide", "Toy-Wide"])
def test_case_and_dashes_do_not_matter(name):
    with registered(architecture()):
        assert resolve(name).preset == "toy_wide"
        assert resolve(name).config == ToyConfig(width=8)


def test_an_architecture_s_own_name_stands_for_its_config_s_defaults():
    with registered(architecture()):
        found = resolve("toy")
        assert (found.architecture.name, found.preset, found.tag, found.config) == ("toy", "toy", None, ToyConfig())


ALIASES = {"acme/Toy-1.4b": "toy_wide", "toy_b16": "toy_wide.a1_in1k", "broad-toy": "toy_wide"}


@pytest.mark.parametrize(
    ("name", "preset", "tag"),
    [
        ("acme/toy-1.4b", "toy_wide", None),
        ("ACME/TOY_1.4B", "toy_wide", None),
        ("toy-b16", "toy_wide", "a1_in1k"),
        ("toy_b16.b2", "toy_wide", "b2"),
        ("broad_toy.a1", "toy_wide", "a1"),
        ("toy_wide.A1-in1k", "toy_wide", "a1_in1k"),
        ("toy.a.b", "toy", "a.b"),
    ],
)
def test_aliases_stand_for_a_preset_or_its_weights(name, preset, tag):
    with registered(architecture(aliases=ALIASES)):
        found = resolve(name)
        assert (found.preset, found.tag) == (preset, tag)
        assert found.config == found.architecture.preset(preset)


@pytest.mark.parametrize(
    ("name", "nearest"), [("toy_wode", "toy_wide"), ("Toy-Wade.a1", "toy_wide"), ("brod-toy", "broad-toy")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name, nearest):
    with registered(architecture(aliases=ALIASES)), pytest.raises(UnknownName) as caught:
        resolve(name)
    assert repr(name) in str(caught.value)
    assert nearest in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_like_nothing_says_where_to_look():
    with pytest.raises(UnknownName, match=r"'qqqqqq'.*zoo list"):
        resolve("qqqqqq")
    with pytest.raises(UnknownName, match=r"architecture 'qqqqqq'; known: .*resnet"):
        ARCHITECTURES.find("qqqqqq")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "toy"},
        {"name": "other", "presets": {"toy_wide": ToyConfig()}},
        {"name": "other", "presets": {"toy": ToyConfig()}},
        {"name": "other", "aliases": {"Toy-Wide": "other"}},
        {"name": "broad_toy"},
    ],
    ids=["own name", "preset", "preset like a name", "alias", "name like an alias"],
)
def test_a_name_that_is_taken_is_refused_and_nothing_changes(changes):
    with registered(architecture(aliases=ALIASES)):
        before = dict(ARCHITECTURES._owners)
        with pytest.raises(ValueError, match=r"which 'toy' has already; rename one"):
            zoo.register(architecture(**changes))
        assert ARCHITECTURES._owners == before
        assert resolve("toy_wide").config == ToyConfig(width=8)


class Cell(Toy):
    """As if it were defined in a notebook."""


Cell.__module__ = "__main__"


def test_running_a_notebook_cell_again_replaces_its_architecture():
    with registered():
        zoo.register(architecture(model=Cell, presets={"first": ToyConfig()}))
        zoo.register(architecture(model=Cell, presets={"second": ToyConfig()}))
        assert resolve("second").architecture.name == "toy"
        with pytest.raises(UnknownName):
            resolve("first")


def test_a_redefinition_that_clashes_leaves_the_one_before():
    with registered(architecture("other")):
        zoo.register(architecture(model=Cell))
        with pytest.raises(ValueError, match="'other_wide'"):
            zoo.register(architecture(model=Cell, presets={"other_wide": ToyConfig()}))
        assert resolve("toy_wide").architecture.name == "toy"


def test_a_notebook_does_not_replace_what_is_built_in():
    with registered(), pytest.raises(ValueError, match="'resnet'"):
        zoo.register(architecture("resnet", model=Cell, presets={}))


@dataclass(frozen=True, kw_only=True)
class Greedy:
    device: str = "cpu"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Toy"}, "'Toy' has characters"),
        ({"presets": {"toy-b": ToyConfig()}}, "'toy-b' has characters"),
        ({"presets": {"toy_b": {"width": 3}}}, "preset 'toy_b' is no instance of ToyConfig"),
        ({"config": Greedy, "presets": {}}, "'device' is an argument of zoo.create"),
        ({"params": {"toy_c": 3}}, "'toy_c' belongs to no preset"),
        ({"aliases": {"c": "toy_c.tag"}}, "'c' belongs to no preset"),
        ({"aliases": {"TOY": "toy_wide"}}, "'TOY' has two meanings"),
        ({"aliases": {"a-b": "toy_wide", "a_b": "toy"}}, "'a_b' has two meanings"),
    ],
)
def test_a_record_that_could_not_be_looked_up_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        architecture(**changes)


def test_the_reserved_words_are_create_s_own_arguments():
    signature = inspect.signature(zoo.create)
    assert tuple(p.name for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD) == RESERVED


@pytest.mark.parametrize("record", ARCHITECTURES.records().values(), ids=lambda record: record.name)
def test_no_field_is_named_like_an_argument_of_create(record):
    assert not {field.name for field in fields(record.config)} & set(RESERVED)


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An importable package with a module `fine` that exports RECORDS, and a registry over it."""
    folder = tmp_path / "pets"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "fine.py").write_text("RECORDS = ('cat', 'dog')")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder, Registry(f"pets_{tmp_path.name}", "pets", "RECORDS", lambda record: [record])
    for name in [name for name in sys.modules if name.split(".")[0] == "pets"]:
        del sys.modules[name]


def test_nothing_is_imported_before_the_first_look_up(package):
    _, registry = package
    assert "pets" not in sys.modules
    assert registry.find("Cat") == "cat"
    assert "pets.fine" in sys.modules


def test_a_broken_built_in_is_the_same_error_every_time(package):
    folder, registry = package
    (folder / "worse.py").write_text("raise ImportError('torn')")
    for _ in range(2):
        with pytest.raises(ImportError, match="torn"):
            registry.records()
    (folder / "worse.py").unlink()
    assert set(registry.records()) == {"cat", "dog"}


def test_two_built_ins_of_one_name_are_an_error(package):
    folder, registry = package
    (folder / "worse.py").write_text("RECORDS = ('dog',)")
    with pytest.raises(ValueError, match="'dog' claims the name 'dog'"):
        registry.records()


def test_threads_that_look_at_once_all_see_everything(package):
    _, registry = package
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(set(registry.records()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [{"cat", "dog"}] * 8
