"""Every command of the command line, at work on the smallest models and data."""

import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import zoo
from zoo.cli import COMMANDS, RUNS, main
from zoo.cli.anatomy import dissect
from zoo.cli.output import print_json, print_table, short_number
from zoo.training.run import RunConfig

ROOT = Path(__file__).parents[1]
TINY = "{name: resnet, depths: [1, 1], block: basic, width: 8, stem: small}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a finished run, `digits`, and its config."""
    base = tmp_path_factory.mktemp("cli")
    (base / "digits.yaml").write_text(
        f"model: {TINY}\ndata: {{name: digits, classes: [0, 1, 2, 3, 4]}}\n"
        "optimizer: {name: adamw, lr: 0.01}\ntrainer: {steps: 30, checkpoint_every: 15}\n"
    )
    assert main(["train", str(base / "digits.yaml"), "--out", str(base / "digits"), "--quiet"]) == 0
    return base


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """A finished run of a language model of bytes."""
    base = tmp_path_factory.mktemp("text")
    (base / "rhyme.txt").write_text("one two three four five once i caught a fish alive\n" * 40)
    words = ["model.name=gpt2", "model.dim=16", "model.depth=1", "model.num_heads=2", "data.name=text"]
    words += [f"data.path={base / 'rhyme.txt'}", "data.seq_len=32", "trainer.steps=5"]
    (base / "empty.yaml").write_text("{}\n")
    assert main(["train", str(base / "empty.yaml"), *words, "--out", str(base / "run"), "-q"]) == 0
    return base / "run"


def arrays(classes=5):
    """Test images of the first digits, (samples, 8, 8) in [0, 1], and what they are."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rows = np.flatnonzero(digits.target < classes)[:20]
    return (digits.images[rows] / 16).astype(np.float32), digits.target[rows]


def test_help_needs_no_torch_nor_anything_else_that_is_slow():
    pages = [[], *([name] for name in COMMANDS), ["runs"], *(["runs", name] for name in RUNS)]
    code = f"""
import sys
from zoo.cli import main
assert all(main([*page, "--help"]) == 0 for page in {pages!r}) and main([]) == 0 and main(["runs"]) == 0
slow = {{"torch", "numpy", "torchvision", "matplotlib", "yaml", "zoo.factory"}} & set(sys.modules)
assert not slow, slow
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert all(name in done.stdout for name in (*COMMANDS, "runs"))


@pytest.mark.parametrize("name", ["train", "finetune", "evaluate"])
def test_a_script_is_the_command(name, monkeypatch, capsys):
    path = ROOT / "scripts" / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code == 0
    assert f"Usage: zoo {name}" in capsys.readouterr().out


def test_the_version_is_shown(run):
    assert run("--version") == f"zoo {zoo.__version__}\n"


def test_list_shows_every_model_on_a_line_of_its_own(run):
    lines = run("list").splitlines()
    assert [line.split()[0] for line in lines[1:]] == zoo.list_models()
    entries = json.loads(run("list", "--json"))
    assert [entry["name"] for entry in entries] == zoo.list_models()
    assert next(entry for entry in entries if entry["name"] == "resnet18")["num_params"] == 11_689_512


def test_list_takes_patterns_and_options(run):
    found = [entry["name"] for entry in json.loads(run("list", "ResNet1*", "--json"))]
    assert found == zoo.list_models("resnet1*")
    found = [entry["name"] for entry in json.loads(run("list", "--task", "text-generation", "--json"))]
    assert found == zoo.list_models(task="text-generation")


@pytest.mark.parametrize("license", ["commercial-ok", "CC-BY-NC-4.0"])
def test_list_shows_only_weights_with_the_licence_that_is_asked_for(license, run):
    (entry,) = json.loads(run("list", "vit_b_16", "--license", license, "--json"))
    suitable = zoo.list_models("vit_b_16.*", license=license, tags=True)
    assert sorted(f"vit_b_16.{tag}" for tag in entry["tags"]) == suitable
    assert 0 < len(suitable) < len(zoo.list_models("vit_b_16.*", tags=True))
    shown = run("list", "vit_b_16", "--license", license).splitlines()[1].split()
    assert shown[-len(suitable) :] == entry["tags"]


