"""Text to tokens and back: bytes, tokenizer.json files, and how they travel with the weights."""

import json
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch
import transformers
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors
from toy_tokenizer import learnt

import zoo
from zoo import tokenizer as public
from zoo.config import ConfigError
from zoo.pipelines import complete
from zoo.storage import DamagedFile
from zoo.tokenizer import ByteTokenizer, FileTokenizer, batch, decode_stream, learn_tokenizer
from zoo.training.run import RunConfig
from zoo.weights import remember

TEXTS = ["def f(x):\n    return x", "größer ≥ 🦓 zebra", "", "  two  spaces ", "日本語のテキスト"]


@pytest.fixture(scope="module")
def library():
    """A byte-level BPE of 400 tokens, learnt from a file of the standard library."""
    return learnt("<end>", "<pad>")


@pytest.fixture(scope="module")
def folder(library, tmp_path_factory):
    """What transformers saves of a small GPT-2 and its tokenizer."""
    path = tmp_path_factory.mktemp("gpt2")
    config = transformers.GPT2Config(
        vocab_size=400, n_positions=64, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(path)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=library, eos_token="<end>", pad_token="<pad>")
    fast.save_pretrained(path)
    return path


@pytest.mark.parametrize("text", TEXTS)
def test_bytes_become_tokens_and_text_again(text):
    reader = ByteTokenizer()
    tokens, segments = reader.encode(text)
    assert tokens == list(text.encode())
    assert segments == [0] * len(tokens)
    assert reader.decode(tokens) == text


@pytest.mark.parametrize("text", TEXTS)
def test_a_folder_s_tokenizer_reads_as_transformers_reads_it(folder, text):
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
    ours = zoo.tokenizer(f"local-dir:{folder}")
    tokens, _ = ours.encode(text)
    assert tokens == theirs.encode(text)
    assert ours.decode([*tokens, 0]) == text == theirs.decode([*tokens, 0], skip_special_tokens=True)
    assert (ours.vocab_size, ours.stop_tokens, ours.pad_token) == (400, (0,), 1)


def test_a_tokenizer_is_saved_with_its_model(folder, tmp_path):
    model = zoo.create(f"local-dir:{folder}")
    saved = zoo.save(model, tmp_path / "mine")
    assert {"tokenizer.json", "tokenizer_config.json"} <= json.loads((saved / "zoo.json").read_text())["files"].keys()
    assert "files" not in json.loads((saved / "config.json").read_text())
    again = zoo.load(saved)
    assert zoo.tokenizer(again).encode(TEXTS[1]) == zoo.tokenizer(model).encode(TEXTS[1])
    zoo.save(again, saved)  # and once more over itself
    assert zoo.tokenizer(f"local-dir:{saved}").stop_tokens == (0,)


def test_a_changed_tokenizer_is_noticed(folder, tmp_path):
    saved = zoo.save(zoo.create(f"local-dir:{folder}"), tmp_path / "mine")
    (saved / "tokenizer.json").write_text((saved / "tokenizer.json").read_text() + " ")
    with pytest.raises(DamagedFile, match=r"tokenizer\.json"):
        zoo.load(saved)


def test_a_broken_tokenizer_is_named():
    for text in (b"", b"{}", b"not json", b'{"version": "1.0"}'):
        with pytest.raises(DamagedFile, match=r"tokenizer\.json: cannot be read: .*; use another copy"):
            FileTokenizer(text)


def test_an_enormous_tokenizer_is_not_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.weights.MAX_TOKENIZER", 100)
    with pytest.raises(DamagedFile, match="more than any tokenizer"):
        zoo.create(f"local-dir:{folder}")


@pytest.mark.parametrize(("end", "pad"), [("<|endoftext|>", None), ("</s>", "<pad>"), (None, "[PAD]"), (None, None)])
def test_what_ends_a_text_is_known_by_its_usual_name_where_the_config_is_silent(library, end, pad):
    made = Library.from_str(library.to_str().replace("<end>", end or "<other>").replace("<pad>", pad or "<more>"))
    reader = FileTokenizer(made.to_str().encode(), b'{"model_max_length": 1024}')
    assert reader.stop_tokens == (() if end is None else (0,))
    assert reader.pad_token == (0 if pad is None else 1)


