"""Texts with labels or partners, from files that users bring."""

import csv
import json

import pytest
import torch

import zoo
from zoo.config import parse_overrides
from zoo.training.assemble import load_data
from zoo.training.data.labelled_text import LabelledText, load
from zoo.training.data.locate import locate
from zoo.training.run import RunConfig

ROWS = [
    {"text": f"{'good' if i % 2 else 'bad'} film {i}", "label": "pos" if i % 2 else "neg", "other": f"answer {i}"}
    for i in range(60)
]


@pytest.fixture(params=["jsonl", "csv", "tsv"])
def file(request, tmp_path):
    path = tmp_path / f"films.{request.param}"
    if request.param == "jsonl":
        path.write_text("\n".join(json.dumps(row) for row in ROWS))
    else:
        mark = "," if request.param == "csv" else "\t"
        path.write_text("\n".join(mark.join(row) for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]))
    return str(path)


def read(split, index=0):
    batch = split.fetch([index], None)
    return bytes(batch["tokens"][0][batch["mask"][0]].tolist()).decode()


def test_texts_have_classes(file):
    splits = load(LabelledText(path=file, seq_len=20, val_fraction=0.25))
    assert splits.spec.keys == ("tokens", "mask", "target")
    assert splits.spec.labels == ("neg", "pos")
    assert splits.spec.model_fields() == {"num_classes": 2, "vocab_size": 256, "max_seq_len": 20}
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [36, 12, 12]
    texts = []
    for part in (splits.train, splits.val, splits.test):
        for index in range(len(part)):
            texts.append(read(part, index))
            assert part.fetch([index], None)["target"].item() == texts[-1].startswith("good")
    assert sorted(texts) == sorted(row["text"] for row in ROWS)


def test_a_long_text_loses_its_end_and_shapes_never_change(file):
    splits = load(LabelledText(path=file, seq_len=5))
    assert read(splits.train) in ("good ", "bad f")
    assert splits.train.fetch([0, 1, 2], None)["tokens"].shape == (3, 5)


def test_two_texts_are_read_as_one_where_there_is_a_label(file):
    batch = load(LabelledText(path=file, pair="other", seq_len=40)).train.fetch([0], None)
    assert batch.keys() == {"tokens", "mask", "segments", "target"}
    second = batch["tokens"][0][batch["segments"][0].bool()].tolist()
    assert bytes(second).lstrip(b"\0").startswith(b"answer ")


def test_partners_come_apart_where_there_is_none(file):
    splits = load(LabelledText(path=file, pair="other", label="", seq_len=40))
    assert splits.spec.keys == ("tokens", "mask", "pair_tokens", "pair_mask")
    batch = splits.test.fetch([3], None)
    numbers = [
        bytes(batch[key][0][batch[key.replace("tokens", "mask")][0]].tolist()).split()[-1]
        for key in ("tokens", "pair_tokens")
    ]
    assert numbers[0] == numbers[1]


def test_a_quantity_is_standardised_by_the_training_part(tmp_path):
    path = tmp_path / "stars.jsonl"
    path.write_text("\n".join(json.dumps({"text": "x" * (1 + i % 5), "label": i % 5}) for i in range(50)))
    splits = load(LabelledText(path=str(path), task="regression"))
    assert splits.train.fetch([0, 1], None)["target"].shape == (2, 1)
    assert splits.spec.target_mean[0] == pytest.approx(2, abs=0.5)
    assert splits.spec.num_classes == 1


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        ('{"text": "a", "label": "b"}\n[1]', {}, "line 2: expected an object, got list"),
        ('{"text": "a", "label": "b"}\n{oops', {}, "line 2: not JSON"),
        ('{"text": "a"}', {}, "line 1: no 'label' for data.label, in text; fill it in or name another"),
        ('{"text": "", "label": "x"}', {}, "line 1: no 'text' for data.text"),
        ("", {}, "the file holds no rows"),
        ('{"text": "a", "label": "b"}', {}, "1 different labels in 1 rows are no classes"),
        ('{"text": "a", "label": "b"}', {"task": "regression"}, "set data.task=classification"),
        ('{"text": "a", "label": "nan"}', {"task": "regression"}, "not finite"),
    ],
    ids=["list", "no json", "no label", "empty text", "empty", "one class", "words", "nan"],
)
def test_files_that_lack_something_are_refused(tmp_path, content, options, message):
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(LabelledText(path=str(tmp_path / "t.jsonl"), **options))
    assert "t.jsonl" in str(caught.value)


