"""Commands on pretrained weights: a bare preset stands for its default tag."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from zoo.training.run import RunConfig
from zoo.weights import remember

SAYS = {"mean": (0.3,), "std": (0.4,), "image_size": 8}


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch, no_report):
    """A world where resnet20 has the weights `mine`."""
    torch.manual_seed(0)
    model = zoo.create("resnet20", in_channels=1, num_classes=10)
    remember(model, labels=tuple("0123456789"), preprocessing=SAYS)
    zoo.save(model, tmp_path / "pretrained" / "ours")
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "resnet.yaml").write_text(
        "resnet20: {mine: {source: {bundled: ours}, license: apache-2.0, metrics: {accuracy: 0.1}, default: true}}\n"
    )
    monkeypatch.setattr("zoo.weights.cards.CARDS", tmp_path / "cards")
    monkeypatch.setattr("zoo.weights.cards.PRETRAINED", tmp_path / "pretrained")


def test_weights_are_listed_with_licence_and_metrics(run):
    (entry,) = json.loads(run("list", "--tags", "--json"))
    assert (entry["name"], entry["license"], entry["metrics"]) == ("resnet20.mine", "apache-2.0", {"accuracy": 0.1})
    assert [entry["name"] for entry in json.loads(run("list", "--pretrained", "--json"))] == ["resnet20"]
    assert run("list", "resnet20").splitlines()[1].split()[-1] == "mine"
    assert "accuracy 0.1" in run("list", "--tags")
    assert "1, of which mine is meant by pretrained=True" in run("info", "resnet20")


def test_a_bare_preset_predicts_by_its_default_weights(run, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((3, 8, 8)))
    answers = run("predict", "resnet20", tmp_path / "x.npy", "--json")
    assert answers == run("predict", "ResNet20.mine", tmp_path / "x.npy", "--json")
    assert len(json.loads(answers)) == 3


def test_a_bare_preset_is_evaluated_and_normalised_by_its_default_weights(run):
    bare = json.loads(run("evaluate", "resnet20", "--data", "digits", "--json"))
    full = json.loads(
        run("evaluate", "resnet20.mine", "--data", "digits", "data.mean=[0.3]", "data.std=[0.4]", "--json")
    )
    assert bare["loss"] == full["loss"]
    other = json.loads(run("evaluate", "resnet20", "--data", "digits", "data.normalize=none", "--json"))
    assert other["loss"] != full["loss"]


def test_a_bare_preset_is_fine_tuned_from_its_default_weights(run, tmp_path):
    words = ["--data", "digits", "data.classes=[3,4]", "trainer.steps=1", "trainer.freeze=backbone"]
    run("finetune", "resnet20", *words, "--out", tmp_path / "ft", "-q")
    config = RunConfig.read(tmp_path / "ft" / "config.yaml")
    assert (config.model["name"], config.model["num_classes"], config.data["mean"]) == ("resnet20.mine", 2, [0.3])
    old, new = zoo.load(tmp_path / "pretrained" / "ours"), zoo.load(tmp_path / "ft" / "model")
    assert torch.equal(old.stem.conv.weight, new.stem.conv.weight)
    shutil.rmtree(tmp_path / "ft")


@pytest.mark.parametrize(
    ("section", "kept"),
    [
        ("data: {name: digits, shift: 2, batch_size: 7}", {"shift": 2, "batch_size": 7}),
        ("data: {name: iris, val_fraction: 0.5, batch_size: 7}", {"val_fraction": 0.0, "batch_size": 7}),
        ("data: iris", {"batch_size": 64}),
        ("model: {name: gpt2, dim: 8}", {}),
    ],
    ids=["the same data", "other data", "other data by name", "another model"],
)
def test_a_config_for_fine_tuning_gives_way_to_the_words_on_the_line(section, kept, run, tmp_path):
    (tmp_path / "ft.yaml").write_text(f"{section}\ntrainer: {{steps: 1}}\n")
    run("finetune", "resnet20", tmp_path / "ft.yaml", "--data", "digits", "--out", tmp_path / "ft", "-q")
    config = RunConfig.read(tmp_path / "ft" / "config.yaml")
    assert (config.model["name"], config.data["name"]) == ("resnet20.mine", "digits")
    assert {key: config.data[key] for key in kept} == kept


@pytest.mark.parametrize("asked", [{}, {"image_size": 16, "in_channels": 3}], ids=["as the weights", "as asked"])
def test_photos_take_the_form_that_the_weights_expect(asked, run, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{number}.png")
    words = [f"data.{key}={value}" for key, value in asked.items()]
    run("finetune", "resnet20", *words, "--data", tmp_path / "photos", "trainer.steps=1", "--out", tmp_path / "x", "-q")
    config = RunConfig.read(tmp_path / "x" / "config.yaml")
    expected = {"image_size": 8, "in_channels": 1, **asked}
    assert {key: config.data[key] for key in expected} == expected
    assert config.model["in_channels"] == expected["in_channels"]
    assert (tuple(config.data["mean"]) == SAYS["mean"]) == (not asked)