def test_models_without_a_tokenizer_say_so():
    assert isinstance(zoo.tokenizer(zoo.create("gpt2", vocab_size=256, dim=16, depth=1, num_heads=2)), ByteTokenizer)
    with pytest.raises(ValueError, match=r"GPT2 has a vocabulary of 99 tokens and no tokenizer with it"):
        zoo.tokenizer(zoo.create("gpt2", vocab_size=99, dim=16, depth=1, num_heads=2))
    with pytest.raises(ValueError, match="gpt2 has a vocabulary of 50257 tokens"):
        zoo.tokenizer("gpt2")
    with pytest.raises(ValueError, match="resnet18 reads no text"):
        zoo.tokenizer("resnet18")


def test_the_function_keeps_its_name_beside_the_module():
    assert callable(zoo.tokenizer)
    assert zoo.tokenizer is public


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_of_tokens_gives_the_whole_text_and_no_half_letters(library, text):
    for reader in (ByteTokenizer(), FileTokenizer(library.to_str().encode())):
        pieces = list(decode_stream(reader, reader.encode(text)[0]))
        assert "".join(pieces) == text
        assert not any("\ufffd" in piece for piece in pieces)


def test_a_stream_shows_bytes_that_never_became_a_letter():
    assert "".join(decode_stream(ByteTokenizer(), [104, 105, 0xE2, 0x89])) == "hi\ufffd"
    assert "".join(decode_stream(ByteTokenizer(), [0xFF, 104, 105])) == "\ufffdhi"


def test_a_batch_is_filled_up_behind_and_masked():
    made = batch(ByteTokenizer(), ["abc", "", "de"])
    assert made.keys() == {"tokens", "mask"}
    assert made["tokens"].tolist() == [[97, 98, 99], [0, 0, 0], [100, 101, 0]]
    assert made["mask"].tolist() == [[True] * 3, [False] * 3, [True, True, False]]
    assert batch(ByteTokenizer(), ["abc", "de"], max_seq_len=2)["tokens"].tolist() == [[97, 98], [100, 101]]
    with pytest.raises(ValueError, match="one or more texts"):
        batch(ByteTokenizer(), [])


def test_every_text_of_a_batch_has_its_end_if_that_is_asked_for(framed):
    made = batch(ByteTokenizer(), ["abc", "", "de"], max_seq_len=3, end=True)
    assert made["tokens"].tolist() == [[97, 98, 0], [0, 0, 0], [100, 101, 0]]
    assert made["mask"].tolist() == [[True] * 3, [True, False, False], [True] * 3]
    assert batch(ByteTokenizer(), ["abc"], end=True)["tokens"].tolist() == [[97, 98, 99, 0]]
    ours, _ = framed
    with pytest.raises(ValueError, match="no token that ends a text; name one as eos_token"):
        batch(ours, ["a b"], end=True)
    ending = FileTokenizer(ours.files["tokenizer.json"], b'{"eos_token": "[SEP]"}')  # which puts it there itself
    assert batch(ending, ["a b c", "a"], max_seq_len=4, end=True)["tokens"].tolist() == [[1, 4, 5, 2], [1, 4, 2, 3]]