def test_info_counts_parameters_and_operations(run):
    shown = json.loads(run("info", "resnet18", "--json"))
    assert shown["num_params"] == sum(part["num_params"] for part in shown["layers"]) == 11_689_512
    assert shown["flops"] == 2 * 1_814_073_344  # multiply-adds by hand: table 1's 1.8 x 10^9
    assert shown["config"]["num_classes"] == 1000
    text = run("info", "resnet18")
    assert "11,689,512" in text
    assert re.search(r"stem +3 x |stem +Sequential +9,536 +64 x 112 x 112", text)


@pytest.mark.parametrize("name", sorted({entry.split(".")[0] for entry in zoo.list_models()}))
def test_the_parts_of_every_model_add_up(name, run):
    shown = json.loads(run("info", name, "--json"))
    assert sum(part["num_params"] for part in shown["layers"]) == shown["num_params"]
    assert shown["flops"] > 0


def test_info_says_of_which_graph_it_counts(run):
    shown = json.loads(run("info", "gcn_cora", "--json"))
    assert shown["inputs"] == {"nodes": [6, 1433], "edges": [2, 12]}
    assert shown["flops"] == 2 * 6 * (1433 * 16 + 16 * 7), "two matrices for each node; edges multiply nothing"
    assert "for nodes 6 x 1433, edges 2 x 12" in run("info", "gcn_cora")


def test_training_leaves_what_was_promised(folder):
    run = folder / "digits"
    assert {path.name for path in run.iterdir()} >= {"config.yaml", "log.jsonl", "checkpoints", "model", "report.html"}
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["step-00000015", "step-00000030"]
    resolved = RunConfig.read(run / "config.yaml")
    assert (resolved.model["num_classes"], resolved.trainer.steps, resolved.data["batch_size"]) == (5, 30, 64)


def test_resume_also_begins_and_overrides_win(folder, run, tmp_path, no_report):
    out = run("train", folder / "digits.yaml", "trainer.steps=2", "--out", tmp_path / "new", "--resume", "--quiet")
    assert RunConfig.read(tmp_path / "new" / "config.yaml").trainer.steps == 2
    assert f"model    {tmp_path / 'new' / 'model'}" in out


def test_a_failing_report_does_not_fail_the_run(folder, tmp_path, monkeypatch, capsys):
    def fail(folder):
        raise RuntimeError("no ink")

    monkeypatch.setattr("zoo.report.run_page", fail)
    words = ["train", str(folder / "digits.yaml"), "trainer.steps=1", "--out", str(tmp_path / "new"), "-q"]
    assert main(words) == 0
    assert "no report: RuntimeError: no ink" in capsys.readouterr().err


def test_evaluate_finds_what_the_run_found(folder, run):
    logged = [json.loads(line) for line in (folder / "digits" / "log.jsonl").read_text().splitlines()][-1]
    measured = json.loads(run("evaluate", folder / "digits", "--json"))
    assert measured["accuracy"] == logged["accuracy"] > 0.5
    assert (measured["split"], measured["samples"]) == ("test", 157)
    again = json.loads(
        run("evaluate", f"local-dir:{folder / 'digits'}", "--data", "digits", "data.classes=[0,1,2,3,4]", "--json")
    )
    assert again["loss"] == pytest.approx(measured["loss"], rel=1e-6)


