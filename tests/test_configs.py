"""Every recipe under configs/: its header says what was run, and its parts fit together."""

import re
import shlex
from pathlib import Path

import pytest

import zoo
from zoo.registry import ARCHITECTURES
from zoo.training.assemble import assemble
from zoo.training.optim import matches

ROOT = Path(__file__).parents[1]
RECIPES = sorted((ROOT / "configs").glob("**/*.yaml"))
each_recipe = pytest.mark.parametrize("path", RECIPES, ids=[path.stem for path in RECIPES])


def header(path):
    """The comment that a recipe opens with: what stands before the first word and a colon, then word -> text."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        lines.append(line[2:])
    entries, word = {"": ""}, ""
    for line in lines:
        found = re.match(r"(Command|Look|Time|Expect): +(.*)", line)
        if found:
            word, line = found.groups()
            assert word not in entries, f"{path.name} says {word} twice"
        entries[word] = f"{entries.get(word, '')} {line.strip()}".strip()
    return entries


def test_there_are_recipes():
    assert len(RECIPES) > 20


@each_recipe
def test_the_header_says_what_the_command_the_time_and_the_figure_to_expect(path):
    said = header(path)
    assert said[""].endswith("."), "a sentence says what is learnt"
    assert {"Command", "Time", "Expect"} <= said.keys()
    assert re.search("second|minute|hour", said["Time"])
    assert re.search(r"\d", said["Expect"])


@each_recipe
def test_the_header_s_commands_train_this_very_file_and_look_at_that_run(path):
    said, name = header(path), path.relative_to(ROOT).as_posix()
    assert shlex.split(said["Command"]) == ["zoo", "train", name, "--out", f"runs/{path.stem}"]
    if "Look" in said:
        assert shlex.split(said["Look"])[2] == f"runs/{path.stem}"


@each_recipe
def test_a_recipe_is_named_after_its_architecture_and_its_data(path):
    config = zoo.RunConfig.read(path)
    preset, _, data = path.stem.rpartition("-")
    assert ARCHITECTURES.find(preset).name == path.parent.name == ARCHITECTURES.find(config.model["name"]).name
    assert data == {"text": "stdlib"}.get(config.data["name"], config.data["name"])


@each_recipe
def test_model_data_objective_and_optimizer_fit_together(path):
    parts = assemble(zoo.RunConfig.read(path), None, None, None)
    names = [name for name, _ in parts.model.named_parameters()]
    for group in parts.config.optimizer.groups:
        for pattern in (group.match,) if isinstance(group.match, str) else group.match:
            assert any(matches(name, pattern) for name in names), f"no parameter's name fits {pattern}"
    said = re.search(r"(\d+) thousand parameters", header(path)[""])
    if said:
        assert int(said[1]) == round(sum(parameter.numel() for parameter in parts.model.parameters()) / 1000)