@pytest.fixture
def framed():
    """A tokenizer that puts tokens of its own around texts, and transformers' with the same."""
    made = Library(models.WordLevel({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "[PAD]": 3, "a": 4, "b": 5, "c": 6}, "[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=made, pad_token="[PAD]")
    return FileTokenizer(made.to_str().encode(), b'{"pad_token": {"content": "[PAD]"}}'), theirs


def test_a_vocabulary_is_learnt_that_gives_texts_back_in_small_letters_and_ends_them():
    texts = ["Return the file_name of a File.", "the file's name, or an Äpfel", "no file"] * 3
    learnt = learn_tokenizer(texts, 290)
    assert learnt.vocab_size == 290
    tokens, _ = learnt.encode("File_name  of\nthe Äpfel \u4e2d")
    assert learnt.decode(tokens) == "file _ name of the äpfel \u4e2d"
    assert tokens[-1] == learnt.stop_tokens[0] == 1
    assert learnt.encode("file")[0] == [*tokens[:1], 1], "a word is the same wherever it stands"
    assert learnt.encode("name")[0][:-1] == tokens[2 : 2 + len(learnt.encode("name")[0]) - 1]
    assert learnt.encode("")[0] == [1]
    assert learnt.pad_token == 0
    assert len(learnt.encode("the file of the file of", max_seq_len=4)[0]) == 4
    assert batch(learnt, ["the", "the file"], end=True)["tokens"][:, -1].tolist() == [0, 1]


def test_the_same_texts_give_the_same_vocabulary():
    texts = ["Return the file_name of a File.", "the file's name", "an Äpfel, or no file at all"] * 2
    first, *others = (learn_tokenizer(texts, 285).files for _ in range(6))
    assert all(other == first for other in others)


def test_a_vocabulary_that_cannot_be_learnt_is_refused():
    with pytest.raises(ValueError, match="vocab_size 257 has no room for the bytes and two special tokens; give 258"):
        learn_tokenizer(["a"], 257)
    with pytest.raises(ValueError, match=r"vocab_size 400 is more than the 26. tokens that the texts give"):
        learn_tokenizer(["file name"], 400)


def test_pairs_have_segments_as_transformers_gives_them(framed):
    reader, theirs = framed
    expected = theirs(["a b", "c"], ["c", "a"], padding=True, return_token_type_ids=True, return_tensors="pt")
    ours = batch(reader, ["a b", "c"], ["c", "a"])
    assert torch.equal(ours["tokens"], expected["input_ids"])
    assert torch.equal(ours["mask"], expected["attention_mask"].bool())
    assert torch.equal(ours["segments"], expected["token_type_ids"])


@pytest.mark.parametrize("pair", [None, "b", "b b b b b b b", "c " * 20], ids=["alone", "short", "longer", "long"])
@pytest.mark.parametrize("length", [4, 5, 8, 11, 40])
def test_long_texts_are_cut_as_transformers_cuts_them(framed, pair, length):
    reader, theirs = framed
    expected = theirs("a b c a c", pair, truncation="longest_first", max_length=length, return_token_type_ids=True)
    tokens, segments = reader.encode("a b c a c", pair, length)
    assert (tokens, segments) == (expected["input_ids"], expected["token_type_ids"])
    assert (tokens[0], tokens[-1]) == (1, 2)
    assert len(reader.encode("a b c a c")[0]) == 7  # a length is for the one call


def test_a_length_without_room_for_the_tokenizer_s_own_tokens_is_refused(framed):
    with pytest.raises(ValueError, match="2 tokens have no room for the 3 that this tokenizer adds itself"):
        batch(framed[0], ["a"], ["b"], max_seq_len=2)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        ("aaaa", "bb", "aaaa_bb"),
        ("aaaaaaaa", "bb", "aaaa_bb"),
        ("aa", "bbbbbbbb", "aa_bbbb"),
        ("a" * 9, "b" * 9, "aaa_bbb"),
    ],
    ids=["whole", "first", "second", "both"],
)
def test_of_two_texts_in_bytes_the_longer_one_is_cut_first(first, second, kept):
    made = batch(ByteTokenizer(), [first], [second], max_seq_len=7)
    assert bytes(made["tokens"][0].tolist()) == kept.replace("_", "\0").encode()
    assert made["segments"][0].tolist() == [int(letter in "_b") for letter in kept]


