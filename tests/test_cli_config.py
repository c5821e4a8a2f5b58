"""Configs to start from: what `zoo create-config` prints is one that trains, and suits model and data."""

import re
import warnings

import pytest
from shards import folder

import zoo
from zoo.cli import main
from zoo.training.run import RunConfig


@pytest.mark.parametrize(
    ("model", "data"), [("resnet20", "digits"), ("mlp", "iris"), ("gpt2", "text"), ("gan", "digits"), ("t5", "sorting")]
)
@pytest.mark.parametrize("uncomment", [False, True], ids=["as it is", "with every default"])
def test_a_created_config_is_one(model, data, uncomment, run, tmp_path):
    text = run("create-config", model, "--data", data)
    if uncomment:
        text = re.sub(r"^  #(\w+:)", r"  \1", text, flags=re.MULTILINE)
    (tmp_path / "config.yaml").write_text(text)
    config = RunConfig.read(tmp_path / "config.yaml")
    assert (config.model["name"], config.data["name"], config.trainer.steps) == (model, data, 1000)
    fields = {**config.model, **config.data}
    assert bool({"dropout", "depths", "latent_dim"} & set(fields)) == uncomment
    zoo.config(model, **{key: value for key, value in config.model.items() if key != "name"})


@pytest.mark.parametrize(
    ("model", "data", "words", "goal"),
    [
        ("lstm", "bouncing_ball", [], "forecasting"),
        ("rnn", "brackets", [], "classification"),
        ("mamba", "copying", [], "causal_lm"),
        ("bert", "docstrings", [], "sentence_embedding"),
        ("clip", "docstrings", ["model.vision=text"], "contrastive"),
        ("mlp", "diabetes", [], "regression"),
        ("t5", "text", ["model.vocab_size=356"], "span_corruption"),
        ("t5", "sorting", [], "seq2seq"),
    ],
)
def test_a_created_config_has_the_objective_that_the_data_ask_for(model, data, words, goal, run):
    assert f"objective:\n  name: {goal}\n" in run("create-config", model, "--data", data, *words)


def test_no_config_is_created_of_what_its_objective_would_refuse(capsys):
    assert main(["create-config", "clip", "--data", "docstrings"]) == 2
    assert "set model.vision=text" in capsys.readouterr().err


def test_a_config_created_for_weights_reads_photos_and_captions_as_they_do(run, tmp_path, no_report):
    folder(tmp_path / "photos", range(12))
    (tmp_path / "config.yaml").write_text(run("create-config", "clip.digits", "--data", tmp_path / "photos"))
    data = RunConfig.read(tmp_path / "config.yaml").data
    assert (data["image_size"], data["in_channels"], data["seq_len"]) == (8, 1, 27)
    run("train", tmp_path / "config.yaml", "trainer.steps=1", "--out", tmp_path / "run", "-q")


@pytest.mark.parametrize("command", ["evaluate", "finetune", "create-config"])
@pytest.mark.parametrize(("option", "own"), [("seq_len", 27), ("in_channels", 1)])
def test_data_that_weights_cannot_follow_are_refused_with_the_option_that_helps(command, option, own, tmp_path, capsys):
    folder(tmp_path / "photos", range(12))
    words = ["data.seq_len=27", "data.in_channels=1", f"data.{option}={own + 2}"]
    out = ["--out", str(tmp_path / "run")] if command == "finetune" else []
    assert main([command, "clip.digits", "--data", str(tmp_path / "photos"), *words, *out]) == 2
    assert f"give data.{option}={own}" in capsys.readouterr().err


@pytest.mark.parametrize(("model", "data", "size"), [("inception_v3", "digits", 107), ("r3d_18", "moving_digits", 32)])
def test_a_created_config_keeps_the_size_that_the_network_needs(model, data, size, run):
    assert f"image_size: {size}" in run("create-config", model, "--data", data, f"data.image_size={size}")


def test_a_created_config_prepares_photos_with_texts_as_the_network_takes_them(run, tmp_path):
    text = run("create-config", "clip_vit_b_16", "--data", folder(tmp_path, range(12)))
    for line in ("name: image_text", "image_size: 224", "name: contrastive", "max_seq_len, end_token."):
        assert line in text


@pytest.mark.parametrize(("words", "line"), [([], "#kernels: auto"), (["kernels=reference"], "kernels: reference")])
def test_a_created_config_says_which_kernels_run(words, line, run):
    assert run("create-config", "mlp", "--data", "iris", *words).endswith(f"\n{line}\n")


def test_a_network_that_cannot_be_tried_out_gets_its_config(run, monkeypatch):
    monkeypatch.setattr("zoo.architectures.mlp.MLP.forward", lambda _, features: features.sum().item())
    assert "name: mlp" in run("create-config", "mlp", "--data", "iris")


def test_a_created_config_warns_of_pictures_that_leave_a_single_position(capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["create-config", "inception_v3", "--data", "digits", "data.image_size=75"]) == 0
    assert "warning: the last feature map has only 1 x 1 positions" in capsys.readouterr().err


@pytest.mark.parametrize(("data", "goal"), [("diabetes", "regression"), ("wine", "classification")])
def test_a_created_config_learns_what_the_data_have(data, goal, run, tmp_path, no_report):
    (tmp_path / "config.yaml").write_text(run("create-config", "mlp", "--data", data))
    assert RunConfig.read(tmp_path / "config.yaml").objective["name"] == goal
    run("train", tmp_path / "config.yaml", "trainer.steps=1", "--out", tmp_path / "run", "-q")
