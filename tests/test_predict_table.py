"""A table's columns are found by their names, as they were called in training."""

import json

import pytest

import zoo
from zoo.cli import main
from zoo.pipelines import predict


def test_predict_finds_columns_by_their_names(run, tmp_path, no_report):
    rows = [(i / 10, 50 + i % 7, "big" if i > 15 else "small") for i in range(30)]
    table = "height,width,kind\n" + "".join(f"{a},{b},{kind}\n" for a, b, kind in rows)
    (tmp_path / "train.csv").write_text(table)
    words = ["trainer.steps=60", "data.batch_size=8", "optimizer.lr=0.01"]
    (tmp_path / "run.yaml").write_text(run("create-config", "mlp", "--data", tmp_path / "train.csv", *words))
    run("train", tmp_path / "run.yaml", "--out", tmp_path / "run", "-q")

    def answers(text):
        (tmp_path / "x.csv").write_text(text)
        return [
            answer["label"] for answer in json.loads(run("predict", tmp_path / "run", tmp_path / "x.csv", "--json"))
        ]

    assert answers("height,width\n2.9,50\n0.1,50\n") == ["big", "small"]
    assert answers("width,kind,height\n50,?,2.9\n50,?,0.1\n") == ["big", "small"]
    assert answers("2.9,50\n0.1,50\n") == ["big", "small"]
    for text, said in [
        ("x,y\n1,2\n", "no column 'height'; this model reads height, width"),
        ("height,z\n1,2\n", "'width'"),
    ]:
        (tmp_path / "x.csv").write_text(text)
        assert main(["predict", str(tmp_path / "run"), str(tmp_path / "x.csv")]) == 2
        with pytest.raises(ValueError, match=said):
            list(predict(zoo.load(tmp_path / "run"), tmp_path / "x.csv"))