@pytest.mark.parametrize(
    ("generation", "config", "stops"),
    [
        ({"eos_token_id": [7, 0, 9]}, {"eos_token_id": 3}, (0, 7, 9)),
        (None, {"eos_token_id": [0, 7]}, (0, 7)),
        (None, {"eos_token_id": None}, (0,)),
        ({"eos_token_id": -1}, {}, (0,)),
        ({}, {"eos_token_id": 3}, (0,)),
    ],
    ids=["generation_config", "config", "nothing", "none", "silent"],
)
def test_all_that_ends_a_text_is_known_and_saved(folder, tmp_path, generation, config, stops):
    there = shutil.copytree(folder, tmp_path / "theirs")
    (there / "generation_config.json").unlink()
    if generation is not None:
        (there / "generation_config.json").write_text(json.dumps(generation))
    facts = json.loads((there / "config.json").read_text())
    (there / "config.json").write_text(json.dumps(facts | {"eos_token_id": None} | config))
    model = zoo.create(f"local-dir:{there}")
    assert zoo.tokenizer(model).stop_tokens == zoo.tokenizer(f"local-dir:{there}").stop_tokens == stops
    assert zoo.tokenizer(zoo.load(zoo.save(model, tmp_path / "mine"))).stop_tokens == stops
    zoo.save(model, tmp_path / "mine")  # over itself


def test_a_text_stops_at_each_of_its_ends(folder):
    model = zoo.create(f"local-dir:{folder}").eval()
    written = [int(token) for token in model.stream(torch.tensor([[5]]), 12)]
    files = {**model.provenance.files, "generation_config.json": json.dumps({"eos_token_id": [written[4]]}).encode()}
    remember(model, files=files)
    reader = zoo.tokenizer(model)
    prompt = reader.decode([5])
    assert reader.encode(prompt)[0] == [5]
    text = "".join(complete(model, prompt, 12, sampling=zoo.pipelines.text.Sampling(temperature=0)))
    assert text == reader.decode(written[: written.index(written[4])])


def test_a_broken_file_beside_the_tokenizer_is_named(library):
    for text in (b"[1]", b"{", b""):
        with pytest.raises(DamagedFile, match=r"generation_config\.json: cannot be read"):
            FileTokenizer(library.to_str().encode(), b"{}", text)


def test_tokens_beyond_the_vocabulary_matter_only_in_a_text_that_has_them(folder):
    model = zoo.create(f"local-dir:{folder}").eval()
    more = Library.from_str(model.provenance.files["tokenizer.json"].decode())
    more.add_special_tokens(["<more>"])
    remember(model, files={**model.provenance.files, "tokenizer.json": more.to_str().encode()})
    assert zoo.tokenizer(model).vocab_size == 401
    assert "".join(complete(model, "def f", 4)) is not None
    with pytest.raises(ValueError, match="the prompt has token 400, and the vocabulary of this GPT2 ends at 399"):
        complete(model, "def <more>", 4)


