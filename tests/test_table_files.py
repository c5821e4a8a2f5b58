"""Tables from CSV and NPZ files, and the errors that name the cell."""

import numpy as np
import pytest
import torch
from samples import read, whole, write

CSV = "a,b,kind\n" + "".join(f"{i},5,{'cat' if i % 2 else 'ant'}\n" for i in range(20))


def test_a_csv_file_is_split_standardised_and_its_constant_columns_are_left_at_zero(tmp_path):
    splits = read("tabular", path=write(tmp_path, CSV), val_fraction=0.25)
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [12, 4, 4]
    assert splits.spec.labels == ("ant", "cat")
    train = whole(splits.train)["features"]
    torch.testing.assert_close(train.std(0, correction=0), torch.tensor([1.0, 0.0]))
    original = torch.cat([whole(p)["features"] for p in (splits.train, splits.val, splits.test)])[:, 0]
    original = (original * splits.spec.std[0] + splits.spec.mean[0]).round()
    assert sorted(original.tolist()) == list(range(20))
    target = torch.cat([whole(p)["target"] for p in (splits.train, splits.val, splits.test)])
    assert torch.equal(target, original.long() % 2)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (CSV, {}),
        (CSV.replace(",", ";"), {}),
        (CSV.replace(",", "\t"), {"target": "kind"}),
        ("\ufeff" + CSV.partition("\n")[2], {}),
        (CSV.partition("\n")[2], {}),
        (CSV.partition("\n")[2].replace("\n", "\r\n") + "\r\n", {"target": "2", "header": False}),
    ],
    ids=["comma", "semicolon", "tab", "byte order mark", "no header", "windows lines"],
)
def test_dialects_of_csv_read_the_same(tmp_path, text, options):
    expected = read("tabular", path=write(tmp_path, CSV, "a.csv"), test_fraction=0.0)
    found = read("tabular", path=write(tmp_path, text, "b.csv"), test_fraction=0.0, **options)
    assert found.test is None
    for key, value in whole(found.train).items():
        assert torch.equal(value, whole(expected.train)[key])


def test_a_column_can_be_regressed_on(tmp_path):
    splits = read("tabular", path=write(tmp_path, "x,y\n1,0.5\n2,1.5\n3,2.5\n"), target="x", task="regression")
    assert whole(splits.test)["target"].shape == (1, 1)
    assert splits.spec.num_classes == 1
    assert len(splits.spec.target_mean) == 1


def test_an_npz_file_reads_like_a_csv_file(tmp_path):
    np.savez(tmp_path / "t.npz", features=np.arange(40.0).reshape(20, 2), target=np.arange(20) % 3)
    splits = read("tabular", path=str(tmp_path / "t.npz"))
    assert splits.spec.labels == ("0", "1", "2")
    assert len(splits.train) == 16


NUMBERED = "".join(f"{i},{i}\n" for i in range(9))


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b,y\n1,2,0\n1,red,1\n", {}, "line 3, column 'b': 'red' is not a finite number"),
        ("a,b,y\n1,2,0\n1,,1\n", {}, "line 3, column 'b': '' is not"),
        ("a,b,y\n1,2,0\n1,nan,1\n", {}, "line 3, column 'b': 'nan' is not"),
        ("a,b,y\n1,2,0\n1,2\n", {}, "line 3: 2 cells where 3 are expected"),
        ("a,b,y\n1,2,0\n1,2,\n", {}, "column 'y': an empty cell"),
        ("", {}, "no rows"),
        ("a,b,y\n", {}, "0 rows of 3 columns"),
        ("1\n2\n", {}, "1 columns"),
        (CSV, {"target": "colour"}, "there is no column 'colour' for data.target; it has a, b, kind"),
        (CSV, {"target": "a"}, "line 2, column 'kind': 'ant' is not a finite number"),
        (NUMBERED, {}, "9 different targets in 9 rows are no classes; set data.task=regression"),
        ("1,0.5\n2,1.5\n", {}, "the target 0.5 is no class; set data.task=regression"),
        (CSV, {"task": "regression"}, "holds text, so it is no quantity"),
        (b"\xff\xfe1,2", {}, "not a text file in UTF-8"),
        ('1,"2\n', {}, "not a CSV file"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_bad_table_is_refused_by_line_and_column(tmp_path, text, options, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read("tabular", path=path, **options)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3)}, "'features' and 'target' are needed"),
        ({"features": np.zeros((3, 2)), "target": np.zeros(4)}, "have shape"),
        ({"features": np.array([[1.0, np.inf]] * 4), "target": np.arange(4) % 2}, r"features\[0, 1\] is not finite"),
        ({"features": np.array([[None]]), "target": np.zeros(1)}, "not an NPZ file of numbers"),
    ],
    ids=["names", "shapes", "infinite", "objects"],
)
def test_a_bad_npz_file_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        read("tabular", path=str(tmp_path / "t.npz"))


def test_a_file_that_is_no_npz_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not an NPZ file"):
        read("tabular", path=write(tmp_path, b"junk", "t.npz"))