@pytest.mark.parametrize("config", [False, True], ids=["defaults", "config"])
def test_finetune_draws_a_new_head_and_freezes_the_rest(config, folder, run, tmp_path, no_report):
    (tmp_path / "ft.yaml").write_text("trainer: {steps: 2}\noptimizer: {name: sgd, lr: 0.1}\n")
    words = [tmp_path / "ft.yaml"] if config else ["trainer.steps=2"]
    words += ["data.classes=[5,6,7,8,9]", "data.per_class=5", "trainer.freeze=backbone"]
    run("finetune", folder / "digits", *words, "--data", "digits", "--out", tmp_path / "ft", "-q")
    old, new = zoo.load(folder / "digits" / "model"), zoo.load(tmp_path / "ft" / "model")
    for name, value in new.named_parameters():
        assert torch.equal(value, old.get_parameter(name)) == (not name.startswith("head")), name
    old_facts, new_facts = old.provenance, new.provenance
    assert new_facts.labels == ("5", "6", "7", "8", "9")
    assert new_facts.preprocessing["mean"] == old_facts.preprocessing["mean"]
    assert RunConfig.read(tmp_path / "ft" / "config.yaml").optimizer.name == ("sgd" if config else "adamw")


def test_finetune_says_that_the_head_is_new_where_only_the_classes_differ(folder, tmp_path, capsys, no_report):
    words = ["trainer.steps=1", "data.classes=[9,8,7,6,5]", "--data", "digits", "--out", str(tmp_path / "ft")]
    assert main(["finetune", str(folder / "digits"), *words]) == 0
    assert "head drawn anew, for the classes 9, 8, 7, 6, 5 instead of 0, 1, 2, 3, 4" in capsys.readouterr().err


def test_predict_reads_arrays_and_prepares_them_as_in_training(folder, run, tmp_path):
    images, _ = arrays()
    np.save(tmp_path / "x.npy", images)
    answers = json.loads(run("predict", folder / "digits", tmp_path / "x.npy", "--json"))
    model = zoo.load(folder / "digits" / "model").eval()
    facts = model.provenance.preprocessing
    with torch.no_grad():
        inputs = (torch.from_numpy(images)[:, None] - facts["mean"][0]) / facts["std"][0]
        expected = model(image=inputs).softmax(-1)
    assert [answer["label"] for answer in answers] == [str(int(row.argmax())) for row in expected]
    assert [a["confidence"] for a in answers] == pytest.approx(expected.amax(-1).tolist(), abs=1e-6)
    assert len(answers[0]["top"]) == 3


@pytest.mark.parametrize("form", ["one", "channels", "uint8", "npz"])
def test_predict_takes_every_form_of_an_array(form, folder, run, tmp_path):
    images, _ = arrays()
    values = {"one": images[0], "channels": images[:1, None], "uint8": (images[:1] * 255).round().astype(np.uint8)}
    path = tmp_path / ("x.npz" if form == "npz" else "x.npy")
    np.savez(path, image=images[:1], other=images) if form == "npz" else np.save(path, values[form])
    np.save(tmp_path / "all.npy", images)
    expected = json.loads(run("predict", folder / "digits", tmp_path / "all.npy", "--json"))[0]
    (answer,) = json.loads(run("predict", folder / "digits", path, "--json"))
    assert (answer["input"], answer["label"]) == (str(path), expected["label"])
    assert answer["confidence"] == pytest.approx(expected["confidence"], abs=0.02)


def test_predict_reads_images_and_folders_of_them(folder, run, tmp_path):
    from PIL import Image

    images, _ = arrays()
    np.save(tmp_path / "all.npy", images[:3])
    for index, image in enumerate(images[:3]):
        picture = Image.fromarray((image * 255).round().astype(np.uint8))
        picture.save(tmp_path / f"{index}.png")
    expected = json.loads(run("predict", folder / "digits", tmp_path / "all.npy", "--json"))
    found = json.loads(run("predict", folder / "digits", tmp_path, "--json"))
    assert [answer["input"] for answer in found] == [str(tmp_path / f"{index}.png") for index in range(3)]
    assert [a["confidence"] for a in found] == pytest.approx([e["confidence"] for e in expected], abs=0.02)
    for mode in ("RGB", "RGBA", "P", "LA"):  # a grey picture in any of its forms
        Image.open(tmp_path / "1.png").convert(mode).save(tmp_path / f"{mode}.png")
        (answer,) = json.loads(run("predict", folder / "digits", tmp_path / f"{mode}.png", "--json"))
        assert answer["label"] == expected[1]["label"]
        assert answer["confidence"] == pytest.approx(expected[1]["confidence"], abs=1e-3)
    table = run("predict", folder / "digits", tmp_path / "1.png").splitlines()
    assert table[0].split() == ["INPUT", "LABEL", "CONFIDENCE", "NEXT"]
    assert table[1].split()[1] == found[1]["label"]


