"""The demonstration shows what its runs gave, whatever that is."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import zoo
from zoo.cli import demo, few_shot
from zoo.training.assemble import load_data

ROOT = Path(__file__).parents[1]


def test_the_verdict_is_what_the_numbers_say():
    assert demo.verdict({"a": [0.9, 0.8], "b": [0.7, 0.85]}) == (
        "a minus b: +7.5 points on average, better in 1 of 2 draws."
    )
    assert "-10.0 points on average, better in 0 of 2" in demo.verdict({"a": [0.7, 0.7], "b": [0.8, 0.8]})


def test_a_row_ends_with_mean_and_standard_deviation():
    (row,) = demo.comparison_rows({"a": [0.9, 0.8, 0.7, 0.8, 0.8]})
    assert row == ["a", "90.0", "80.0", "70.0", "80.0", "80.0", "80.0 ± 7.1"]
    assert len(row) == len(demo.comparison_header())


def test_a_digit_is_drawn_in_shades_of_its_ink():
    lines = demo.drawing(np.array([[0.0, 0.5], [0.25, 1.0]]), "7, 90% sure", right=True).plain.splitlines()
    assert lines == ["  ▒▒", "░░██", "7, 90% sure ✓"]


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """A model that was trained, too shortly, on the old digits."""
    config = few_shot.old_digits(ROOT / "configs" / "resnet" / "resnet20-digits.yaml")
    values = {"model": {**config.model, "depths": [1]}, "data": config.data, "trainer": {"steps": 1}}
    folder = tmp_path_factory.mktemp("known")
    zoo.Trainer(zoo.RunConfig.of(values), out=folder / "run", quiet=True).fit()
    return folder / "run" / "model"


def test_each_arm_has_the_learning_rate_that_measured_best():
    measured = json.loads((ROOT / "benchmarks" / "few_shot.json").read_text())
    assert {arm: float(lr) for arm, lr in measured["best"].items()} == few_shot.RATES
    assert measured["steps"] == few_shot.STEPS


def test_both_arms_learn_from_five_images_of_each_new_digit(known):
    data = load_data(few_shot.shots(known, 3))
    batch = data.train.fetch(range(len(data.train)), None)
    assert torch.bincount(batch["target"]).tolist() == [few_shot.SHOTS] * 5
    assert data.spec.labels == ("5", "6", "7", "8", "9")
    assert list(data.spec.mean) == pytest.approx(list(zoo.load(known).provenance.preprocessing["mean"]))


def test_learning_rates_are_chosen_on_images_that_are_neither_shots_nor_tested(known, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.delitem(sys.modules, "few_shot", raising=False)
    import few_shot as benchmark

    held = benchmark.held_out(known, 100)
    assert not set(benchmark.SEEDS) & set(demo.SEEDS)
    assert len(held.train) + len(held.test) == len(load_data({"name": "digits", "classes": few_shot.NEW}).train)
    shots, others = ({image.numpy().tobytes() for image in part.images} for part in (held.train, held.test))
    assert not shots & others


def test_an_arm_is_the_same_when_it_is_run_again(known, monkeypatch):
    monkeypatch.setattr(few_shot, "STEPS", 2)
    once, again, other = (few_shot.new_digits("fine-tuned", known, seed, 0.01) for seed in (0, 0, 1))
    assert once == again
    assert 0 <= other <= 1


def test_what_is_saved_comes_back_or_the_demonstration_says_so(known, tmp_path, monkeypatch):
    run = demo.read_run(known.parent)
    demo.save_load_predict(Console(quiet=True), run, tmp_path / "saved")
    monkeypatch.setattr(zoo, "save", lambda model, folder: None)
    with torch.no_grad():
        next(run.model.parameters()).add_(1e-3)
    with pytest.raises(RuntimeError, match="does not give back"):
        demo.save_load_predict(Console(quiet=True), run, tmp_path / "saved")


@pytest.mark.slow
def test_the_demonstration_ends_with_its_page_and_can_be_repeated(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "EPOCHS", 1)
    monkeypatch.setattr(few_shot, "EPOCHS", 1)
    monkeypatch.setattr(few_shot, "STEPS", 2)
    monkeypatch.setattr(demo, "SEEDS", range(2))
    monkeypatch.setattr(demo, "GPT_CHANGES", [*demo.GPT_CHANGES, "trainer.steps=5"])
    for _ in range(2):
        path = demo.demo(tmp_path / "demo", ROOT / "configs")
    assert path.resolve().as_uri() in capsys.readouterr().out.replace("\n", "")
    assert {png.name for png in (tmp_path / "demo" / "report").iterdir()} == {
        "curves.png", "confusion.png", "mistakes.png", "samples.png", "few-shot.png",
    }  # fmt: skip
    text = path.read_text()
    for title in ("New digits from five images each", "A small GPT learns to write Python", "Repeat it"):
        assert title in text
