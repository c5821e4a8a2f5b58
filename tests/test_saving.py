"""Saving puts a whole folder in place or changes nothing, and refuses what could not be loaded again."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn
from toy_zoo import Toy, ToyConfig, same_state

import zoo

ROOT = Path(__file__).parents[1]


pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def model():
    return zoo.create("toy_wide", num_classes=6)


@pytest.fixture
def folder(model, tmp_path):
    return zoo.save(model, tmp_path / "pets")


def test_a_folder_with_other_things_is_never_replaced(model, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'notes\.txt', which no model does"):
        zoo.save(model, tmp_path)
    zoo.save(model, tmp_path / "pets")
    (tmp_path / "pets" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="give another folder"):
        zoo.save(model, tmp_path / "pets")
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"holds 'config\.json'"):
        zoo.save(model, tmp_path / "app")
    with pytest.raises(ValueError, match="is a file"):
        zoo.save(model, tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").read_text() == (tmp_path / "pets" / "notes.txt").read_text() == "mine"


def test_an_empty_folder_and_missing_parents_are_filled(model, tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "c"):
        assert same_state(model, zoo.load(zoo.save(model, folder)))


def test_a_linked_folder_is_replaced_behind_its_link(model, folder, tmp_path):
    (tmp_path / "link").symlink_to(folder)
    with torch.no_grad():
        model.head.bias.add_(1)
    zoo.save(model, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert same_state(model, zoo.load(folder))


@pytest.mark.parametrize("fault", ["full disk", "interrupted"])
def test_a_save_that_fails_leaves_the_model_before_and_nothing_else(model, folder, monkeypatch, fault):
    def fail(*_args, **_options):
        raise OSError(28, "No space left on device") if fault == "full disk" else KeyboardInterrupt

    monkeypatch.setattr("zoo.weights.tensors.save_file", fail)
    other = zoo.create("toy_wide", num_classes=6)
    with pytest.raises((OSError, KeyboardInterrupt)):
        zoo.save(other, folder)
    assert same_state(model, zoo.load(folder))
    assert [path.name for path in folder.parent.iterdir()] == ["pets"]


FULL = """
import resource, sys, torch, zoo
model = zoo.create("resnet20")
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    zoo.save(model, sys.argv[1])
except OSError as error:
    print("refused", error.filename)
"""


def test_the_system_s_own_refusal_to_write_is_an_os_error(tmp_path):
    before = zoo.create("resnet20")
    folder = zoo.save(before, tmp_path / "model")
    done = subprocess.run([sys.executable, "-c", FULL, folder], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")
    assert "model.safetensors" in done.stdout
    assert same_state(before, zoo.load(folder))
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


FOREVER = """
import sys, torch, zoo
model = zoo.create("resnet20")
print("begun", flush=True)
for step in range(10**6):
    model.head.bias.data.fill_(step)
    zoo.save(model, sys.argv[1])
"""


def test_a_killed_save_leaves_a_whole_model(tmp_path):
    folder = zoo.save(zoo.create("resnet20"), tmp_path / "model")
    rng = random.Random(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", FOREVER, folder], cwd=ROOT, stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert zoo.load(folder).load_report.loaded > 100


def test_what_could_not_be_loaded_is_not_saved(model, tmp_path):
    model.head = nn.Linear(8, 9)
    with pytest.raises(ValueError, match=r"'head.weight' is \(9, 8\), but \(6, 8\) by the model's config"):
        zoo.save(model, tmp_path / "a")
    model.head, model.extra = nn.Linear(8, 6), nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"'extra.weight' is \(1, 1\), but None"):
        zoo.save(model, tmp_path / "a")
    del model.extra
    model.blocks[1].weight = nn.Parameter(torch.zeros(8, 8))
    with pytest.raises(ValueError, match=r"blocks\.0\.weight, blocks\.1\.weight are one tensor"):
        zoo.save(model, tmp_path / "a")
    with pytest.raises(ValueError, match="meta device"):
        zoo.save(zoo.create("toy", device="meta"), tmp_path / "a")
    with pytest.raises(ValueError, match="Linear is the model of no registered architecture"):
        zoo.save(nn.Linear(1, 1), tmp_path / "a")
    bare = Toy(ToyConfig())
    bare.config = None
    with pytest.raises(ValueError, match=r"has a ToyConfig as \.config, not None"):
        zoo.save(bare, tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_compiled_model_is_saved_as_the_model(model, tmp_path):
    assert same_state(model, zoo.load(zoo.save(torch.compile(model), tmp_path / "a")))
