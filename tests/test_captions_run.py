"""A run on images with captions, from the config to the page: the weights then know their classes by their texts."""

import json

import numpy as np
import pytest
import torch
from pages import Elements, check_page
from PIL import Image
from samples import photos
from shards import folder

import zoo
from zoo.pipelines import zero_shot
from zoo.report import run_page
from zoo.report.folder import read_run
from zoo.tokenizer import ByteTokenizer
from zoo.training.assemble import load_data
from zoo.training.data.digit_captions import WORDS, captions_of

SMALL = {
    "name": "clip", "patch_size": 2, "vision_dim": 24, "vision_depth": 1, "vision_num_heads": 2, "vision_mlp_dim": 32,
    "text_dim": 24, "text_depth": 1, "text_num_heads": 2, "text_mlp_dim": 32, "dim": 16,
}  # fmt: skip


def trained(out, data, steps):
    config = {"model": SMALL, "data": data, "optimizer": {"lr": 5e-3}, "trainer": {"steps": steps, "device": "cpu"}}
    zoo.Trainer(zoo.RunConfig.of(config), out=out, quiet=True).fit()
    return out


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("run") / "digits", {"name": "digit_captions", "batch_size": 32}, 30)


@torch.no_grad()
def test_the_saved_model_tells_digits_apart_as_its_evaluation_did(digits):
    model = zoo.load(digits / "model").eval()
    classifier = zero_shot(model)
    batch = load_data({"name": "digit_captions"}).test.fetch(range(360), None)
    accuracy = (classifier(batch["image"]).argmax(-1) == batch["target"]).float().mean().item()
    assert accuracy == pytest.approx(read_run(digits).final[1]["accuracy"], abs=1e-6)
    assert classifier.labels == WORDS


def test_the_saved_model_says_what_its_classes_were_called_and_how_it_reads(digits):
    model = zoo.load(digits / "model")
    facts = json.loads((digits / "model/config.json").read_text())
    assert facts["labels"] == list(WORDS)
    assert facts["preprocessing"]["prompts"] == [captions_of(digit) for digit in range(10)]
    assert isinstance(zoo.tokenizer(model), ByteTokenizer)
    assert zoo.transforms(model)(Image.fromarray(np.zeros((9, 9), np.uint8))).shape == (1, 8, 8)
    assert (model.config.max_seq_len, model.config.end_token, model.config.in_channels) == (27, 0, 1)


def test_a_digit_is_read_from_a_file_without_labels_and_with_some(digits, run, tmp_path):
    splits = load_data({"name": "digit_captions", "normalize": "none"})
    image = splits.test.fetch([0], None)["image"][0, 0]
    Image.fromarray((image * 255).round().byte().numpy()).save(tmp_path / "digit.png")
    found = json.loads(run("predict", digits, tmp_path / "digit.png", "--json", "--top", "10"))[0]
    assert {choice["label"] for choice in found["top"]} == set(WORDS)
    pair = json.loads(run("predict", digits, tmp_path / "digit.png", "--labels", "seven,two", "--json"))[0]
    scores = {choice["label"]: choice["confidence"] for choice in found["top"]}
    expected = scores["two"] / (scores["seven"] + scores["two"])
    assert {c["label"]: c["confidence"] for c in pair["top"]}["two"] == pytest.approx(expected, abs=1e-3)


def test_the_page_of_a_run_with_classes_shows_which_are_mistaken(digits):
    text = run_page(digits).read_text()
    check_page(text)
    shown = Elements(text).text
    accuracy = read_run(digits).final[1]["accuracy"]
    assert f"{100 * accuracy:.2f}\u202f%accuracy on the test part" in shown
    assert f"{round(360 * (1 - accuracy))} test samples are wrong" in shown.replace(" of 360", "")
    assert "taken for" in shown
    assert (digits / "report/confusion.png").exists()


def test_the_page_of_a_run_without_classes_shows_texts_that_are_found(tmp_path):
    data = {"name": "image_text", "path": str(folder(tmp_path / "photos", range(20))), "image_size": 8, "seq_len": 12}
    page = run_page(trained(tmp_path / "run", {**data, "batch_size": 8, "test_fraction": 0.25}, 3)).read_text()
    check_page(page)
    shown = Elements(page).text
    assert "Which text it finds for an image" in shown
    batch = load_data(data | {"test_fraction": 0.25}).test.fetch(range(5), None)
    with torch.no_grad():
        logits = zoo.load(tmp_path / "run/model").eval()(**batch).logits_per_image
    found = int((logits.argmax(-1) == torch.arange(5)).sum())
    assert f"Of 5 texts, the nearest is the image's own for {found} of 5 test images" in shown
    assert shown.count("its own: picture") == 5 - found
    assert "prompts" not in json.loads((tmp_path / "run/model/config.json").read_text())["preprocessing"]


def test_classes_of_a_folder_are_judged_by_their_texts_whatever_the_weights_know(digits, run, tmp_path):
    photos(tmp_path / "p", classes=("cat", "dog"))
    words = ["data.name=image_text", "data.seq_len=27", "data.templates=['a {}', 'the {}']", "data.test_fraction=0.5"]
    found = json.loads(run("evaluate", digits, "--data", tmp_path / "p", *words, "--json"))
    assert (found["data"], found["samples"]) == ("image_text", 6)
    model = zoo.load(digits / "model")
    data = {"name": "image_text", "path": str(tmp_path / "p"), "test_fraction": 0.5, "templates": ["{}"]}
    classifier = zero_shot(model, ["cat", "dog"], ["a {}", "the {}"])
    test = load_data({**data, "image_size": 8, "in_channels": 1}).test
    paths = [test.source.paths[row] for row in test.rows.tolist()]
    right = sum(next(classifier.predict(path)).label == path.parent.name for path in paths)
    assert found["accuracy"] == pytest.approx(right / 6)


def test_a_classifier_learns_from_the_images_alone(tmp_path):
    config = {"model": "resnet20", "data": {"name": "digit_captions", "batch_size": 8}, "trainer": {"steps": 1}}
    assert "accuracy" in zoo.Trainer(zoo.RunConfig.of(config), quiet=True).fit().metrics