def test_options_that_leave_nothing_to_learn_are_refused():
    with pytest.raises(ValueError, match="label and pair are both empty"):
        LabelledText(path="x", label="")
    with pytest.raises(ValueError, match="seq_len 0 is below 1"):
        LabelledText(path="x", seq_len=0)


@pytest.mark.parametrize("name", ["bert", "lstm"])
def test_a_model_learns_to_tell_the_texts_apart(name, file):
    sizes = {
        "dim": 16,
        "depth": 1,
        **({"num_heads": 2, "mlp_dim": 32} if name == "bert" else {"tie_embeddings": False}),
    }
    config = RunConfig.of(
        {
            "model": {"name": name, **sizes, "dropout": 0.0},
            "data": {"name": "labelled_text", "path": file, "seq_len": 16, "batch_size": 16},
            "optimizer": {"name": "adamw", "lr": 0.01},
            "trainer": {"steps": 60},
        }
    )
    assert zoo.Trainer(config).fit().metrics["accuracy"] > 0.9


def test_files_of_texts_are_known_by_their_name_or_their_column(file, tmp_path):
    assert locate(file)["name"] == "labelled_text"
    for name, header, kind in [("a.csv", "texts,label", "tabular"), ("b.csv", 'id;"text"', "labelled_text")]:
        (tmp_path / name).write_text(f"{header}\n1,2\n")
        assert locate(str(tmp_path / name))["name"] == kind


def test_a_table_of_words_says_how_texts_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("review,label\nbad film,0\ngood film,1\n")
    with pytest.raises(
        ValueError, match=r"'bad film' is not a finite number; .* texts are read by data\.name=labelled_"
    ):
        load_data({"name": "tabular", "path": str(tmp_path / "a.csv")})


def test_a_text_may_be_longer_than_the_csv_module_s_limit(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(f'"{"word " * 40_000}",{i % 2}\n' for i in range(4)))
    before = csv.field_size_limit()
    train = load(LabelledText(path=str(tmp_path / "a.csv"), seq_len=8)).train
    assert len(train.texts[0]) == 200_000
    assert csv.field_size_limit() == before


def test_two_columns_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label,text\na,b,c\n")
    with pytest.raises(ValueError, match=r"a\.csv: 2 columns are called 'text'; rename all but one"):
        load(LabelledText(path=str(tmp_path / "a.csv")))


def test_numbers_are_the_same_label_however_they_are_written(tmp_path):
    labels = [1, 1.0, "1", 0, 0.0, "0", 0.5, 0.5]
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps({"text": "x", "label": label}) for label in labels))
    options = LabelledText(path=str(tmp_path / "a.jsonl"))
    assert load(options).spec.labels == ("0", "0.5", "1")
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('\n{"text": "x", "label": true}')
    with pytest.raises(
        ValueError, match="line 9: 'label' is true or false in some rows, in others not; write all alike"
    ):
        load(options)


def test_an_empty_word_on_the_command_line_means_that_there_is_no_label(file):
    data = parse_overrides(["data.label=", f"data.path={file}", "data.pair=other", "data.name=labelled_text"])["data"]
    assert "pair_tokens" in load_data(data).spec.keys


@torch.no_grad()
def test_the_labels_belong_to_the_model(file, tmp_path):
    config = RunConfig.of(
        {
            "model": {"name": "bert", "dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32},
            "data": {"name": "labelled_text", "path": file, "seq_len": 16},
            "objective": {"name": "classification"},
            "optimizer": {"name": "adamw", "lr": 0.01},
            "trainer": {"steps": 1},
        }
    )
    trainer = zoo.Trainer(config)
    with torch.enable_grad():
        trainer.fit()
    assert trainer.model.provenance.labels == ("neg", "pos")
