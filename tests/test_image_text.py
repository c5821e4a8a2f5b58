"""Images with captions from folders and tables: what belongs together, which caption is read, and what is refused."""

import os

import pytest
import torch
from samples import photos, rngs
from shards import folder, picture, read, samples, table, tar
from toy_tokenizer import learnt

from zoo.training.data.image_text import ImageText, load
from zoo.training.data.locate import locate

ROWS = [
    {"image": f"photos/{number // 2}.png", "caption": f"picture {number // 2}{'ab'[number % 2]}"}
    for number in range(12)
]


def options(path, **more):
    return ImageText(path=str(path), **{"image_size": 8, "seq_len": 16, "normalize": "none", **more})


@pytest.fixture(params=["jsonl", "csv", "tsv"])
def file(request, tmp_path):
    (tmp_path / "photos").mkdir()
    for number in range(6):
        (tmp_path / f"photos/{number}.png").write_bytes(picture(number))
    return table(tmp_path / f"pairs.{request.param}", ROWS)


def test_an_image_and_the_text_beside_it_are_a_sample(tmp_path):
    folder(tmp_path / "a", range(3))
    folder(tmp_path, range(3, 10))
    splits = load(options(tmp_path, test_fraction=0.3, val_fraction=0.2))
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [6, 1, 3]
    seen = []
    for part in (splits.train, splits.val, splits.test):
        texts, numbers = read(part)
        assert texts == [f"picture {number}" for number in numbers]
        seen += numbers
    assert sorted(seen) == list(range(10))


def test_every_text_has_its_end_within_the_length(tmp_path):
    splits = load(options(folder(tmp_path, [7]), seq_len=8, test_fraction=0.0))
    batch = splits.train.fetch([0], None)
    assert bytes(batch["tokens"][0].tolist()) == b"picture\0"
    assert (batch["image"].shape, batch["image"].dtype) == ((1, 3, 8, 8), torch.float32)
    assert splits.spec.keys == tuple(batch) == ("image", "tokens")
    fields = {"in_channels": 3, "image_size": 8, "vocab_size": 256, "max_seq_len": 8, "end_token": 0}
    assert splits.spec.model_fields() == fields


def test_folders_can_name_the_parts(tmp_path):
    for part, numbers in (("train", range(4)), ("val", [5]), ("test", [6, 7])):
        folder(tmp_path / part, numbers)
    splits = load(options(tmp_path))
    assert [read(part)[1] for part in (splits.train, splits.val, splits.test)] == [[0, 1, 2, 3], [5], [6, 7]]
    assert load(options(tmp_path / "train", test_fraction=0.0)).test is None


def test_rows_of_one_image_are_its_captions_on_one_side_of_the_split(file):
    splits = load(options(file, test_fraction=0.5))
    assert [len(splits.train), len(splits.test)] == [3, 3]
    for part in (splits.train, splits.test):
        texts, numbers = read(part)
        assert texts == [f"picture {number}a" for number in numbers], "evaluation takes the first caption"


def test_training_draws_one_of_the_captions_by_the_sample_s_generator(file):
    train = load(options(file, test_fraction=0.0)).train
    drawn = [read(train, rngs(range(6), epoch))[0] for epoch in range(20)]
    assert {text[-1] for texts in drawn for text in texts} == {"a", "b"}
    assert all(text[:-1] == f"picture {place}" for texts in drawn for place, text in enumerate(texts))
    assert read(train, rngs([4], 3), indices=[4])[0] == drawn[3][4:5], "whatever else is in the batch"


