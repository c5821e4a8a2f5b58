"""What the page of a run says is true, and nothing in it can do harm or needs anything from outside."""

import json
import re
import shutil
import sys

import matplotlib
import numpy as np
import pytest
import torch
from pages import PNG, Elements, check_page
from PIL import Image

import zoo
import zoo.weights
from zoo.pipelines import picture, sample
from zoo.report import page, plots, results, run_page
from zoo.report.drawn import drawings
from zoo.report.folder import read_run
from zoo.report.history import read_history
from zoo.report.words import duration, measured
from zoo.training.assemble import load_data

RUNS = {
    "classification": {"model": {"name": "mlp", "widths": [16]}, "data": {"name": "digits", "val_fraction": 0.1}},
    "regression": {
        "model": {"name": "mlp", "widths": [8]},
        "data": "diabetes",
        "objective": "regression",
    },
    "adversarial": {
        "model": {"name": "gan", "latent_dim": 8, "generator_width": 8, "discriminator_width": 8},
        "data": {"name": "digits", "normalize": "range"},
    },
    "denoising": {
        "model": {"name": "unet", "channels": [8, 8], "depth": 1, "norm_groups": 4, "num_classes": 10},
        "data": {"name": "digits", "normalize": "range"},
    },
    "elbo": {
        "model": {"name": "vae", "widths": [4, 8], "mlp_dim": 16, "latent_dim": 2},
        "data": "digits",
        "objective": "elbo",
    },
    "reconstruction": {
        "model": {"name": "autoencoder", "widths": [8], "latent_dim": 2},
        "data": {"name": "digits", "normalize": "none"},
    },
    "causal_lm": {
        "model": {"name": "gpt2", "depth": 1, "dim": 16, "num_heads": 2},
        "data": {"name": "text", "path": "TEXT", "seq_len": 64},
    },
}
FILES = {
    "classification": {"curves.png", "confusion.png", "mistakes.png"},
    "regression": {"curves.png", "predictions.png"},
    "adversarial": {"curves.png", "samples.png"},
    "denoising": {"curves.png", "samples.png"},
    "reconstruction": {"curves.png", "images.png", "components.png", "codes.png"},
    "elbo": {"curves.png", "images.png", "samples.png"},
    "causal_lm": {"curves.png"},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A short run of each kind, with its page."""
    root = tmp_path_factory.mktemp("runs")
    (root / "text.txt").write_text("the quick brown fox jumps over the lazy dog; " * 100)
    for name, values in RUNS.items():
        values = json.loads(json.dumps(values).replace("TEXT", str(root / "text.txt")))
        config = zoo.RunConfig.of({**values, "trainer": {"steps": 20}, "optimizer": {"name": "adamw", "lr": 0.01}})
        zoo.Trainer(config, out=root / name, quiet=True).fit()
        run_page(root / name)
    return root


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the digits run, to be damaged."""
    return shutil.copytree(runs / "classification", tmp_path / "run", ignore=shutil.ignore_patterns("report*"))


def write_log(path, *lines):
    path.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return read_history(path)


each_run = pytest.mark.parametrize("name", RUNS)


@each_run
def test_a_run_gets_a_page_and_the_plots_of_its_kind(runs, name):
    assert {path.name for path in (runs / name / "report").iterdir()} == FILES[name]
    for path in (runs / name / "report").iterdir():
        assert path.read_bytes().startswith(PNG)
    assert f"<title>{RUNS[name]['model']['name']} on " in (runs / name / "report.html").read_text()


@each_run
def test_a_page_is_whole_and_needs_nothing_from_outside(runs, name):
    check_page((runs / name / "report.html").read_text())


def test_the_page_gives_the_test_metric_and_counts_the_mistakes(runs):
    folder = runs / "classification"
    model, test = zoo.load(folder / "model").eval(), load_data({"name": "digits", "val_fraction": 0.1}).test
    batch = test.fetch(range(len(test)), None)
    wrong = int((model(batch["features"]).argmax(1) != batch["target"]).sum())
    assert 0 < wrong < 360
    text = Elements((folder / "report.html").read_text()).text
    assert f"{wrong} of 360 test samples are wrong" in text
    assert measured("accuracy", 1 - wrong / 360) in text
    assert text.count(" taken for ") == min(wrong, 24)


@pytest.mark.parametrize("name", ["adversarial", "denoising", "elbo"])
def test_a_generator_s_page_shows_the_first_images_that_it_draws(runs, name):
    folder = runs / name
    text = Elements((folder / "report.html").read_text()).text
    assert "What it draws" in text
    assert ("in turn of each class" in text) == (name != "elbo")  # a VAE is told none
    with Image.open(folder / "report" / "samples.png") as png:
        shown = np.asarray(png)
    expected = np.asarray(picture(sample(zoo.load(folder / "model"), 30), 10))
    assert (shown == expected).all()


def test_drawn_classes_that_have_no_name_are_captioned_by_their_number():
    model = zoo.create("unet.digits")
    zoo.weights.remember(model, labels=("zero", "one"))
    ((section,), _) = drawings(model)
    assert Elements(section.body.markup).text == "zeroone23456789" * 3


def test_a_generator_that_cannot_draw_says_why_on_its_page(runs, tmp_path):
    folder = shutil.copytree(runs / "denoising", tmp_path / "run")
    model = zoo.load(folder / "model")
    facts = {**model.provenance.preprocessing, "diffusion": {}}
    zoo.weights.remember(model, preprocessing=facts)
    zoo.save(model, folder / "model")
    text = Elements(run_page(folder).read_text()).text
    assert "UNet does not say what noise it was trained on" in text


def test_a_second_page_of_the_same_run_is_the_same(runs):
    before = (runs / "causal_lm" / "report.html").read_bytes()
    assert run_page(runs / "causal_lm").read_bytes() == before


def test_regression_is_shown_in_the_unit_of_the_target(runs, monkeypatch):
    shown = []
    monkeypatch.setattr(plots, "scatter", lambda figure, truth, predicted: shown.append((truth, predicted)))
    run_page(runs / "regression")
    truth, predicted = shown[0]
    assert truth.mean() > 100
    assert abs(predicted.mean() - truth.mean()) < truth.std()


def test_labels_are_text_wherever_they_stand(tmp_path):
    from PIL import Image

    labels = ["<script>alert(1)<", "a & b", '"quoted"', "$x^2$", "日本"]
    rng = np.random.default_rng(0)
    for label in labels:
        (tmp_path / "photos" / label).mkdir(parents=True)
        for i in range(6):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{i}.png")
    data = {"name": "image_folder", "path": str(tmp_path / "photos"), "image_size": 8, "batch_size": 8}
    config = zoo.RunConfig.of({"model": {"name": "resnet20", "depths": [1]}, "data": data, "trainer": {"steps": 1}})
    zoo.Trainer(config, out=tmp_path / "run", quiet=True).fit()
    elements = Elements(run_page(tmp_path / "run").read_text())
    assert not elements.open
    assert "script" not in {tag for tag, _ in elements.found}
    for label in labels:
        short = label[:11] + "…" if len(label) > 12 else label
        assert elements.text.count(short) >= 2
        assert label in elements.text


def test_a_model_may_know_more_classes_than_the_data_have(tmp_path):
    data = {"name": "digits", "classes": [0, 1], "per_class": 1}
    model = {"name": "mlp", "widths": [], "num_classes": 12}
    zoo.Trainer(
        zoo.RunConfig.of({"model": model, "data": data, "trainer": {"steps": 1}}), out=tmp_path / "run", quiet=True
    ).fit()
    assert "test samples are wrong" in run_page(tmp_path / "run").read_text()


def test_a_run_that_has_not_ended_gets_its_curves(run):
    shutil.rmtree(run / "model")
    text = Elements(run_page(run).read_text()).text
    assert "The run has not ended" in text
    assert "learning rate" in text
    assert [path.name for path in (run / "report").iterdir()] == ["curves.png"]


def test_a_run_that_has_logged_nothing_gets_a_page(run):
    (run / "log.jsonl").write_text("")
    assert "Nothing has been logged yet" in run_page(run).read_text()


def test_a_line_that_a_crash_cut_off_is_left_out_and_mentioned(run):
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 21, "split": "tra')
    lines = len((run / "log.jsonl").read_text().splitlines())
    assert f"line {lines} is damaged" in run_page(run).read_text()


def test_data_that_are_gone_are_mentioned(runs, tmp_path):
    folder = shutil.copytree(runs / "causal_lm", tmp_path / "run")
    config = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub(r"path: .*", "path: gone.txt", config))
    text = Elements(run_page(folder).read_text()).text
    assert "The data cannot be read any more" in text
    assert "gone.txt" in text