def test_a_text_is_completed_in_the_tokens_of_its_model(folder):
    model = zoo.create(f"local-dir:{folder}").eval()
    reader = zoo.tokenizer(model)
    prompt = torch.tensor([reader.encode("def f")[0]])
    expected = model.generate(prompt, 12, stop_tokens=[0])[0, prompt.shape[1] :]
    sampling = zoo.pipelines.text.Sampling()
    assert "".join(complete(model, "def f", 12, sampling=sampling)) == reader.decode(expected.tolist())
    with pytest.raises(ValueError, match="leave room for"):
        complete(model, "def f", 64)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A folder of a few sources of the standard library."""
    path = tmp_path_factory.mktemp("texts")
    for name in ("bisect", "heapq", "fnmatch"):
        (path / f"{name}.py").write_text((Path(sysconfig.get_path("stdlib")) / f"{name}.py").read_text())
    return path


def test_a_text_to_finetune_on_is_read_by_the_tokenizer_of_the_weights(folder, texts, run, tmp_path, no_report):
    out, name = tmp_path / "run", f"local-dir:{folder}"
    run("finetune", name, "--data", texts, "--out", out, "data.seq_len=32", "trainer.steps=2", "-q")
    config = RunConfig.read(out / "config.yaml")
    assert (config.data["tokenizer"], config.model["vocab_size"]) == (name, 400)
    assert zoo.tokenizer(f"local-dir:{out}").encode(TEXTS[0]) == zoo.tokenizer(name).encode(TEXTS[0])
    words = ["data.seq_len=32", "--json"]
    measured = json.loads(run("evaluate", out, "--json"))
    assert "bits_per_byte" not in measured  # it counts tokens
    assert json.loads(run("evaluate", out, "--data", texts, *words))["loss"] == pytest.approx(measured["loss"])
    assert json.loads(run("evaluate", name, "--data", texts, *words))["samples"] == measured["samples"]


@pytest.mark.parametrize("model", ["a name", "weights beside it", "another name"])
def test_a_config_that_starts_from_weights_reads_text_as_they_do(model, folder, texts):
    section = {
        "a name": {"name": f"local-dir:{folder}"},
        "weights beside it": {"name": "gpt2", "weights": str(folder)},
        "another name": {"name": "gpt2", "dim": 16, "depth": 1, "num_heads": 2, "vocab_size": 400},
    }[model]
    sections = {"model": section, "data": {"name": "text", "path": str(texts), "seq_len": 32}, "trainer": {"steps": 1}}
    trainer = zoo.Trainer(RunConfig.of(sections))
    text = trainer.splits.train.fetch([0], None)["tokens"][0].tolist()
    if model == "another name":  # without weights
        assert (trainer.config.data["tokenizer"], bytes(text)) == (None, (texts / "bisect.py").read_bytes()[:32])
    else:
        assert trainer.config.data["tokenizer"] == f"local-dir:{folder}"
        assert text == zoo.tokenizer(f"local-dir:{folder}").encode((texts / "bisect.py").read_text())[0][:32]


def test_weights_that_read_bytes_go_on_reading_bytes(texts):
    sections = {"model": "gpt2.stdlib", "data": {"name": "text", "path": str(texts)}, "trainer": {"steps": 1}}
    assert zoo.Trainer(RunConfig.of(sections)).config.data["tokenizer"] is None


def test_weights_that_came_without_a_tokenizer_read_no_text(folder, texts, tmp_path):
    bare = tmp_path / "bare"
    shutil.copytree(folder, bare, ignore=shutil.ignore_patterns("tokenizer*"))
    sections = {"model": f"local-dir:{bare}", "data": {"name": "text", "path": str(texts)}, "trainer": {"steps": 1}}
    with pytest.raises(ConfigError, match=r"vocabulary of 400 tokens and no tokenizer .*; or name .* data\.tokenizer$"):
        zoo.Trainer(RunConfig.of(sections))


def test_a_model_of_bytes_may_have_tokens_above_them(texts, tmp_path):
    model = zoo.create("bert", vocab_size=257, dim=16, depth=1, num_heads=2, mlp_dim=16)  # the last one is its mask
    assert zoo.tokenizer(model).encode("a<extra_id_0>")[0] == [97, 256]
    zoo.save(model, tmp_path / "bert")
    data = {"name": "text", "path": str(texts), "seq_len": 32}
    sections = {"model": f"local-dir:{tmp_path / 'bert'}", "data": data, "trainer": {"steps": 1}}
    assert zoo.Trainer(RunConfig.of(sections)).config.data["tokenizer"] is None


def test_a_tokenizer_that_the_user_names_goes_before_that_of_the_weights(folder, texts, library, tmp_path):
    library.save(str(tmp_path / "other.json"))
    data = {"name": "text", "path": str(texts), "seq_len": 32, "tokenizer": str(tmp_path / "other.json")}
    sections = {"model": f"local-dir:{folder}", "data": data, "trainer": {"steps": 1}}
    assert zoo.Trainer(RunConfig.of(sections)).config.data["tokenizer"] == str(tmp_path / "other.json")


def test_a_tokenizer_of_more_tokens_than_the_model_knows_is_refused(folder, texts):
    data = {"name": "text", "path": str(texts), "tokenizer": f"local-dir:{folder}"}
    sections = {"model": "gpt2.stdlib", "data": data, "trainer": {"steps": 1}}
    with pytest.raises(ConfigError, match="GPT2 has vocab_size 256, but the data's tokenizer has 400 tokens"):
        zoo.Trainer(RunConfig.of(sections))
