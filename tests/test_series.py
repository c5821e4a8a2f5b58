"""Time series from files: which columns, which windows, and that nothing of the future is learnt from."""

import numpy as np
import pytest
import torch

from zoo.training.data.series import SeriesFile, load


def write(path, rows=200):
    lines = ["day,heat,rain,note"] + [f"d{t},{20 + t / 10},{t % 7},x" for t in range(rows)]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def file(tmp_path):
    return write(tmp_path / "weather.csv")


def test_columns_of_numbers_are_the_variables(file):
    splits = load(SeriesFile(path=file, seq_len=8))
    assert splits.spec.columns == ("heat", "rain")
    assert splits.spec.model_fields() == {"in_features": 2, "out_features": 2}
    assert load(SeriesFile(path=file, seq_len=8, columns=("rain",))).spec.columns == ("rain",)
    assert load(SeriesFile(path=file, seq_len=8, columns=("2", "heat"))).spec.columns == ("rain", "heat")


def test_parts_follow_each_other_in_time_and_are_normalised_by_the_first(file):
    splits = load(SeriesFile(path=file, seq_len=8))
    parts = [splits.train.values, splits.val.values, splits.test.values]
    assert [len(part) for part in parts] == [140, 20, 40]
    heat = np.concatenate(parts)[:, 0] * splits.spec.std[0] + splits.spec.mean[0]
    np.testing.assert_allclose(heat, 20 + np.arange(200) / 10, rtol=1e-5)
    np.testing.assert_allclose(parts[0].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(parts[0].std(0), 1, atol=1e-5)


@pytest.mark.parametrize("horizon", [1, 5])
def test_the_target_is_what_comes_so_many_times_later(file, horizon):
    splits = load(SeriesFile(path=file, seq_len=8, horizon=horizon))
    for part in (splits.train, splits.test):
        batch = part.fetch(range(len(part)), None)
        assert batch["features"].shape == batch["target"].shape == (len(part), 8, 2)
        step = torch.tensor(0.1 * horizon / splits.spec.std[0], dtype=torch.float32)
        torch.testing.assert_close(
            (batch["target"] - batch["features"])[..., 0], step.expand(len(part), 8), rtol=1e-3, atol=1e-4
        )
        last = torch.from_numpy(part.values[-1])
        assert torch.equal(batch["target"][-1, -1], last)


def test_training_windows_start_anywhere(file):
    train = load(SeriesFile(path=file, seq_len=8)).train
    indices = list(range(len(train))) * 40
    batch = train.fetch(indices, [np.random.default_rng(index) for index in range(len(indices))])
    assert len({float(row[0, 0]) for row in batch["features"]}) > 100


def test_names_that_are_numbers_are_read_where_the_config_says_that_there_are_names(tmp_path):
    lines = ["date,101,102"] + [f"d{t},{t % 5},{t % 7}" for t in range(100)]
    (tmp_path / "s.csv").write_text("\n".join(lines))
    path = str(tmp_path / "s.csv")
    assert load(SeriesFile(path=path, seq_len=8, header=True)).spec.columns == ("101", "102")
    assert load(SeriesFile(path=path, seq_len=8, header=True, columns=("102",))).spec.columns == ("102",)
    with pytest.raises(ValueError, match=r"no column '102' .*; set data\.header=true if the first row holds names"):
        load(SeriesFile(path=path, seq_len=8, columns=("102",)))


def test_columns_of_which_nothing_is_a_number_are_left_aside(tmp_path):
    (tmp_path / "s.csv").write_text("a,note,blank\n" + "".join(f"{t % 5},x{t},\n" for t in range(100)))
    assert load(SeriesFile(path=str(tmp_path / "s.csv"), seq_len=8)).spec.columns == ("a",)


def test_arrays_are_read_too(tmp_path):
    values = np.random.default_rng(0).normal(size=(120, 3))
    np.savez(tmp_path / "a.npz", features=values)
    splits = load(SeriesFile(path=str(tmp_path / "a.npz"), seq_len=8))
    assert splits.spec.in_features == 3
    np.testing.assert_allclose(splits.spec.mean, values[:84].mean(0))


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ("a,b\n1,x\n2,y\n", {}, "the train part has 2 times and needs 9"),
        ("a,b\nx,y\nz,w\n", {}, "no column holds numbers"),
        ("t,a,b\nd1,1,2\nd2,,3\nd3,4,5\n", {}, "line 3, column 'a': not a finite number; .*or name .*data.columns"),
        ("a,b,a\n1,2,3\n", {}, "2 columns are called 'a'; rename all but one"),
        ("a,b\n1,2\n3,oops\n", {"columns": ("b",)}, "line 3, column 'b': not a finite number; fill it in"),
        ("a,b\n1,2\n3\n", {}, "line 3: 1 cells where 2 are expected"),
        ("a,b\n" + "1,2\n" * 50, {}, "'a' never changes in the training part; leave it out"),
        ("a,b\n1,2\n", {"columns": ("c",)}, "there is no column 'c' for data.columns; it has a, b"),
        ("", {}, "the file holds no rows"),
    ],
    ids=["short", "words", "a hole", "twice", "a word", "ragged", "constant", "unknown", "empty"],
)
def test_files_that_are_no_series_are_refused(tmp_path, content, options, message):
    (tmp_path / "s.csv").write_text(content)
    with pytest.raises(ValueError, match=message):
        load(SeriesFile(path=str(tmp_path / "s.csv"), seq_len=8, test_fraction=0.0, **options))


def test_impossible_windows_are_refused(tmp_path, file):
    with pytest.raises(ValueError, match="seq_len 0 is below 1"):
        SeriesFile(path=file, seq_len=0)
    with pytest.raises(ValueError, match="horizon 0 is below 1"):
        SeriesFile(path=file, horizon=0)
    with pytest.raises(ValueError, match="the val part has 20 times and needs 101"):
        load(SeriesFile(path=file, seq_len=100))
