"""Texts are judged by a trained model as they were in training: the same tokenizer, the same length."""

import csv
import json

import pytest

import zoo
from zoo.cli import main
from zoo.pipelines import predict
from zoo.pipelines.predict_text import texts_of
from zoo.training.run import RunConfig

SEQ_LEN = 16
TEXTS = ["good film, really", "bad film"]


def trained(folder, name, rows, **data):
    """A run that has learnt from rows of text and label."""
    folder.mkdir(exist_ok=True)
    path = folder / "train.jsonl"
    path.write_text("\n".join(json.dumps({"text": text, "label": label}) for text, label in rows))
    sizes = {"dim": 16, "depth": 1, "dropout": 0.0, **({"num_heads": 2, "mlp_dim": 32} if name == "bert" else {})}
    config = RunConfig.of(
        {
            "model": {"name": name, **sizes},
            "data": {"name": "labelled_text", "path": str(path), "seq_len": SEQ_LEN, "batch_size": 16, **data},
            "optimizer": {"name": "adamw", "lr": 0.01},
            "trainer": {"steps": 60, "device": "cpu"},
        }
    )
    trainer = zoo.Trainer(config, out=folder / "run", quiet=True)
    trainer.fit()
    return trainer


@pytest.fixture(scope="module", params=["bert", "lstm"])
def classifier(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    rows = [(f"{'good' if i % 2 else 'bad'} film {i}", "pos" if i % 2 else "neg") for i in range(60)]
    trained(folder, request.param, rows)
    return folder / "run"


def write(path, texts):
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"id": 7, "text": text}) for text in texts))
    elif path.suffix == ".txt":
        path.write_text("\ufeff" + "\n\n".join(texts) + "\n", encoding="utf-8")
    else:
        with path.open("w", newline="") as file:
            columns = [["review"], *([text] for text in texts)]
            if path.stem == "several":
                columns = [["id", "text"], *(["7", text] for text in texts)]
            csv.writer(file).writerows(columns)


@pytest.mark.parametrize("name", ["several.csv", "only.csv", "a.jsonl", "a.txt"])
def test_each_text_of_a_file_gets_its_label(classifier, name, run, tmp_path):
    write(tmp_path / name, TEXTS)
    found = json.loads(run("predict", classifier, tmp_path / name, "--json"))
    assert [(answer["input"], answer["label"]) for answer in found] == list(zip(TEXTS, ["pos", "neg"], strict=True))
    assert all(answer["confidence"] > 0.9 for answer in found)
    table = run("predict", classifier, tmp_path / name).splitlines()
    assert table[1].startswith("good film, really  pos")


def test_a_text_is_cut_short_as_in_training(classifier, tmp_path):
    write(tmp_path / "a.jsonl", ["good film " + "x" * 6, "good film " + "x" * 6 + " bad" * 50])
    short, long = predict(zoo.load(classifier), tmp_path / "a.jsonl")
    assert short.confidence == pytest.approx(long.confidence, abs=1e-6)


def test_answers_are_those_of_the_evaluation(classifier, tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"{word} film {i}" for i in range(40, 60) for word in ("good", "bad")))
    labels = [answer.label for answer in predict(zoo.load(classifier), tmp_path / "a.txt")]
    assert labels == ["pos", "neg"] * 20


def test_a_quantity_is_told_in_its_own_unit(run, tmp_path):
    trainer = trained(
        tmp_path, "bert", [("much" if i % 2 else "little", 300 if i % 2 else 100) for i in range(40)], task="regression"
    )
    assert trainer.evaluate("test")["rmse"] < 20
    (tmp_path / "a.txt").write_text("much\nlittle\n")
    much, little = json.loads(run("predict", tmp_path / "run", tmp_path / "a.txt", "--json"))
    assert much["value"] == pytest.approx(300, abs=30)
    assert little["value"] == pytest.approx(100, abs=30)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "a,b\n1,2\n", "none of the columns a, b is called 'text'; rename"),
        ("a.csv", "text\n", "the file holds no text"),
        ("a.txt", "\n \n", "the file holds no text"),
        ("a.jsonl", '{"text": "x"}\n{"text": ""}', "line 2: no 'text'"),
        ("a.png", "x", r"this model reads texts; give a \.csv, \.tsv or \.jsonl file"),
    ],
    ids=["no such column", "no rows", "blank", "no text", "another file"],
)
def test_files_without_texts_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message):
        texts_of(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        texts_of(tmp_path / f"no{name}")


def test_models_that_judge_nothing_say_what_they_are_for(tmp_path, capsys):
    (tmp_path / "s.csv").write_text("a,b\n" + "".join(f"{i % 7},{i % 5}\n" for i in range(200)))
    config = RunConfig.of(
        {
            "model": {"name": "lstm", "dim": 8, "depth": 1},
            "data": {"name": "series", "path": str(tmp_path / "s.csv"), "seq_len": 8},
            "optimizer": {"name": "adamw", "lr": 0.01},
            "trainer": {"steps": 1},
        }
    )
    zoo.Trainer(config, out=tmp_path / "run", quiet=True).fit()
    assert main(["predict", str(tmp_path / "run"), str(tmp_path / "s.csv")]) == 2
    said = capsys.readouterr().err
    assert "do not say from how many rows, nor how far ahead" in said
    assert "in Python" in said
    with pytest.raises(ValueError, match="and texts for those with num_classes; writing is for `generate`"):
        list(predict(zoo.create("bert", dim=8, depth=1, num_heads=1, mlp_dim=8), tmp_path / "s.csv"))
