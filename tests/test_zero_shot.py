"""Images told apart by words: the classifier is the formula, and files are read as in training."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from comparison import perturbed
from peer_libraries import imported
from PIL import Image
from test_clip import VIT, of_open_clip
from toy_tokenizer import learnt

import zoo
from zoo.cli import main
from zoo.pipelines import embed_images, embed_texts, predict, zero_shot
from zoo.pipelines.zero_shot import TEMPLATES, classes_for, tells_by_texts
from zoo.tokenizer import BYTES, batch, tokenizer
from zoo.weights import remember

LABELS = ("flower", "temple", "ship")
PROMPTS = (("a red flower", "a rose"), ("the temple", "old stones"), ("ship", "a boat"))
LOOKS = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25), "image_size": 16}
READS_BYTES = {**dataclasses.asdict(VIT), "vocab_size": BYTES, "max_seq_len": 24, "end_token": 0}


def made(labels=(), **facts):
    model = zoo.create("clip", **READS_BYTES)
    with torch.no_grad():
        perturbed(model)
    remember(model, labels=labels, preprocessing=LOOKS | facts)
    return model


@pytest.fixture
def model():
    return made()


@pytest.fixture
def saved(tmp_path):
    """Weights that know their classes."""
    return zoo.save(made(LABELS, prompts=PROMPTS), tmp_path / "clip")


def photos(folder, count=4):
    random = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        pixels = random.integers(0, 256, (20, 26, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def vector(model, texts):
    """Where a class lies, by hand: the mean of vectors of length 1, at length 1."""
    total = torch.zeros(model.config.dim)
    for text in texts:
        tokens = [*text.encode()[: model.config.max_seq_len - 1], 0]
        found = model.encode_text(torch.tensor([tokens]))[0]
        total += found / found.norm()
    return total / total.norm()


@torch.no_grad()
def test_a_class_lies_at_the_mean_of_its_texts_and_answers_are_the_scaled_cosines(model, tmp_path):
    templates = ["a photo of a {}", "{}, somewhere", "the {} and the {}"]
    classifier = zero_shot(model, LABELS, templates)
    expected = torch.stack([vector(model, [text.replace("{}", label) for text in templates]) for label in LABELS])
    torch.testing.assert_close(classifier.vectors, expected)
    photos(tmp_path)
    looks = zoo.transforms(model)
    for answer in classifier.predict(tmp_path):
        image = model.encode_image(looks(Image.open(answer.input))[None])[0]
        sure = (model.logit_scale.exp() * expected @ (image / image.norm())).softmax(0)
        assert [choice.label for choice in answer.top] == [LABELS[i] for i in sure.argsort(descending=True)]
        assert [choice.confidence for choice in answer.top] == pytest.approx(
            sure.sort(descending=True).values.tolist(), abs=1e-6
        )
        assert (answer.label, answer.confidence) == (answer.top[0].label, answer.top[0].confidence)


@torch.no_grad()
def test_the_classes_texts_at_once_or_one_by_one_lie_at_the_same_place(model, monkeypatch):
    together = zero_shot(model, LABELS).vectors
    monkeypatch.setitem(zero_shot.__globals__, "TEXTS", 5)
    torch.testing.assert_close(zero_shot(model, LABELS).vectors, together)
    torch.testing.assert_close(together[1], vector(model, [text.format("temple") for text in TEMPLATES]))


def test_a_model_stays_in_its_mode_and_gets_no_gradient(model, tmp_path):
    classifier = zero_shot(model.train(), LABELS)
    list(classifier.predict(photos(tmp_path)))
    assert model.training
    assert not classifier.vectors.requires_grad


@torch.no_grad()
def test_a_model_in_half_precision_answers_nearly_alike(model):
    image = torch.randn(4, 3, 16, 16)
    expected = zero_shot(model.eval(), LABELS)(image).softmax(-1)
    found = zero_shot(model.bfloat16(), LABELS)(image.bfloat16())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.softmax(-1), expected, atol=0.05, rtol=0)


@pytest.mark.peers
@torch.no_grad()
def test_classes_lie_where_open_clip_puts_them(tmp_path):

    open_clip = imported("open_clip")

    reader = learnt()
    reader.add_special_tokens(["<|endoftext|>"])  # the last, for open_clip takes the largest token for the end
    reader.save(str(tmp_path / "tokenizer.json"))
    config = dataclasses.replace(VIT, vocab_size=reader.get_vocab_size(), max_seq_len=24)
    theirs = perturbed(of_open_clip(config).eval())
    ours = zoo.create("clip", weights=_written(theirs, tmp_path), **dataclasses.asdict(config))
    files = {"tokenizer.json": (tmp_path / "tokenizer.json").read_bytes()}
    remember(ours, preprocessing=LOOKS, tokenizer="tokenizer.json", files=files)
    ours_reader = tokenizer(ours)

    def read(texts):
        return batch(ours_reader, texts, max_seq_len=24, fill=True, end=True)["tokens"]

    labels, templates = ["flower", "temple gate", "s"], ["a photo of the {}.", "{}", "my {}!"]
    expected = open_clip.build_zero_shot_classifier(theirs, read, labels, templates, num_classes_per_batch=2)
    torch.testing.assert_close(zero_shot(ours, labels, templates).vectors, expected.T, atol=1e-6, rtol=1e-5)


def _written(model, folder):
    from safetensors.torch import save_file

    path = folder / "weights.safetensors"
    save_file({name: tensor.clone().contiguous() for name, tensor in model.state_dict().items()}, path)
    return path


@torch.no_grad()
def test_images_and_texts_lie_in_one_space(model, tmp_path):
    names, images = embed_images(model, photos(tmp_path, 3))
    texts = embed_texts(model, ["one", "a text that is far longer than twenty-four bytes"])
    assert [name[-5:] for name in names] == ["0.png", "1.png", "2.png"]
    torch.testing.assert_close(images.norm(dim=-1), torch.ones(3))
    torch.testing.assert_close(texts[1], vector(model, ["a text that is far longer than twenty-four bytes"]))
    first = zoo.transforms(model)(Image.open(names[0]))
    torch.testing.assert_close(images[0], model.eval().encode_image(first[None])[0])
    with pytest.raises(ValueError, match="there is no text"):
        embed_texts(model, [])
    with pytest.raises(TypeError, match="texts 'abc' is one text"):
        embed_texts(model, "abc")
    with pytest.raises(TypeError, match="texts hold 3, which is no text"):
        embed_texts(model, ["abc", 3])


@torch.no_grad()
def test_weights_know_the_classes_of_their_training_and_what_these_were_called(saved):
    model = zoo.load(saved)
    classifier = zero_shot(model)
    assert classifier.labels == LABELS
    torch.testing.assert_close(classifier.vectors, torch.stack([vector(model, texts) for texts in PROMPTS]))
    torch.testing.assert_close(zero_shot(model, ["ship", "flower"]).vectors, classifier.vectors[[2, 0]])
    others = zero_shot(model, ["ship", "cat"]).vectors
    torch.testing.assert_close(others[0], vector(model, [text.format("ship") for text in TEMPLATES]))
    torch.testing.assert_close(zero_shot(model, templates=["{}"]).vectors[0], vector(model, ["flower"]))


@pytest.mark.parametrize(
    ("labels", "templates", "error", "message"),
    [
        (None, None, ValueError, 'knows none of its own; say which, by labels=.*--labels "a flower,a temple"'),
        (["cat"], None, ValueError, "two or more are needed"),
        (["cat", " "], None, ValueError, "none may be empty"),
        (["cat", "dog", "cat "], None, ValueError, "label 'cat' is given twice"),
        ("cat,dog", None, TypeError, "labels 'cat,dog' is one text"),
        (["cat", "dog"], "a {}", TypeError, "templates 'a {}' is one text"),
        (["cat", "dog"], ["a {}", "a photo"], ValueError, "template 'a photo' has no {}"),
        (["cat", "dog"], [], ValueError, "there is no template"),
        ([], None, ValueError, "knows none of its own"),
        (["cat", 3], None, TypeError, "labels hold 3, which is no text"),
        (["cat", "dog"], ["a {}", None], TypeError, "templates hold None, which is no text"),
    ],
    ids=[
        "none",
        "one",
        "empty",
        "twice",
        "text",
        "template text",
        "no place",
        "no template",
        "empty list",
        "number",
        "no text",
    ],
)
def test_what_cannot_be_asked_is_refused(model, labels, templates, error, message):
    with pytest.raises(error, match=message):
        zero_shot(model, labels, templates)


def test_models_that_know_no_texts_or_no_images_are_refused(model, tmp_path):
    pairs = zoo.create("clip", **{**READS_BYTES, "vision": "text"})
    for other in (zoo.create("resnet18"), pairs):
        assert not tells_by_texts(other)
        for call in (zero_shot, embed_texts, embed_images):
            with pytest.raises(
                ValueError, match=r"does not compare images with texts, .* take a CLIP, such as those of"
            ):
                call(other, ["a", "b"])
    with pytest.raises(ValueError, match="vocabulary of 49408 tokens and no tokenizer"):
        zero_shot(zoo.create("clip_vit_b_32", vision_depth=1, text_depth=1), ["a", "b"])
    with pytest.raises(ValueError, match=r"CLIP answers by zoo\.pipelines\.zero_shot\(model, labels\)"):
        list(predict(model, tmp_path))
    with pytest.raises(ValueError, match="resnet18 does not compare"):
        classes_for("resnet18", ["a", "b"])


def test_arrays_are_read_too(model, tmp_path):
    np.save(tmp_path / "a.npy", np.random.default_rng(0).random((3, 3, 16, 16), dtype=np.float32))
    found = list(zero_shot(model, LABELS).predict(tmp_path / "a.npy", top=1))
    assert [(answer.input[-8:], len(answer.top)) for answer in found] == [(f"a.npy[{i}]", 1) for i in range(3)]
    with pytest.raises(ValueError, match="top 0 is below 1"):
        list(zero_shot(model, LABELS).predict(tmp_path / "a.npy", top=0))


def test_the_command_takes_labels_as_words_or_as_a_file(saved, run, tmp_path):
    photos(tmp_path / "p", 2)
    (tmp_path / "labels.txt").write_text("a cat, black\na dog\n\n")
    words = json.loads(run("predict", saved, tmp_path / "p", "--labels", "a cat, a dog,a cow", "--json"))
    assert [sorted(choice["label"] for choice in answer["top"]) for answer in words] == [
        ["a cat", "a cow", "a dog"]
    ] * 2
    lines = json.loads(run("predict", saved, tmp_path / "p/0.png", "--labels", tmp_path / "labels.txt", "--json"))
    assert {choice["label"] for choice in lines[0]["top"]} == {"a cat, black", "a dog"}
    own = json.loads(run("predict", saved, tmp_path / "p/0.png", "--json"))
    assert {choice["label"] for choice in own[0]["top"]} == set(LABELS)
    table = run("predict", saved, tmp_path / "p", "--template", "some {}", "--template", "{}")
    assert table.splitlines()[0].split() == ["INPUT", "LABEL", "CONFIDENCE", "NEXT"]


def test_the_command_takes_more_labels_than_a_file_s_name_has_room_for(saved, run, tmp_path):
    photos(tmp_path / "p", 1)
    labels = [f"class number {number}" for number in range(100)]
    found = json.loads(run("predict", saved, tmp_path / "p", "--labels", ",".join(labels), "--top", "100", "--json"))
    assert {choice["label"] for choice in found[0]["top"]} == set(labels)


@pytest.mark.parametrize("given", [",", "", " , "])
def test_empty_labels_are_told_from_none(given, saved, tmp_path, capsys):
    assert main(["predict", str(saved), str(photos(tmp_path / "p", 1)), "--labels", given]) == 2
    said = "labels are empty; give two or more, or leave them away to take those of the training: flower, temple, ship"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["plain"], ['--labels "a flower,a temple"']),
        (["plain", "--labels", "cat"], ["two or more"]),
        (["plain", "--labels", "missing.txt"], ["missing.txt", "no such file of labels"]),
        (["plain", "--labels", "cat,dog", "--template", "a photo"], ["'a photo' has no {}"]),
        (["resnet20.digits", "--labels", "cat,dog"], ["resnet20.digits does not compare", "take a CLIP"]),
        (["resnet20.digits", "--template", "a {}"], ["resnet20.digits does not compare"]),
    ],
    ids=["no labels", "one label", "no file", "template", "classifier", "classifier's template"],
)
def test_the_command_refuses_in_one_line_with_the_remedy(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    zoo.save(made(), "plain")
    photos(tmp_path / "p", 1)
    code = main(["predict", words[0], "p/0.png", *words[1:]])
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == (2, 1)
    assert all(part in error for part in said), error