def test_predict_reads_rows_of_a_table(run, tmp_path, no_report):
    (tmp_path / "empty.yaml").write_text("{}\n")
    words = ["model.name=mlp", "model.widths=[16]", "data.name=iris", "trainer.steps=60", "optimizer.lr=0.02"]
    run("train", tmp_path / "empty.yaml", *words, "--out", tmp_path / "iris", "-q")
    (tmp_path / "x.csv").write_text("5.1,3.5,1.4,0.2\n6.3,3.3,6.0,2.5\n")
    answers = json.loads(run("predict", tmp_path / "iris", tmp_path / "x.csv", "--json"))
    assert [answer["label"] for answer in answers] == ["setosa", "virginica"]
    assert answers[0]["input"].endswith("x.csv[0]")


def test_predict_answers_a_quantity_in_its_own_unit(run, tmp_path, no_report):
    (tmp_path / "empty.yaml").write_text("{}\n")
    words = ["model.name=mlp", "model.widths=[]", "data.name=diabetes", "trainer.steps=200", "optimizer.lr=0.03"]
    run("train", tmp_path / "empty.yaml", *words, "--out", tmp_path / "run", "-q")
    from sklearn.datasets import load_diabetes

    patients = load_diabetes()
    np.save(tmp_path / "x.npy", patients.data[:100])
    answers = json.loads(run("predict", tmp_path / "run", tmp_path / "x.npy", "--json"))
    error = np.array([answer["value"] for answer in answers]) - patients.target[:100]
    assert np.sqrt((error**2).mean()) < 70  # the targets' own deviation is 77


def test_generate_continues_the_prompt(text_run, run):
    words = ["generate", text_run, "one t", "--max-new-tokens", 10]
    found = json.loads(run(*words, "--json"))
    assert found["text"] == "one t" + found["completion"]
    assert run(*words) == found["text"] + "\n"
    assert json.loads(run(*words, "--seed", 1, "--json"))["completion"] != found["completion"]


def test_sample_draws_a_picture(run, tmp_path):
    from PIL import Image

    torch.manual_seed(0)
    model = zoo.create("gan", latent_dim=4, image_size=8, in_channels=1, generator_width=4, discriminator_width=4)
    zoo.save(model, tmp_path / "gan")
    facts = json.loads(run("sample", tmp_path / "gan", "--count", 5, "--out", tmp_path / "a.png", "--json"))
    assert facts == {"out": str(tmp_path / "a.png"), "count": 5, "seed": 0, "image": [1, 8, 8]}
    run("sample", tmp_path / "gan", "--count", 6, "--out", tmp_path / "b.png")
    first, second = (np.asarray(Image.open(tmp_path / name)) for name in ("a.png", "b.png"))
    assert first.shape == (2 * 50 + 2, 3 * 50 + 2)  # three columns of images enlarged to 48 pixels, with gaps of 2
    assert (first[:50] == second[:50]).all()
    assert first[4:48, 4:48].std() > 0


@pytest.fixture
def unet(tmp_path):
    """A network that removes noise, with names for its classes."""
    torch.manual_seed(0)
    model = zoo.create("unet", image_size=8, in_channels=1, channels=(8, 8), norm_groups=2, depth=1, num_classes=3)
    facts = {"mean": [0.5], "std": [0.5], "image_size": 8, "diffusion": {"schedule": "linear"}}
    zoo.weights.remember(model, labels=("cat", "dog", "hen"), preprocessing=facts)
    return zoo.save(model, tmp_path / "unet")


