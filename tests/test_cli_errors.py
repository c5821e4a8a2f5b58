"""Mistakes and failures on the command line: one line on standard error, and the right exit code."""

import errno
import json
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import zoo
from zoo.cli import main
from zoo.cli.errors import LONGEST

CONFIG = """
model: {name: resnet, depths: [1, 1], block: basic, width: 8, stem: small}
data: {name: digits}
trainer: {steps: 2, checkpoint_every: 1, device: cpu}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a config, a run, a saved generator, and files that are wrong in many ways."""
    base = tmp_path_factory.mktemp("errors")
    before = os.getcwd()
    os.chdir(base)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("zoo.report.run_page", lambda folder: folder / "report.html")
        (base / "ok.yaml").write_text(CONFIG)
        assert main(["train", "ok.yaml", "--out", "run", "-q"]) == 0
    os.chdir(before)
    torch.manual_seed(0)
    zoo.save(zoo.create("gan", latent_dim=4, image_size=8, generator_width=4, discriminator_width=4), base / "gan")
    (base / "gan.yaml").write_text("model: gan\ndata: {name: digits, normalize: range}\ntrainer: {steps: 1}\n")
    rebuilding = zoo.create("autoencoder", image_size=8, in_channels=1)
    zoo.weights.remember(rebuilding, preprocessing={"mean": [0.0], "std": [1.0], "image_size": 8})
    zoo.save(rebuilding, base / "rebuilding")
    np.save(base / "flat8.npy", np.zeros((2, 8, 8)))
    (base / "mlp.yaml").write_text("model: mlp\ndata: digits\n")
    (base / "bad.yaml").write_text("model: [resnet\n")
    (base / "list.yaml").write_text("- 1\n")
    (base / "typo.yaml").write_text(CONFIG.replace("steps", "stepz"))
    (base / "word.yaml").write_text(CONFIG.replace("2", "soon"))
    (base / "shapes.yaml").write_text(CONFIG.replace("width: 8", "width: 8, in_channels: 3"))
    (base / "unfinished").mkdir()
    (base / "unfinished" / "config.yaml").write_text(CONFIG)
    (base / "empty").mkdir()
    np.save(base / "number.npy", np.float64(3))
    np.save(base / "flat.npy", np.zeros((4, 64)))
    (base / "noise.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing of the kind")
    (base / "rows.csv").write_text("1,2,3\n")
    np.save(base / "colour.npy", np.zeros((2, 3, 8, 8), dtype=np.float32))
    np.save(base / "loud.npy", np.full((2, 8, 8), 16.0))
    np.save(base / "nan.npy", np.full((2, 8, 8), np.nan))
    np.savez(base / "two.npz", a=np.zeros(1), b=np.zeros(1))
    np.save(base / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    (base / "cut.npy").write_bytes((base / "loud.npy").read_bytes()[:200])
    return base


@pytest.fixture
def fail(made, capsys, monkeypatch):
    """Run a command that must fail; returns its exit code and the one line that it says."""
    monkeypatch.chdir(made)

    def call(*words):
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        lines = captured.err.splitlines()
        assert len(lines) == 1, captured.err
        assert lines[0].startswith("error: ")
        return code, lines[0].removeprefix("error: ")

    return call


REQUESTS = {
    "a command": (["trian"], ["trian", "train"]),
    "an option": (["list", "--jsn"], ["--jsn", "--json"]),
    "an argument": (["info"], ["MODEL", "zoo info --help"]),
    "an option's value": (["predict", "run", "cut.npy", "--top", "many"], ["--top", "many"]),
    "a part": (["evaluate", "run", "--split", "best"], ["best", "test"]),
    "no output": (["train", "ok.yaml"], ["--out"]),
    "a pattern": (["list", "rasnet"], ["'rasnet'", "did you mean", "resnet"]),
    "a task": (["list", "--task", "image-clasification"], ["image-classification"]),
    "a licence": (["list", "--license", "MITT"], ["'MITT'", "commercial-ok", "bsd-3-clause"]),
    "nothing left": (["list", "gpt2", "--license", "cc-by-nc-4.0"], ["no model fits"]),
    "a model": (["info", "resnet81"], ["'resnet81'", "resnet18"]),
    "a tag": (["info", "resnet18.nothing"], ["resnet18", "nothing"]),
    "the model of a config": (["train", "ok.yaml", "model.name=rasnet", "--out", "x"], ["'rasnet'", "resnet"]),
    "a folder": (["evaluate", "local-dir:nowhere"], ["nowhere"]),
    "a run that has not ended": (["evaluate", "unfinished"], ["unfinished", "--resume"]),
    "a config file": (["train", "nosuch.yaml", "--out", "x"], ["nosuch.yaml", "no such file"]),
    "a folder for a config": (["train", "empty", "--out", "x"], ["empty", "directory"]),
    "bad YAML": (["train", "bad.yaml", "--out", "x"], ["bad.yaml", "line", "YAML"]),
    "YAML that is a list": (["train", "list.yaml", "--out", "x"], ["list.yaml", "sections"]),
    "a key": (["train", "typo.yaml", "--out", "x"], ["'stepz'", "steps"]),
    "a value": (["train", "word.yaml", "--out", "x"], ["steps", "soon"]),
    "an override": (["train", "ok.yaml", "trainer.stps=3", "--out", "x"], ["'stps'", "steps"]),
    "no override": (["train", "ok.yaml", "steps", "--out", "x"], ["'steps'", "key=value"]),
    "a field": (["train", "ok.yaml", "model.widht=3", "--out", "x"], ["'widht'", "width"]),
    "a contradiction": (["train", "ok.yaml", "trainer.epochs=3", "--out", "x"], ["steps", "epochs"]),
    "shapes that do not fit": (["train", "shapes.yaml", "--out", "x"], ["in_channels"]),
    "a device": (["train", "ok.yaml", "trainer.device=abacus", "--out", "x"], ["abacus"]),
    "an objective": (["train", "ok.yaml", "objective.name=clasification", "--out", "x"], ["classification"]),
    "a run that is there": (["train", "ok.yaml", "--out", "run"], ["run", "--resume"]),
    "a run of another config": (["train", "ok.yaml", "trainer.seed=1", "--out", "run", "--resume"], ["trainer.seed"]),
    "a data set": (["evaluate", "run", "--data", "digitz"], ["'digitz'", "digits"]),
    "a data path": (["finetune", "run", "--data", "no/where", "--out", "x"], ["no/where"]),
    "data of another kind": (["evaluate", "run", "--data", "iris"], ["'image'", "features"]),
    "no data": (["evaluate", "local-dir:run"], ["--data"]),
    "other classes": (["evaluate", "run", "--data", "digits", "data.classes=[5,6]"], ["the classes 0, 1", "5, 6"]),
    "no such part": (["evaluate", "run", "--split", "val"], ["val", "test"]),
    "weights that are not there": (["finetune", "resnet32", "--data", "digits", "--out", "x"], ["resnet32", "weights"]),
    "two configs": (["finetune", "run", "ok.yaml", "ok.yml", "--data", "digits", "--out", "x"], ["ok.yml"]),
    "kernels": (["train", "ok.yaml", "kernels=refrence", "--out", "x"], ["kernels", "'refrence'", "auto, reference"]),
    "kernels of an operation": (["train", "ok.yaml", "kernels.rope=fused", "--out", "x"], ["kernels", "auto"]),
    "a model that is no name": (["train", "ok.yaml", "model.name=[1]", "--out", "x"], ["model.name", "text", "[1]"]),
    "images where rows are wanted": (["create-config", "resnet18", "--data", "wine"], ["'image'", "features"]),
    "text where rows are wanted": (["create-config", "mlp", "--data", "text"], ["'features'", "tokens"]),
    "pictures, not videos": (["create-config", "r3d_18", "--data", "digits"], ["takes videos", "digits are pictures"]),
    "videos, not pictures": (["create-config", "vit", "--data", "moving_digits"], ["vit takes pictures", "are videos"]),
    "videos to train on": (["train", "ok.yaml", "data={name: moving_digits}", "--out", "x"], ["takes pictures"]),
    "videos to be measured on": (["evaluate", "run", "--data", "moving_digits"], ["resnet takes pictures"]),
    "videos to go on with": (["finetune", "run", "--data", "moving_digits", "--out", "x"], ["resnet takes pictures"]),
    "small pictures": (["create-config", "inception_v3", "--data", "digits"], ["8 x 8 pixels", "data.image_size=75"]),
    "odd pictures": (["create-config", "vit", "--data", "digits"], ["size 8 is", "the data", "data.image_size=224"]),
    "photos that are not there": (["create-config", "gan", "--data", "no/where"], ["no/where"]),
    "an auxiliary weight": (["train", "ok.yaml", "objective.aux_weight=-1", "--out", "x"], ["aux_weight -1.0"]),
    "a width": (["train", "ok.yaml", "model.width=-1", "--out", "x"], ["width -1 is empty or below 1"]),
    "a rate": (["train", "ok.yaml", "optimizer.lr=-1", "--out", "x"], ["lr -1.0", ">= 0"]),
    "a decay": (["train", "ok.yaml", "optimizer.weight_decay=-1", "--out", "x"], ["weight_decay -1.0"]),
    "an eps": (["train", "ok.yaml", "optimizer.eps=0", "--out", "x"], ["eps 0.0"]),
    "betas": (["train", "ok.yaml", "optimizer.betas=[0.9, 1]", "--out", "x"], ["betas (0.9, 1.0)", "[0, 1)"]),
    "a momentum": (["train", "ok.yaml", "optimizer.momentum=1.5", "--out", "x"], ["momentum 1.5"]),
    "a norm": (["train", "ok.yaml", "trainer.clip_norm=-1", "--out", "x"], ["clip_norm -1.0"]),
    "no length": (["train", "ok.yaml", "trainer.steps=0", "--out", "x"], ["steps 0"]),
    "a rate that is no number": (["train", "ok.yaml", "optimizer.lr=.nan", "--out", "x"], ["lr", "finite", "nan"]),
    "an endless rate": (["train", "ok.yaml", "optimizer.lr=.inf", "--out", "x"], ["lr", "finite", "inf"]),
    "a mean that is no number": (["train", "ok.yaml", "data.mean=[.nan]", "data.std=[1]", "--out", "x"], ["mean"]),
    "an endless length": (["train", "ok.yaml", "trainer.epochs=.inf", "trainer.steps=null", "--out", "x"], ["epochs"]),
    "a rate that ends below zero": (["train", "ok.yaml", "schedule.final=-5", "--out", "x"], ["final -5.0", "[0, 1]"]),
    "a warm-up": (["train", "ok.yaml", "schedule.warmup=-3", "--out", "x"], ["warmup -3.0"]),
    "a hold": (["train", "ok.yaml", "schedule.hold=2", "--out", "x"], ["hold 2.0"]),
    "a seed": (["train", "ok.yaml", "trainer.seed=-1", "--out", "x"], ["seed -1"]),
    "a seed of a text": (["generate", "gpt2.stdlib", "x", "--seed", "9" * 30], ["--seed"]),
    "a device without numbers": (["train", "ok.yaml", "trainer.device=meta", "--out", "x"], ["meta"]),
    "tokens that are none": (["train", "ok.yaml", "objective=causal_lm", "--out", "x"], ["causal_lm", "tokens"]),
    "a setting of a model": (["evaluate", "run", "model.num_classes=7"], ["model.num_classes=7", "as it is"]),
    "a setting of a config": (["create-config", "mlp", "--data", "iris", "trainer.stps=3"], ["'stps'", "steps"]),
    "rows as a picture": (["predict", "run", "flat.npy"], ["(4, 64)", "(1, 8, 8)"]),
    "a temperature": (["generate", "gpt2", "a", "--temperature", "nan"], ["temperature nan", "[0, inf)"]),
    "an endless temperature": (["generate", "gpt2", "a", "--temperature", "inf"], ["temperature inf"]),
    "a share": (["generate", "gpt2", "a", "--top-p", "nan"], ["top_p nan"]),
    "a data set to start from": (["create-config", "resnet18", "--data", "digitz"], ["digitz", "digits"]),
    "no input": (["predict", "run", "nothing.png"], ["nothing.png"]),
    "no images": (["predict", "run", "empty"], ["empty", "no image"]),
    "channels": (["predict", "run", "colour.npy"], ["(2, 3, 8, 8)", "(1, 8, 8)"]),
    "a range": (["predict", "run", "loud.npy"], ["16", "[0, 1]"]),
    "no array": (["predict", "run", "number.npy"], ["number.npy", "shape ()", "(1, 8, 8)"]),
    "no numbers": (["predict", "run", "nan.npy"], ["nan.npy", "NaN"]),
    "rows for a model of images": (["predict", "run", "rows.csv"], ["rows.csv", "images"]),
    "graphs": (["predict", "gcn_cora", "rows.csv"], ["GCN reads graphs", "model(nodes, edges)"]),
    "arrays without names": (["predict", "run", "two.npz"], ["two.npz", "'image'"]),
    "objects": (["predict", "run", "objects.npy"], ["objects.npy", "numbers"]),
    "no choice": (["predict", "run", "nan.npy", "--top", "0"], ["top 0"]),
    "random weights": (["predict", "resnet32", "loud.npy"], ["weights"]),
    "no classifier": (["predict", "gan", "loud.npy"], ["z", "sample"]),
    "no language": (["generate", "run", "hello"], ["text-generation"]),
    "no language, before weights are fetched": (["generate", "resnet18", "hello"], ["ResNet generates no text"]),
    "no tokenizer": (["generate", "llama2c_260k", "hello"], ["512", "tokenizer"]),
    "no generator": (["sample", "run", "--out", "x.png"], ["ResNet draws no images", "unet.digits"]),
    "a judge of texts": (
        ["train", "gan.yaml", "objective.features=gpt2.stdlib", "--out", "x"],
        ["objective.features", "gpt2.stdlib is no image classifier", "resnet20.digits"],
    ),
    "an answer that is an image": (["predict", "rebuilding", "flat8.npy"], ["Autoencoder", "zoo report", "zoo sample"]),
    "no count": (["sample", "gan", "--count", "0", "--out", "x.png"], ["count 0"]),
    "another format": (["sample", "gan", "--out", "x.tiff"], ["x.tiff", ".png"]),
    "another moving format": (["sample", "gan", "--out", "x.png", "--gif", "x.mp4"], ["x.mp4", ".gif"]),
    "a way from noise of a GAN": (["sample", "gan", "--out", "x.png", "--gif", "x.gif"], ["x.gif", "at once"]),
    "steps of a GAN": (["sample", "gan.digits", "--out", "x.png", "--steps", "5"], ["steps 5", "GAN", "at once"]),
    "a class of a GAN without": (["sample", "dcgan_64", "--out", "x.png", "--label", "3"], ["label 3: GAN", "told"]),
    "noise that is not known": (
        ["sample", "unet", "--out", "x.png"],
        ["UNet", "what noise", "unet.digits", "remember"],
    ),
    "a class out of range": (["sample", "unet.digits", "--out", "x.png", "--label", "10"], ["'10'", "from 0 to 9"]),
    "a class below zero": (["sample", "unet.digits", "--out", "x.png", "--label", "-1"], ["'-1'", "from 0 to 9"]),
    "a sampler": (["sample", "unet", "--out", "x.png", "--sampler", "euler"], ["euler", "dpm_solver"]),
    "no runs": (["runs", "list", "nowhere"], ["nowhere"]),
    "no checkpoints": (["runs", "verify", "empty"], ["empty"]),
    "no run": (["report", "empty"], ["empty", "config.yaml"]),
    "nothing to compare": (["runs", "diff", "run", "empty"], ["empty"]),
}


@pytest.mark.parametrize(("words", "said"), REQUESTS.values(), ids=REQUESTS.keys())
def test_a_wrong_request_ends_with_2_and_one_line_that_names_it(words, said, fail, made):
    code, line = fail(*words)
    assert code == 2, line
    assert all(word in line for word in said), line
    assert not (made / "x").exists()


def test_an_unreadable_image_and_an_array_that_was_cut_end_with_1(fail):
    for name in ("noise.png", "cut.npy"):
        code, line = fail("predict", "run", name)
        assert (code, name in line) == (1, True), line


@pytest.mark.parametrize("damage", ["flipped", "truncated", "missing"])
def test_a_damaged_model_ends_with_1_and_is_named(damage, fail, made, tmp_path):
    copy = shutil.copytree(made / "run", tmp_path / "copy")
    _damage(copy / "model" / "model.safetensors", damage)
    for words in (["evaluate", copy], ["predict", copy, made / "loud.npy"], ["runs", "verify", copy]):
        code, line = fail(*words)
        assert code == 1, line
        assert "model.safetensors" in line


def test_verify_names_every_damaged_file(fail, made, tmp_path):
    copy = shutil.copytree(made / "run", tmp_path / "copy")
    _damage(copy / "checkpoints" / "step-00000001" / "state.safetensors", "flipped")
    _damage(copy / "checkpoints" / "step-00000001" / "state.json", "truncated")
    _damage(copy / "model" / "config.json", "missing")
    code, line = fail("runs", "verify", copy)
    assert code == 1
    assert all(name in line for name in ("state.safetensors", "state.json", "config.json"))
    assert "step-00000002" not in line


@pytest.mark.parametrize("name", ["config.json", "zoo.json"])
def test_a_model_that_lacks_a_file_is_damaged_and_not_absent(name, fail, made, tmp_path):
    copy = shutil.copytree(made / "run", tmp_path / "copy")
    (copy / "model" / name).unlink()
    for words in (["evaluate", copy], ["predict", copy / "model", made / "loud.npy"], ["runs", "verify", copy]):
        code, line = fail(*words)
        assert code == 1, line
        assert name in line


def test_a_run_that_saved_nothing_may_be_begun_again(fail, tmp_path, no_report):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").write_text(CONFIG.replace("steps: 2", "steps: 7"))
    (tmp_path / "run" / "log.jsonl").write_text('{"step": 1, "split": "train", "loss": 5.0}\n')
    assert main(["train", "ok.yaml", "--out", str(tmp_path / "run"), "-q"]) == 0
    code, line = fail("train", "ok.yaml", "--out", tmp_path / "run")
    assert (code, "already holds a run" in line) == (2, True)
    assert '"loss": 5.0' not in (tmp_path / "run" / "log.jsonl").read_text()


def test_a_run_whose_weights_are_not_finite_ends_with_1_and_without_a_model(fail, tmp_path):
    for config in ("ok.yaml", "mlp.yaml"):
        words = ["optimizer.lr=1e30", "trainer.steps=9", "--out", tmp_path / "run", "-q"]
        code, line = fail("train", config, *words)
        assert code == 1, line
        assert "there is no model" in line
        assert "optimizer.lr" in line
        assert not (tmp_path / "run" / "model").exists()
        shutil.rmtree(tmp_path / "run")


def test_a_model_without_its_run_is_found(made, tmp_path, capsys):
    copy = shutil.copytree(made / "run", tmp_path / "copy")
    (copy / "config.yaml").unlink()
    np.save(tmp_path / "x.npy", np.zeros((1, 8, 8)))
    assert main(["predict", str(copy), str(tmp_path / "x.npy")]) == 0


def test_one_broken_run_does_not_hide_the_others(made, tmp_path, capsys):
    for name in ("a", "b", "c"):
        shutil.copytree(made / "run", tmp_path / name)
    (tmp_path / "a" / "config.yaml").write_bytes(b"\xff")
    with (tmp_path / "b" / "log.jsonl").open("ab") as log:
        log.write(b'\xff\xfe{"step": 9')
    assert main(["runs", "list", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    states = [line.split()[-3:] for line in captured.out.splitlines()[1:]]
    assert ["unreadable" in captured.out.splitlines()[i] for i in (1, 2, 3)] == [True, False, False], states
    assert captured.err.startswith(f"warning: {tmp_path / 'a' / 'config.yaml'}")
    assert main(["runs", "list", str(tmp_path), "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [run["problem"] is None for run in listed] == [False, True, True]
    assert [run["step"] for run in listed] == [0, 2, 2]


def _damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "missing":
        return path.unlink()
    if how == "flipped":
        data[-9] ^= 1
    return path.write_bytes(data if how == "flipped" else data[:-9])


def test_resume_names_the_damaged_checkpoint_that_it_skips(made, tmp_path, capsys, monkeypatch, no_report):
    monkeypatch.chdir(made)
    copy = shutil.copytree(made / "run", tmp_path / "copy")
    _damage(copy / "checkpoints" / "step-00000002" / "state.safetensors", "flipped")
    assert main(["train", "ok.yaml", "--out", str(copy), "--resume"]) == 0
    said = capsys.readouterr().err
    assert "step-00000002" in said
    assert "resumed at step 1" in said


def test_a_full_disk_ends_with_1_and_a_remedy(fail, monkeypatch, tmp_path):
    def full(path):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("zoo.storage._sync", full)
    code, line = fail("sample", "gan", "--out", tmp_path / "x.png")
    assert code == 1
    assert "no space left on device" in line
    assert "free some space" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_standard_output_on_a_full_disk_ends_with_1_and_one_line():
    with open("/dev/full", "w") as full:
        words = [sys.executable, "-m", "zoo", "list"]
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: No space left on device")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("place", [0, 1, 4])
def test_debug_shows_the_traceback_wherever_it_stands(place, made, capsys, monkeypatch):
    monkeypatch.chdir(made)
    words = ["predict", "run", "loud.npy", "--json"]
    words.insert(place, "--debug")
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("Traceback (most recent call last)")
    assert captured.err.splitlines()[-1].startswith("error: loud.npy")


def test_debug_after_two_dashes_is_text(capsys):
    assert main(["list", "--", "--debug"]) == 2
    assert "'--debug'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("two\nlines"), 1, "RuntimeError: two lines; --debug"),
        (KeyError("key"), 2, "KeyError: 'key'; --debug"),
        (ValueError("value\n  and rule"), 2, "value and rule"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), 1, "x: permission denied"),
        (FloatingPointError("not finite"), 1, "not finite"),
        (ImportError("No module named 'sklearn'"), 1, "No module named 'sklearn'; install"),
        (ValueError("long " * 1000), 2, "(--debug shows all)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_every_kind_of_error_is_one_line(error, code, said, fail, monkeypatch):
    def broken(*_, **__):
        raise error

    monkeypatch.setattr("zoo.factory.list_models", broken)
    monkeypatch.setattr(zoo, "list_models", broken, raising=False)
    found, line = fail("list")
    assert found == code
    assert said in line
    assert len(line) < LONGEST + 50


def test_a_run_stopped_by_a_signal_keeps_its_code(monkeypatch):
    def stopped(*_, **__):
        raise SystemExit(143)

    monkeypatch.setattr(zoo, "list_models", stopped, raising=False)
    assert main(["list"]) == 143


def test_a_warning_is_one_line_without_its_place_in_the_code(monkeypatch, capsys):
    names = zoo.list_models()

    def warned(*_, **__):
        warnings.warn("mind\nthe gap", stacklevel=1)
        return names

    monkeypatch.setattr(zoo, "list_models", warned, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(["list", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "warning: mind the gap\n"
    assert json.loads(captured.out)