def test_a_damaged_model_is_an_error(run):
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(OSError, match=r"model\.safetensors"):
        run_page(run)


@pytest.mark.parametrize("name", ["config.yaml", "log.jsonl"])
def test_a_folder_that_is_no_run_is_an_error(run, name):
    (run / name).unlink()
    with pytest.raises(FileNotFoundError, match=re.escape(name)):
        run_page(run)


def test_a_log_keeps_what_is_whole(tmp_path):
    history = write_log(
        tmp_path / "log.jsonl",
        {"step": 0, "event": "start", "versions": {"torch": "2"}},
        {"step": 1, "split": "train", "time": 0.1, "loss": 2.0, "note": "words are no metric"},
        "[1, 2]\n",
        {"step": 2, "split": "train", "time": 0.2, "loss": None, "lr": 0.1},
        "\n",
        {"step": 2, "split": "val", "time": 0.2, "accuracy": 0.5},
        '{"step": 3, "split": "train", "loss": 1.',
    )
    assert history.damaged == (3, 7)
    assert history.column("train", "loss") == ([1], [2.0])
    assert history.metrics("train") == ["loss", "lr"]
    assert history.last("val") == {"accuracy": 0.5}
    assert history.last("test") == {}


def test_a_resumed_runs_second_account_of_a_step_counts(tmp_path):
    lines = [
        {"step": step, "split": "train", "time": 0.0, "loss": loss} for step, loss in [(1, 5.0), (2, 4.0), (2, 3.0)]
    ]
    history = write_log(tmp_path / "log.jsonl", lines[0], lines[1], lines[2])
    assert history.column("train", "loss") == ([1, 2], [5.0, 3.0])


