"""Commands that write a file: where it cannot appear, and what is never written into one."""

from pathlib import Path

import pytest
import torch

import zoo
import zoo.pipelines.export
import zoo.report.compare
from zoo.cli import main


@pytest.fixture
def fail(capsys):
    """Run a command that must fail; returns its exit code and the one line that it says."""

    def call(*words):
        code = main([str(word) for word in words])
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ")
        return code, line.removeprefix("error: ")

    return call


PLACES = {
    "a picture": ["sample", "gan", "--out", "{}.png"],
    "what moves": ["sample", "unet.digits", "--out", "fine.png", "--gif", "{}.gif"],
    "a file for elsewhere": ["export", "resnet20.digits", "--out", "{}.onnx"],
    "a page": ["report", "a_run", "b_run", "--out", "{}.html"],
}


@pytest.mark.parametrize("words", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    ("place", "rule"), [("folder", "a folder lies there"), ("file/x", "file is a file"), ("file/y/x", "file is a file")]
)
def test_a_place_where_no_file_can_appear_is_told_before_the_work(words, place, rule, fail, tmp_path, monkeypatch):
    def work(*_, **__):
        raise AssertionError("began to work")

    for name in ("zoo.pipelines.sample", "zoo.pipelines.export._program", "zoo.report.compare._entry"):
        monkeypatch.setattr(name, work)
    suffixes = {".png", ".gif", ".onnx", ".html"}
    for suffix in suffixes:
        (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / "file").write_text("of somebody")
    for run in ("a_run", "b_run"):
        (tmp_path / run).mkdir()
        (tmp_path / run / "config.yaml").touch()
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    code, line = fail(*(tmp_path / word.format(place) if Path(word).suffix in suffixes else word for word in words))
    assert (code, rule in line, "give another" in line) == (2, True, True), line
    assert line.startswith(str(tmp_path / place))
    assert sorted(tmp_path.rglob("*")) == before


def test_weights_that_are_not_finite_draw_no_picture_and_end_with_1(fail, tmp_path):
    model = zoo.create("gan", latent_dim=4, image_size=8, generator_width=4, discriminator_width=4)
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(float("nan"))
    zoo.save(model, tmp_path / "gan")
    code, line = fail("sample", tmp_path / "gan", "--out", tmp_path / "x.png")
    assert (code, "not finite" in line) == (1, True), line
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("name", ["gan", "vae"])
def test_a_preset_without_weights_draws_and_says_that_they_are_random(name, tmp_path, capsys):
    assert main(["sample", name, "--count", "2", "--out", str(tmp_path / "x.png")]) == 0
    assert f"warning: {name} names no weights, so these were random" in capsys.readouterr().err
    assert (tmp_path / "x.png").is_file()
