"""Text as bytes: every byte is a target once, and the held-out part stays held out."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import tokenizers
import torch

import zoo
from zoo.training.data.corpus import END, Corpus, Part
from zoo.training.data.text import STDLIB_LEAVES_OUT, TextConfig, Windows, list_files, load
from zoo.training.run import RunConfig


def numbered(count, seq_len):
    """Windows over bytes that tell their own position."""
    return Windows(np.arange(count, dtype=np.uint8), seq_len)


def text_of(split):
    return split.data[:].tobytes()


def write_folder(root, names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return root


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(bytes(range(256)) * 10)
    return path


@pytest.mark.parametrize("count", [2, 8, 9, 16, 17, 18, 100], ids=lambda count: f"{count} bytes")
def test_every_byte_but_the_first_is_a_target_once(count):
    windows = numbered(count, seq_len=8)
    batch = windows.fetch(range(len(windows)), None)
    assert batch["tokens"].shape == batch["target"].shape == (len(windows), 8)
    asked = batch["target"] != -100
    assert batch["target"][asked].tolist() == list(range(1, count))
    assert torch.equal(batch["tokens"][asked] + 1, batch["target"][asked])


def test_training_windows_start_anywhere_in_their_own_stretch():
    windows = numbered(81, seq_len=8)
    rngs = [np.random.default_rng(seed) for seed in range(2000)]
    for index in (0, 4):
        batch = windows.fetch([index] * len(rngs), rngs)
        assert set(batch["tokens"][:, 0].tolist()) == set(range(index * 8, index * 8 + 8))
        assert torch.equal(batch["tokens"] + 1, batch["target"])


@pytest.mark.parametrize("count", [9, 10, 77, 81], ids=lambda count: f"{count} bytes")
def test_training_windows_stay_within_the_text(count):
    windows = numbered(count, seq_len=8)
    indices = list(range(len(windows))) * 50
    batch = windows.fetch(indices, [np.random.default_rng(seed) for seed in range(len(indices))])
    assert torch.equal(batch["tokens"] + 1, batch["target"])
    assert batch["target"].max() == count - 1


def test_a_sample_depends_on_its_own_generator_only():
    windows = numbered(200, seq_len=8)
    together = windows.fetch([3, 7], [np.random.default_rng(0), np.random.default_rng(1)])
    alone = windows.fetch([7], [np.random.default_rng(1)])
    assert torch.equal(together["tokens"][1:], alone["tokens"])


def test_the_data_say_what_a_model_needs(file):
    splits = load(TextConfig(path=str(file), seq_len=32))
    assert splits.spec.keys == ("tokens", "target")
    assert splits.spec.model_fields() == {"vocab_size": 256, "max_seq_len": 32}
    batch = splits.train.fetch([0], None)
    assert batch["tokens"].dtype == batch["target"].dtype == torch.int64


def test_the_last_tenth_of_a_file_is_held_out(file):
    splits = load(TextConfig(path=str(file), seq_len=32))
    assert splits.val is None
    assert text_of(splits.train) + text_of(splits.test) == file.read_bytes()
    assert len(splits.test.data) == 256


def test_the_end_of_the_training_part_can_be_kept_for_validation(file):
    splits = load(TextConfig(path=str(file), seq_len=32, val_fraction=0.25))
    assert text_of(splits.train) + text_of(splits.val) + text_of(splits.test) == file.read_bytes()
    assert [len(part.data) for part in (splits.train, splits.val, splits.test)] == [1728, 576, 256]


def test_of_many_files_those_with_a_certain_hash_are_held_out(tmp_path):
    names = [f"chapter{i % 7}/page{i}.txt" for i in range(150)]
    folder = write_folder(tmp_path, names)
    splits = load(TextConfig(path=str(folder), seq_len=16))
    for name in names:
        held_out = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0
        text = f"this is {name}\n\0".encode()
        assert (text in text_of(splits.test), text in text_of(splits.train)) == (held_out, not held_out)
    assert 5 < text_of(splits.test).count(b"\0") < 30


def test_a_file_stays_on_its_side_when_others_come(tmp_path):
    folder = write_folder(tmp_path, [f"{i}.txt" for i in range(120)])
    before = set(text_of(load(TextConfig(path=str(folder), seq_len=16)).test).split(b"\n\0"))
    write_folder(tmp_path, [f"later/{i}.txt" for i in range(120)])
    after = set(text_of(load(TextConfig(path=str(folder), seq_len=16)).test).split(b"\n\0"))
    assert before <= after


def test_few_files_are_one_text(tmp_path):
    folder = write_folder(tmp_path, ["b.txt", "a.md", "a/z.py", "c/d/e.txt", "a/picture.png", ".git/x.txt"])
    splits = load(TextConfig(path=str(folder), seq_len=4))
    joined = b"".join(f"this is {name}\n\0".encode() for name in ("a.md", "b.txt", "a/z.py", "c/d/e.txt"))
    assert text_of(splits.train) + text_of(splits.test) == joined
    assert len(splits.test.data) == len(joined) // 10


def test_the_order_is_that_of_the_names_and_not_of_the_disk(tmp_path):
    names = [f"{folder}{i}.txt" for folder in ("", "a/", "b/") for i in range(10)]
    assert list_files(write_folder(tmp_path, names[::2] + names[::-2]), (".txt",)) == names


def test_suffixes_choose_the_files_of_a_folder(tmp_path):
    folder = write_folder(tmp_path, ["a.txt", "b.rst", "c.rst"])
    splits = load(TextConfig(path=str(folder), seq_len=4, suffixes=(".rst",)))
    assert text_of(splits.train) + text_of(splits.test) == b"this is b.rst\n\0this is c.rst\n\0"


def test_folders_that_are_left_out_are_not_even_entered(tmp_path, monkeypatch):
    write_folder(tmp_path, ["a.py", "site-packages/b.py", "x/test/c.py", "config-3.11/d.py", "x/tests.py"])
    entered, scandir = [], os.scandir
    monkeypatch.setattr("os.scandir", lambda path: entered.append(Path(path).name) or scandir(path))
    assert list_files(tmp_path, (".py",), STDLIB_LEAVES_OUT) == ["a.py", "x/tests.py"]
    assert entered == [tmp_path.name, "x"]


def test_the_standard_library_is_read_by_default():
    splits = load(TextConfig())
    train, test = text_of(splits.train), text_of(splits.test)
    assert len(train) > 5_000_000
    assert 0.05 < len(test) / (len(train) + len(test)) < 0.2
    both = train + test
    assert both.count(b"class OrderedDict(") == 1
    assert b"import pytest" not in both
    assert not set(train.split(b"\n\0")) & {text for text in test.split(b"\n\0") if len(text) > 100}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "training part has 0 bytes and needs 129 with data.seq_len 128; give more text"),
        (b"x" * 128, "training part has 116 bytes and needs 129 with data.seq_len 128; give more text"),
    ],
    ids=["empty", "short"],
)
def test_a_text_too_short_for_one_window_is_named(tmp_path, content, message):
    path = tmp_path / "little.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"little.txt: the {message}"):
        load(TextConfig(path=str(path)))


def test_a_path_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.txt.* does not exist; give"):
        load(TextConfig(path=str(tmp_path / "nowhere.txt")))


def test_a_folder_without_text_says_which_endings_it_looked_for(tmp_path):
    write_folder(tmp_path, ["a.tex"])
    with pytest.raises(ValueError, match=r"no file ends in .txt, .md, .py; name other endings by data.suffixes"):
        load(TextConfig(path=str(tmp_path)))


@pytest.mark.parametrize("options", [{"seq_len": 0}, {"val_fraction": 1.0}, {"val_fraction": -0.1}], ids=str)
def test_pieces_without_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        TextConfig(**options)


def lines(root, count=8, length=30):
    """Files of which each holds one letter."""
    for index in range(count):
        (root / f"{chr(97 + index)}.txt").write_text(chr(97 + index) * (length + index))
    return root


def test_a_folder_is_read_as_if_its_files_were_one(tmp_path):
    folder = lines(tmp_path)
    whole = b"".join(path.read_bytes() + END for path in sorted(folder.iterdir()))
    corpus = Corpus(sorted(folder.iterdir()))
    assert len(corpus) == len(whole)
    for start in range(0, len(whole), 7):
        for stop in (start, start + 1, start + 33, start + 70, len(whole)):
            assert corpus[start:stop].tobytes() == whole[start:stop]
            assert Part(corpus, 11, 200)[start:stop].tobytes() == whole[11:200][start:stop]


def test_a_file_that_changed_meanwhile_is_named(tmp_path):
    corpus = Corpus([tmp_path / "a.txt"] if (tmp_path / "a.txt").write_text("abc") else [])
    (tmp_path / "a.txt").write_text("abcdef")
    with pytest.raises(ValueError, match=r"a\.txt has changed its size"):
        corpus[0:5]


@pytest.mark.parametrize("rngs", [False, True], ids=["in order", "at random"])
def test_no_sample_reaches_into_the_next_document(tmp_path, rngs):
    train = load(TextConfig(path=str(lines(tmp_path)), seq_len=16, documents=True)).train
    indices = list(range(len(train))) * 5
    batch = train.fetch(indices, [np.random.default_rng(i) for i in indices] if rngs else None)
    for tokens, target in zip(batch["tokens"], batch["target"], strict=True):
        letters = {chr(token) for token in [*tokens.tolist(), *target[target != -100].tolist()]} - {"\n", "\0"}
        assert len(letters) <= 1
        assert (target != -100).any()


def test_every_byte_of_every_document_is_a_target_once(tmp_path):
    folder = lines(tmp_path, length=45)
    splits = load(TextConfig(path=str(folder), seq_len=16, documents=True))
    asked = sum(
        (split.fetch(range(len(split)), None)["target"] != -100).sum().item() for split in (splits.train, splits.test)
    )
    total, documents = sum(path.stat().st_size + 2 for path in folder.iterdir()), 8 + 1  # one is cut in two
    assert asked == total - documents


@pytest.mark.parametrize("rngs", [False, True], ids=["in order", "at random"])
def test_the_mask_of_documents_is_true_for_their_tokens_alone(tmp_path, rngs):
    splits = load(TextConfig(path=str(lines(tmp_path)), seq_len=16, documents=True))
    assert splits.spec.keys == ("tokens", "target", "mask")
    indices = list(range(len(splits.train)))
    batch = splits.train.fetch(indices, [np.random.default_rng(i) for i in indices] if rngs else None)
    assert not batch["mask"].all()
    assert not batch["tokens"][~batch["mask"]].any()
    for row in range(len(indices)):
        asked = int((batch["target"][row] != -100).sum())
        assert batch["mask"][row].tolist() == [place < asked + (asked < 16) for place in range(16)]


STEP = {"optimizer": {"name": "adamw", "lr": 1e-3}, "trainer": {"steps": 2}}


@pytest.mark.parametrize("model", ["gpt2", "mamba", "lstm"])
def test_language_models_learn_from_documents_as_they_did_without_a_mask(tmp_path, model, monkeypatch):
    sizes = {"dim": 16, "depth": 1, **({"num_heads": 2} if model == "gpt2" else {})}
    data = {"name": "text", "path": str(lines(tmp_path)), "seq_len": 16, "documents": True}
    config = RunConfig.of({"model": {"name": model, **sizes}, "data": data, **STEP})

    def weights():
        (trainer := zoo.Trainer(config)).fit()
        return torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()])

    masked, fetch = weights(), Windows.fetch
    monkeypatch.setattr(
        Windows, "fetch", lambda *words: {k: v for k, v in fetch(*words).items() if k in ("tokens", "target")}
    )
    assert torch.equal(masked, weights())


@pytest.mark.parametrize(("model", "goal"), [("bert", "masked_lm"), ("t5", "span_corruption")])
def test_models_of_whole_documents_read_no_padding(tmp_path, model, goal):
    sizes = {"dim": 16, "depth": 1, "num_heads": 2, "mlp_dim": 32} | ({"vocab_size": 356} if model == "t5" else {})
    data = {"name": "text", "path": str(lines(tmp_path)), "seq_len": 32, "documents": True, "batch_size": 4}
    trainer = zoo.Trainer(RunConfig.of({"model": {"name": model, **sizes}, "data": data, "objective": goal, **STEP}))
    read = []
    trainer.model.register_forward_pre_hook(lambda _, args, inputs: read.append(inputs), with_kwargs=True)
    trainer.fit()
    key, name = ("tokens", "mask") if model == "bert" else ("source", "source_mask")
    assert not all(inputs[name].all() for inputs in read)
    for inputs in read:
        padding = inputs[key][~inputs[name]]
        assert len(set(padding.tolist())) <= 1  # nothing was hidden, or written, there


@pytest.fixture
def reader(tmp_path):
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"<end>": 0, "?": 1, "one": 2, "two": 3, "three": 4}, "?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.add_special_tokens(["<end>"])
    made.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": "<end>"}')
    return tmp_path / "tokenizer.json"


def test_text_is_read_by_a_tokenizer(tmp_path, reader):
    for name, text in {"a": "one two", "b": "three one", "c": "two four two one"}.items():
        (tmp_path / f"{name}.txt").write_text(text)
        (tmp_path / f"x{name}.txt").write_text(text)
    splits = load(TextConfig(path=str(tmp_path), seq_len=2, tokenizer=str(reader)))
    assert splits.train.data[:].tolist() + splits.test.data[:].tolist() == [2, 3, 0, 4, 2, 0, 3, 1, 3, 2, 0] * 2
    assert splits.spec.model_fields() == {"vocab_size": 5, "max_seq_len": 2}
    assert splits.spec.tokenizer["tokenizer.json"] == reader.read_bytes()
    with pytest.raises(FileNotFoundError, match=r"give a tokenizer\.json or a model that has one"):
        load(TextConfig(path=str(tmp_path), seq_len=2, tokenizer=str(tmp_path / "no" / "tokenizer.json")))


def test_a_tokenizer_that_ends_texts_itself_gives_each_one_end(tmp_path, reader):
    made = tokenizers.Tokenizer.from_file(str(reader))
    made.post_processor = tokenizers.processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 0)])
    made.save(str(reader))
    for name in "abcdefghij":
        (tmp_path / f"{name}.txt").write_text("one two")
    splits = load(TextConfig(path=str(tmp_path), seq_len=2, tokenizer=str(reader)))
    assert splits.train.data[:].tolist() + splits.test.data[:].tolist() == [2, 3, 0] * 10


def test_a_model_keeps_the_tokenizer_of_its_text(tmp_path, reader):
    (tmp_path / "text.txt").write_text("one two three " * 50)
    config = RunConfig.of(
        {
            "model": {"name": "gpt2", "dim": 8, "depth": 1, "num_heads": 1},
            "data": {"name": "text", "path": str(tmp_path / "text.txt"), "seq_len": 8, "tokenizer": str(reader)},
            "optimizer": {"name": "adamw", "lr": 1e-3},
            "trainer": {"steps": 2},
        }
    )
    trainer = zoo.Trainer(config)
    trainer.fit()
    saved = zoo.save(trainer.model, tmp_path / "model")
    assert zoo.tokenizer(zoo.load(saved)).decode([2, 3, 0]) == "one two"