def test_bytes_that_are_no_text_are_a_damaged_line(tmp_path):
    (tmp_path / "log.jsonl").write_bytes(b'\xff\xfe{"step"\n')
    assert read_history(tmp_path / "log.jsonl").damaged == (1,)


def confusion(classes, labels=None):
    counts = np.eye(classes, dtype=int) * 5
    counts[0, 1] = 2
    labels = labels or [f"c{i}" for i in range(classes)]
    return plots.draw("confusion", plots.confusion, counts, labels, size=(4, 4))


def test_every_colour_of_a_plot_is_the_pages():
    svg = confusion(4).svg()
    assert "var(--first)" in svg
    assert "var(--second)" in svg
    assert not re.search(r"#[0-9a-f]{6}\b|rgb\(", svg)


def test_colours_can_be_recognised_by_their_hex():
    light = [light for light, _ in plots.COLOURS.values()]
    assert len(set(light)) == len(light)


def test_a_matrix_of_many_classes_has_no_numbers_in_it():
    assert "<text" in confusion(plots.MAX_CLASSES).svg()
    many = confusion(plots.MAX_CLASSES + 1).svg()
    assert many.count("<text") < plots.MAX_CLASSES
    assert "data:image/png" in many


def test_labels_in_a_plot_are_neither_markup_nor_mathematics():
    drawing = confusion(3, ["$x^2$", "<b>", "日本"])
    assert {"$x^2$", "&lt;b&gt;", "日本"} <= set(re.findall(r"<text[^>]*>([^<]*)</text>", drawing.svg()))
    assert drawing.png().startswith(PNG)


def test_drawing_leaves_the_users_settings_alone():
    matplotlib.rcParams["lines.linewidth"] = 7.0
    try:
        before = dict(matplotlib.rcParams)
        first = confusion(3).svg()
        assert dict(matplotlib.rcParams) == before
        matplotlib.rcParams["font.size"] = 30
        assert confusion(3).svg() == first
    finally:
        matplotlib.rcdefaults()


def test_without_matplotlib_the_remedy_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'zoo\[train\]'"):
        confusion(3).png()


def test_whatever_is_no_markup_is_escaped():
    made = page.tag("p", "<b>", page.tag("i", "&"), 3, None, title='"<')
    assert made.markup == '<p title="&quot;&lt;">&lt;b&gt;<i>&amp;</i>3</p>'


def test_images_look_as_they_did_before_normalisation():
    data = load_data({"name": "digits"})
    shown = results.images(data.test.fetch([0, 1], None)["image"], data.spec)
    plain = load_data({"name": "digits", "normalize": "none"}).test.fetch([0, 1], None)["image"][:, 0]
    np.testing.assert_allclose(np.stack(shown), plain.numpy(), atol=1e-6)


def test_large_images_are_made_smaller():
    spec = load_data({"name": "digits"}).spec
    (shown,) = results.images(torch.zeros(1, 3, 600, 300), spec)
    assert shown.shape == (128, 64, 3)


def test_mistakes_come_the_surest_first():
    truth, predicted = np.array([0, 1, 2, 3]), np.array([0, 2, 2, 1])
    answers = results.Answers(np.arange(4), truth, predicted, np.array([0.3, 0.5, 0.9, 0.8]))
    assert answers.wrong().tolist() == [3, 1]
    assert answers.unsure().tolist() == [0, 1, 3, 2]
    assert answers.confusion(4)[3, 1] == 1
    assert answers.confusion(4).sum() == 4


def test_a_large_split_is_judged_by_evenly_spaced_samples(monkeypatch):
    monkeypatch.setattr(results, "MAX_SAMPLES", 5)
    assert results.some_of(load_data({"name": "digits"}).test).tolist() == [0, 90, 180, 269, 359]


def test_a_language_model_writes_on_beyond_its_context(runs):
    model = zoo.load(runs / "causal_lm" / "model")
    written = results.continuation(model, "the quick brown fox", 200)
    assert len(written) == 200 > model.config.max_seq_len
    assert results.continuation(model, "the quick brown fox", 200) == written


def test_letters_of_several_bytes_are_not_cut_for_a_prompt(runs):
    model = zoo.load(runs / "causal_lm" / "model")
    assert results.continuation(model, "日本語" * 20, 10)


@pytest.mark.parametrize(
    ("seconds", "words"), [(8.26, "8.3\u202fs"), (125, "2 min 05 s"), (12_010, "3 h 20 min"), (59.96, "60.0\u202fs")]
)
def test_durations_are_words(seconds, words):
    assert duration(seconds) == words


def test_the_final_metrics_are_those_of_the_part_that_says_most(run):
    assert read_run(run).final[0] == "test"
    lines = [line for line in (run / "log.jsonl").read_text().splitlines() if '"test"' not in line]
    (run / "log.jsonl").write_text("\n".join(lines))
    assert read_run(run).final[0] == "val"
