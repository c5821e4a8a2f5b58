"""What the page of several runs says is true of each, and it touches none of them."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from pages import PNG, Elements, check_page

import zoo
from zoo.cli import main
from zoo.report import compare, compare_page
from zoo.report.overlay import MAX_POINTS, MAX_RUNS, Line, evaluated, height, looks, smoothed, trained
from zoo.report.words import measured

RUNS = {
    "slow": {"model": {"name": "mlp", "widths": [16]}, "optimizer": {"name": "adamw", "lr": 1e-4}},
    "fast": {"model": {"name": "mlp", "widths": [16]}, "optimizer": {"name": "adamw", "lr": 1e-2}},
    "diabetes": {"model": {"name": "mlp", "widths": [8]}, "data": "diabetes", "objective": "regression"},
}
DIGITS = {"name": "digits", "val_fraction": 0.1}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three short runs: two that learn digits at different rates, and one that is unlike them."""
    root = tmp_path_factory.mktemp("runs")
    for name, values in RUNS.items():
        config = zoo.RunConfig.of({"data": DIGITS, **values, "trainer": {"steps": 20, "log_every": 2}})
        zoo.Trainer(config, out=root / name, quiet=True).fit()
    return root


@pytest.fixture
def runs(made, tmp_path, monkeypatch):
    """A copy of them, to be damaged, below the current folder."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(made, tmp_path / "runs")


@pytest.fixture
def drawn(monkeypatch):
    """What is put into the plots of `evaluated` and `trained`, as {metric: {run: line}} each; they stay empty."""
    kept = {"evaluated": {}, "trained": {}}
    for name, plots in kept.items():
        monkeypatch.setattr(
            compare, name, lambda _, key, lines, plots=plots: plots.update({key: {line.name: line for line in lines}})
        )
    return kept


without_plots = pytest.mark.usefixtures("drawn")
"""For tests of what else the page says: drawing takes most of the time."""


def events(run):
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def write_events(run, kept):
    (run / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in kept))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def text_of(path):
    return Elements(path.read_text()).text


def shown(plot, *arguments):
    """The axes of one plot."""
    figure = Figure()
    plot(figure, *arguments)
    return figure.axes[0]


def test_several_runs_get_one_page_that_is_whole_and_alone(runs):
    before = contents(runs)
    path = compare_page([runs / name for name in RUNS], runs.parent / "pages" / "all.html")
    check_page(path.read_text())
    for name in ("accuracy.png", "loss.png", "rmse.png", "train-loss.png", "train-lr.png"):
        assert (path.parent / "all" / name).read_bytes().startswith(PNG)
    assert contents(runs) == before


@without_plots
def test_the_table_gives_each_runs_last_metrics(runs):
    row = {}
    for found in re.findall(r"<tr>(.*?)</tr>", compare_page([runs / "slow", runs / "fast"]).read_text()):
        cells = [Elements(cell).text for cell in re.findall(r"<t[hd].*?</t[hd]>", found)]
        row.setdefault(cells[0], dict(zip(row.get("run", cells), cells, strict=False)))
    assert list(row["run"])[:3] == ["run", "accuracy", "loss"]
    for name in ("slow", "fast"):
        last = events(runs / name)[-1]
        assert last["split"] == "test" == row[name]["evaluated on"]
        assert row[name]["accuracy"] == measured("accuracy", last["accuracy"])
        assert row[name]["loss"] == measured("loss", last["loss"])
        parameters = sum(p.numel() for p in zoo.load(runs / name / "model").parameters())
        assert (row[name]["parameters"], row[name]["steps"]) == (f"{parameters:,}", "20")


@without_plots
def test_the_best_run_is_named_by_the_metrics_own_direction(runs):
    path = compare_page([runs / "slow", runs / "fast"])
    assert re.search(r"on the test part by fast\s*slow ", text_of(path))
    assert f'<b style="color:{looks(2)[1].css}">' in path.read_text()
    better = shutil.copytree(runs / "diabetes", runs / "better")
    write_events(better, [event | ({"rmse": 1.0} if event.get("split") == "test" else {}) for event in events(better)])
    assert "by better" in text_of(compare_page([runs / "diabetes", better]))


@without_plots
def test_no_run_is_best_where_the_data_differ_or_nothing_was_measured(runs):
    assert "part by" not in text_of(compare_page([runs / "slow", runs / "diabetes"]))
    for name in ("slow", "fast"):
        write_events(runs / name, [])
    assert "part by" not in text_of(compare_page([runs / "slow", runs / "fast"]))


def test_a_metric_is_one_plot_of_all_runs_that_have_it(runs, drawn):
    text = text_of(compare_page([runs / name for name in RUNS]))
    assert {key: list(lines) for key, lines in drawn["evaluated"].items()} == {
        "accuracy": ["slow", "fast"],
        "rmse": ["diabetes"],
        "loss": ["slow", "fast", "diabetes"],
        "mae": ["diabetes"],
        "r2": ["diabetes"],
    }
    assert next(iter(drawn["trained"])) == "loss"
    assert list(drawn["trained"]["loss"]) == list(RUNS)
    assert "different data (digits, diabetes)" in text


def test_a_plot_shows_what_was_logged(runs, drawn):
    compare_page([runs / "slow", runs / "fast"])
    for name in ("slow", "fast"):
        logged = events(runs / name)
        val = [event for event in logged if event.get("split") == "val"]
        line = drawn["evaluated"]["accuracy"][name]
        assert (list(line.steps), list(line.values)) == ([e["step"] for e in val], [e["accuracy"] for e in val])
        assert line.final == (20, logged[-1]["accuracy"])
        train = [event["loss"] for event in logged if event.get("split") == "train"]
        assert drawn["trained"]["loss"][name].values == train


def test_a_run_looks_the_same_in_every_plot_and_in_the_tables(runs, drawn):
    path = compare_page([runs / name for name in RUNS])
    found = {name: set() for name in RUNS}
    for lines in [*drawn["evaluated"].values(), *drawn["trained"].values()]:
        for name, line in lines.items():
            found[name].add(line.look)
    assert all(len(each) == 1 for each in found.values())
    assert len(set.union(*found.values())) == 3
    for name, each in found.items():
        assert f"{each.pop().swatch().markup}{name}</span>" in path.read_text()


def test_no_two_runs_look_alike_and_there_is_an_end_to_them():
    assert len({(look.colour, look.dashes) for look in looks(MAX_RUNS)}) == MAX_RUNS
    with pytest.raises(ValueError, match=f"{MAX_RUNS + 1} runs are more than the {MAX_RUNS}"):
        looks(MAX_RUNS + 1)


def test_a_run_that_was_evaluated_at_its_end_only_gets_a_level():
    first, second = looks(2)
    lines = [Line("a", first, [10, 20], [0.1, 0.4], (20, 0.45)), Line("b", second, [], [], (8, 0.3))]
    axes = shown(evaluated, "accuracy", lines)
    found = [(list(line.get_xdata()), list(line.get_ydata()), to_hex(line.get_color())) for line in axes.lines]
    assert ([10, 20], [0.1, 0.4], first.colour) in found
    assert ([20], [0.45], first.colour) in found
    assert ([0, 8], [0.3, 0.3], second.colour) in found
    assert ([8], [0.3], second.colour) in found
    assert len(found) == 4


def test_the_training_loss_is_smoothed_over_what_was_logged():
    rng = np.random.default_rng(0)
    values = (1 + 0.1 * rng.standard_normal(300)).tolist()
    raw, smooth = shown(trained, "loss", [Line("a", *looks(1), range(300), values)]).lines
    assert list(raw.get_ydata()) == values
    assert raw.get_alpha() < 0.5
    assert smooth.get_ydata().std() < 0.5 * raw.get_ydata().std()
    (rate,) = shown(trained, "lr", [Line("a", *looks(1), range(300), values)]).lines
    assert list(rate.get_ydata()) == values


def test_smoothing_does_not_lag_and_keeps_the_beginning():
    ramp = np.arange(200.0)
    np.testing.assert_allclose(smoothed(ramp)[:190], ramp[:190])
    assert smoothed([5.0, 1.0, 1.0])[0] == 5.0
    assert len(smoothed([])) == 0


def test_of_a_long_curve_no_more_is_drawn_than_can_be_seen():
    many = 20 * MAX_POINTS
    for line in shown(trained, "loss", [Line("a", *looks(1), range(many), [1.0] * many)]).lines:
        assert len(line.get_xdata()) == MAX_POINTS
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (0, many - 1)


def test_a_plot_grows_with_its_legend():
    def lines(count, name):
        return [Line(f"{name}{i}", look, [1], [1.0]) for i, look in enumerate(looks(count))]

    assert height(lines(2, "a")) < height(lines(10, "a")) < height(lines(10, "a rather long name of a run "))


def test_runs_are_named_by_the_shortest_path_that_tells_them_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "x" / "a" / "digits", tmp_path / "y" / "a" / "digits", "gpt", tmp_path / "x" / "b" / "digits"]
    assert compare.names(paths) == ["x/a/digits", "y/a/digits", "gpt", "b/digits"]


@without_plots
def test_settings_that_differ_are_compared_and_those_of_some_runs_only_are_folded(runs):
    text = text_of(compare_page([runs / "slow", runs / "fast"]))
    differing, _, rest = text.partition("Settings that differ")[2].partition("Repeat them")
    assert "optimizer.lr" in differing
    assert "0.0001" in differing
    assert "0.01" in differing
    assert "trainer.seed" not in differing
    assert "only some" not in differing
    assert f"zoo train {runs / 'slow' / 'config.yaml'} --out runs/again/slow" in rest
    markup = compare_page([runs / "slow", runs / "diabetes"]).read_text()
    assert "data.image_size" in markup.partition("only some of the runs have")[2].partition("</details>")[0]


def test_an_unfinished_run_is_named_and_shown_as_far_as_it_came(runs, drawn):
    shutil.rmtree(runs / "slow" / "model")
    write_events(runs / "slow", [event for event in events(runs / "slow") if event.get("split") != "test"])
    with (runs / "slow" / "log.jsonl").open("a") as file:
        file.write('{"step": 21, "spl')
    text = text_of(compare_page([runs / "slow", runs / "fast"]))
    assert "slow: The run has not ended" in text
    assert re.search(r"slow: log.jsonl: line \d+ is damaged", text)
    line = drawn["evaluated"]["accuracy"]["slow"]
    assert line.values
    assert line.final is None


@without_plots
def test_what_a_run_knows_of_its_training_part_is_no_result(runs):
    write_events(runs / "slow", [event for event in events(runs / "slow") if event.get("split") == "train"])
    text = text_of(compare_page([runs / "slow", runs / "fast"]))
    assert "nothing yet" in text
    assert "learning rate" not in text.partition("Evaluation")[0]


@pytest.mark.parametrize("name", ["config.yaml", "log.jsonl", "model/model.safetensors"])
def test_a_broken_run_is_an_error_that_names_it(runs, name):
    (runs / "fast" / name).unlink()
    with pytest.raises(OSError, match=re.escape(str(runs / "fast"))):
        compare_page([runs / "slow", runs / "fast"])
    assert not (runs.parent / "comparison.html").exists()


def test_a_run_is_compared_with_others_only(runs):
    os.symlink(runs / "slow", runs / "link")
    for again in (runs / "slow", runs / "fast" / ".." / "slow", runs / "link"):
        with pytest.raises(ValueError, match="given twice"):
            compare_page([runs / "slow", runs / "fast", again])


@pytest.mark.parametrize(
    ("out", "said"),
    [("runs/slow/report.html", "own page"), ("runs/slow.html", "which is a run"), ("page", "ends in .html")],
)
def test_a_comparison_does_not_take_a_runs_place(runs, out, said):
    before = contents(runs)
    with pytest.raises(ValueError, match=said):
        compare_page([runs / "slow", runs / "fast"], out)
    assert contents(runs) == before


def test_a_runs_name_is_text_wherever_it_stands(runs):
    (runs / "slow").rename(runs / "<b>$x$&")
    path = compare_page([runs / "<b>$x$&", runs / "fast"])
    check_page(path.read_text())
    assert "<b>$x$&" in text_of(path)


@without_plots
def test_the_command_compares_several_runs_and_still_writes_the_page_of_one(runs, run, capsys):
    assert run("report", "runs/slow", "runs/fast").strip() == "comparison.html"
    assert run("report", "runs/slow", "runs/fast", "--out", "new/page.html").strip() == "new/page.html"
    assert (runs.parent / "comparison.html").read_text() == (runs.parent / "new" / "page.html").read_text()
    assert run("report", "runs/slow").strip() == "runs/slow/report.html"
    assert main(["report", "runs/slow", "--out", "x.html"]) == 2
    assert "one run's page is runs/slow/report.html" in capsys.readouterr().err
    assert main(["report", "runs/slow", "runs"]) == 2
    assert "runs: there is no config.yaml" in capsys.readouterr().err