def test_a_caption_may_be_a_list_and_columns_may_have_any_name(tmp_path):
    rows = [{"file": "a.png", "says": ["first", "second"]}, {"file": "b.png", "says": "only"}]
    for name in "ab":
        (tmp_path / f"{name}.png").write_bytes(picture(1))
    path = table(tmp_path / "pairs.jsonl", rows)
    train = load(options(path, image="file", caption="says", test_fraction=0.0)).train
    assert read(train)[0] == ["first", "only"]
    assert {read(train, rngs([0], epoch), [0])[0][0] for epoch in range(20)} == {"first", "second"}
    with pytest.raises(ValueError, match=r"none of the columns file, says is called 'image'; name one by data\.image"):
        load(options(path))
    with pytest.raises(ValueError, match="there is no column 'say'; did you mean says"):
        load(options(path, image="file", caption="say"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secret.png", "lies outside the table's folder"),
        ("a/../../secret.png", "lies outside"),
        ("/etc/passwd", "lies outside"),
        ("C:\\secret.png", "lies outside"),
        ("..\\secret.png", "lies outside"),
        ("link.png", "lies outside"),
        ("linked/secret.png", "lies outside"),
        ("missing.png", "there is no image 'missing.png'"),
        ("a\0.png", "is no path of an image"),
        (" ", "is no path of an image"),
        (3, "is no path of an image"),
    ],
    ids=[
        "up",
        "down and up",
        "absolute",
        "drive",
        "backslash",
        "link",
        "linked folder",
        "missing",
        "nul",
        "blank",
        "3",
    ],
)
def test_a_table_names_only_images_below_its_own_folder(name, message, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    for place in ("secret.png", "elsewhere/secret.png"):
        (tmp_path / place).write_bytes(picture(1))
    path = table(tmp_path / "in/pairs.jsonl", [{"image": "ok.png", "caption": "x"}, {"image": name, "caption": "x"}])
    (tmp_path / "in/ok.png").write_bytes(picture(1))
    os.symlink(tmp_path / "secret.png", tmp_path / "in/link.png")
    os.symlink(tmp_path / "elsewhere", tmp_path / "in/linked")
    with pytest.raises(ValueError, match=message) as caught:
        load(options(path))
    assert "pairs.jsonl, line 2" in str(caught.value)


def test_a_row_without_a_caption_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    for caption in ("", " ", 3, None, [], ["x", ""]):
        path = table(tmp_path / "pairs.jsonl", [{"image": "a.png", "caption": caption}])
        with pytest.raises(ValueError, match=r"pairs\.jsonl, line 1: 'caption' is no caption, nor a list of some"):
            load(options(path))


def test_an_image_without_a_text_is_left_out_and_counted(tmp_path):
    folder(tmp_path, range(4))
    (tmp_path / "lone.png").write_bytes(picture(9))
    with pytest.warns(UserWarning, match=r"1 of 5 samples have no \.txt beside them .*lone\.png"):
        assert read(load(options(tmp_path, test_fraction=0.0)).train)[1] == [0, 1, 2, 3]


def test_what_holds_no_pairs_is_refused_with_the_layouts_that_are_read(tmp_path):
    layouts = r"a folder of images with a \.txt beside each, .* shard-\{000000\.\.000009\}\.tar"
    with pytest.raises(ValueError, match=layouts):
        load(options(tmp_path))
    for name in ("nothing", "nothing.jsonl"):
        with pytest.raises(FileNotFoundError, match=f"{name}' is no .*{layouts}"):
            load(options(tmp_path / name))
    (tmp_path / "x.txt").write_text(" \n")
    (tmp_path / "x.png").write_bytes(picture(1))
    with pytest.raises(ValueError, match=r"x\.txt: holds no caption"):
        load(options(tmp_path))
    with pytest.raises(ValueError, match="seq_len 1 is below 2"):
        options(tmp_path, seq_len=1)
    with pytest.raises(ValueError, match=r"crop_fraction 0 is not in \(0, 1\]"):
        options(tmp_path, crop_fraction=0)


def test_images_are_normalised_by_the_training_part_and_cropped_by_their_generator(tmp_path):
    path = folder(tmp_path, range(0, 250, 25))
    splits = load(options(path, normalize="standard", augment="crop_flip", test_fraction=0.2))
    image = splits.train.fetch(range(8), None)["image"]
    torch.testing.assert_close(image.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    assert load(options(path, mean=(0.5,) * 3, std=(0.2,) * 3)).spec.mean == (0.5, 0.5, 0.5)
    for number in range(3):
        name = f"photo{number}"
        os.replace(photos(tmp_path / name, classes=("x",), count=1) + "/x/0.png", tmp_path / f"{number * 25:03}.png")
    train = load(options(path, augment="crop_flip", test_fraction=0.0)).train
    once, again, later = (train.fetch([1], rngs([1], epoch))["image"] for epoch in (0, 0, 1))
    assert torch.equal(once, again)
    assert not torch.equal(once, later)


def test_a_tokenizer_reads_the_captions_and_goes_with_the_model(tmp_path):
    path = tmp_path / "tokenizer.json"
    learnt("<|endoftext|>").save(str(path))
    splits = load(options(folder(tmp_path / "photos", range(3)), tokenizer=str(path), test_fraction=0.0))
    assert "tokenizer.json" in splits.spec.tokenizer
    tokens = splits.train.fetch([0, 1], None)["tokens"]
    assert ((tokens == splits.spec.end_token).sum(1) >= 1).all()
    assert splits.spec.vocab_size > int(tokens.max())


def test_pairs_are_recognised_by_what_lies_there(file, tmp_path):
    assert locate(str(file))["name"] == "image_text"
    folder(tmp_path / "beside", range(2))
    (tmp_path / "shards").mkdir()
    tar(tmp_path / "shards/0.tar", samples(0, 2))
    for what in ("beside", "shards", "shards/0.tar", "shards/{0..3}.tar"):
        assert locate(str(tmp_path / what)) == {"name": "image_text", "path": str(tmp_path / what)}
    assert locate(photos(tmp_path / "classes"))["name"] == "image_folder"
    for text, kind in (
        ('{"text": "good", "label": 1, "path": "a/b"}', "labelled_text"),
        ('{"text": "good", "label": 1}', "labelled_text"),
        ("{oops", "labelled_text"),
    ):
        (tmp_path / "t.jsonl").write_text(text)
        assert locate(str(tmp_path / "t.jsonl"))["name"] == kind
    (tmp_path / "t.csv").write_text("path,title,n\nx,y,1\n")
    assert locate(str(tmp_path / "t.csv"))["name"] == "tabular"


def test_folders_of_classes_are_pairs_once_templates_say_what_a_class_is_called(tmp_path):
    photos(tmp_path, classes=("red_cat", "dog"))
    splits = load(options(tmp_path, templates=("a {}", "{}!"), test_fraction=0.5))
    assert splits.spec.keys == ("image", "tokens", "target")
    assert (splits.spec.labels, splits.spec.num_classes) == (("dog", "red_cat"), 2)
    called = [["a dog", "dog!"], ["a red cat", "red cat!"]]
    prompts = [[bytes(text).rstrip(b"\0").decode() for text in texts] for texts in splits.spec.prompts]
    assert prompts == called
    assert {len(text) for texts in splits.spec.prompts for text in texts} == {16}
    for part in (splits.train, splits.test):
        batch = part.fetch(range(6), None)
        assert batch["target"].tolist() == [0, 0, 0, 1, 1, 1]
        assert read(part)[0] == ["a dog"] * 3 + ["a red cat"] * 3
        bright = batch["image"].mean((1, 2, 3)) > 0.5
        assert bright.tolist() == [True] * 3 + [False] * 3
    drawn = [read(splits.train, rngs(range(6), epoch))[0] for epoch in range(9)]
    assert {text for texts in drawn for text in texts} == {text for texts in called for text in texts}


def test_as_many_of_each_class_are_held_out(tmp_path):
    photos(tmp_path)
    for seed in range(5):
        splits = load(options(tmp_path, templates=("a {}",), test_fraction=1 / 6, val_fraction=1 / 5, subset_seed=seed))
        for part in (splits.val, splits.test):
            assert part.fetch(range(2), None)["target"].tolist() == [0, 1]


def test_a_template_has_a_place_for_the_class(tmp_path):
    with pytest.raises(ValueError, match=r"template 'a photo' has no \{\}"):
        options(tmp_path, templates=("{}", "a photo"))
    with pytest.raises(ValueError, match="0 class folders"):
        load(options(tmp_path, templates=("{}",)))


README = [("project/README.txt", "what it is"), ("project/logo.png", picture(1)), ("project/setup.json", "{}")]


@pytest.mark.parametrize(
    ("place", "members", "kind"),
    [
        ("classes/archive.tar", list(samples(0, 2)), "image_folder"),
        ("source/tests/fixture.tar", list(samples(0, 2)), "text"),
        ("source/fixture.tar", README, "text"),
        ("source/empty.tar", [], "text"),
        ("source/late.tar", [("main.py", "print(1)"), *samples(0, 1)], "image_text"),
        ("source/train/0.tar", list(samples(0, 20)), "image_text"),
        ("source/val/0.tar", list(samples(0, 2)), "text"),
        ("captioned/photos.tar", README, "image_text"),
        ("captioned/photos.tar", list(samples(0, 20)), "image_text"),
    ],
)
def test_a_tar_file_counts_where_it_is_read_and_if_it_holds_pairs(place, members, kind, tmp_path):
    photos(tmp_path / "classes")
    folder(tmp_path / "captioned", range(20))
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "source/code").mkdir(parents=True, exist_ok=True)
    (tmp_path / "source/code/main.py").write_text("print(1)\n")
    tar(tmp_path / place, members)
    path = tmp_path / place.partition("/")[0]
    assert locate(str(path))["name"] == kind
    if kind == "image_text":
        assert len(load(options(path, test_fraction=0.0)).train) in (1, 20)


def test_captions_count_where_they_are_read(tmp_path):
    folder(tmp_path / "train/.cache", range(2))
    folder(tmp_path / "val", range(2))
    assert locate(str(tmp_path))["name"] != "image_text"
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/x.tar").write_bytes(b"no tar file")
    assert locate(str(tmp_path / "broken"))["name"] == "text"