def test_sample_draws_classes_and_the_way_from_noise(unet, run, tmp_path):
    from PIL import Image

    words = ["sample", unet, "--steps", 30, "--label", "hen", "--label", 0, "--guidance", 2, "--count", 4]
    facts = json.loads(run(*words, "--out", tmp_path / "a.png", "--gif", tmp_path / "a.gif", "--json"))
    assert (facts["classes"], facts["frames"]) == (["hen", "cat"], 24)
    with Image.open(tmp_path / "a.png") as png, Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.size) == (24, png.size)
        gif.seek(23)
        assert gif.info["duration"] == 2000
        assert (np.asarray(gif.convert("L")) == np.asarray(png)).all()
    drawn = zoo.pipelines.sample(zoo.load(unet), 4, label=["hen", "cat"], steps=30, guidance=2.0)
    assert (np.asarray(zoo.pipelines.picture(drawn, 2)) == np.asarray(Image.open(tmp_path / "a.png"))).all()


def test_sample_shows_its_progress_on_a_terminal_alone(unet, tmp_path, monkeypatch, capsys):
    words = ["sample", str(unet), "--count", "2", "--steps", "3", "--out", str(tmp_path / "a.png")]
    main(words)
    assert capsys.readouterr().err == ""
    monkeypatch.setenv("FORCE_COLOR", "1")
    main(words)
    assert "3/3" in capsys.readouterr().err
    main([*words, "--json"])
    assert capsys.readouterr().err == ""


def test_runs_are_listed_compared_and_verified(folder, run):
    (listed,) = json.loads(run("runs", "list", folder, "--json"))
    assert (listed["model"], listed["step"], listed["finished"]) == ("resnet", 30, True)
    assert "30/30" in run("runs", "list", folder)
    changed = json.loads(run("runs", "diff", folder / "digits.yaml", folder / "digits", "--json"))
    assert changed["trainer.seed"] == {"a": None, "b": 0}
    assert "optimizer.lr" not in changed
    checked = json.loads(run("runs", "verify", folder / "digits", "--json"))
    assert [Path(entry["path"]).name for entry in checked] == ["step-00000015", "step-00000030", "model"]
    assert not any(entry["problems"] for entry in checked)


def test_report_is_written_anew(folder, run):
    page = folder / "digits" / "report.html"
    page.unlink()
    assert run("report", folder / "digits").strip() == str(page)
    assert page.is_file()


def test_tables_keep_to_the_terminal_and_spread_in_a_pipe(capsys, monkeypatch):
    rows = [("a_long_name_of_a_model", "words " * 40)]
    print_table(["NAME", "TEXT"], rows)
    assert len(capsys.readouterr().out.splitlines()) == 2
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    print_table(["NAME", "TEXT"], rows)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 2
    assert max(map(len, lines)) <= 80
    assert lines[1].startswith("a_long_name_of_a_model  words")


def test_json_is_json_also_where_numbers_are_none(capsys):
    print_json({"loss": float("nan"), "values": (1.5, float("inf"))})
    assert json.loads(capsys.readouterr().out) == {"loss": None, "values": [1.5, None]}


@pytest.mark.parametrize(
    ("value", "text"), [(7850, "7.85 k"), (25_028_904, "25.0 M"), (999_999, "1.00 M"), (12, "12"), (124e6, "124 M")]
)
def test_numbers_are_short(value, text):
    assert short_number(value) == text


@pytest.mark.skipif(os.name != "posix", reason="pipes close like this on POSIX only")
def test_a_reader_who_has_seen_enough_is_no_error():
    reading, writing = os.pipe()
    os.close(reading)
    words = [sys.executable, "-m", "zoo", "list", "--json"]
    done = subprocess.run(words, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_parameter_that_two_parts_share_counts_once():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(3))
            self.stem, self.head = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
            self.head.weight = self.stem.weight

        def forward(self, features):
            return self.head(self.stem(features * self.scale))

    found = dissect(Tied().train(), {"features": torch.ones(1, 3)})
    assert [(part.name, part.num_params) for part in found.parts] == [("scale", 3), ("stem", 9), ("head", 0)]
    assert found.flops == 2 * 2 * 9
