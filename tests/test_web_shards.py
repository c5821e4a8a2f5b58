"""WebDataset shards: samples are found by their places, nothing is unpacked, and damage has a name."""

import io
import tarfile
from pathlib import Path

import pytest
import torch
from shards import picture, read, samples, tar

from zoo.storage import DamagedFile
from zoo.training.data.image_text import ImageText, load
from zoo.training.data.loader import Order, Plan, training_batches
from zoo.training.data.web_shards import Shards, expand


def options(path, **more):
    return ImageText(path=str(path), **{"image_size": 8, "seq_len": 32, "normalize": "none", **more})


def test_a_photo_and_the_text_of_its_name_are_one_sample_wherever_they_stand(tmp_path):
    members = [
        ("b.txt", "of b"), ("a.png", picture(1)), ("sub/a.jpg", picture(3, kind="JPEG")), ("b.webp", picture(2)),
        ("a.cls", "7"), ("sub/a.txt", "of the other a"), ("a.txt", "of a"),
    ]  # fmt: skip
    shards = Shards([tar(tmp_path / "x.tar", members)], "caption")
    found = {shards.photo(i)[0].split(", ")[1]: (shards.photo(i)[1], shards.captions(i)) for i in range(len(shards))}
    assert found == {
        "'b.webp'": (members[3][1], ["of b"]),
        "'a.png'": (members[1][1], ["of a"]),
        "'sub/a.jpg'": (members[2][1], ["of the other a"]),
    }


def test_a_json_has_the_caption_under_a_key_and_a_text_goes_before_it(tmp_path):
    members = [
        ("a.png", picture(1)), ("a.json", '{"caption": "one", "alt": ["first", "second"]}'),
        ("b.png", picture(2)), ("b.json", '{"caption": "not this"}'), ("b.txt", "this\n\nor that\n"),
    ]  # fmt: skip
    path = tar(tmp_path / "x.tar", members)
    assert [Shards([path], "caption").captions(i) for i in (0, 1)] == [["one"], ["this", "or that"]]
    assert Shards([path], "alt").captions(0) == ["first", "second"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_names_of_every_kind_of_tar_are_read(form, tmp_path):
    long = f"{'folder/' * 12}{'x' * 60}"
    with tarfile.open(tmp_path / "x.tar", "w", format=form) as file:
        for ending, content in (("png", picture(5)), ("txt", b"long")):
            header = tarfile.TarInfo(f"{long}.{ending}")
            header.size = len(content)
            file.addfile(header, io.BytesIO(content))
    shards = Shards([tmp_path / "x.tar"], "caption")
    assert (len(shards), shards.photo(0)[1], shards.captions(0)) == (1, picture(5), ["long"])


def test_a_range_in_a_name_stands_for_every_shard(tmp_path):
    for number in range(3):
        tar(tmp_path / f"s-{number:04}.tar", samples(number * 20, 20))
    everything = load(options(tmp_path / "s-{0000..0002}.tar", test_fraction=0.25))
    texts, numbers = (a + b for a, b in zip(read(everything.train), read(everything.test), strict=True))
    assert (len(everything.train), len(everything.test)) == (45, 15)
    assert sorted(numbers) == list(range(60))
    assert texts == [f"picture {number}" for number in numbers]
    assert len(load(options(tmp_path / "s-{0000..0001}.tar", test_fraction=0.0)).train) == 40
    with pytest.raises(FileNotFoundError, match=r"s-0003\.tar"):
        load(options(tmp_path / "s-{0002..0003}.tar"))


def test_ranges_keep_their_zeros_and_may_be_several():
    assert [str(path) for path in expand("a{8..10}/{0}-{08..09}.tar")] == [
        "a8/{0}-08.tar", "a8/{0}-09.tar", "a9/{0}-08.tar", "a9/{0}-09.tar", "a10/{0}-08.tar", "a10/{0}-09.tar"
    ]  # fmt: skip
    for pattern in ("{9..1}.tar", "{0..99999999}.tar", "{0..9999}{0..9999}.tar"):
        with pytest.raises(ValueError, match="stands for no shard, or for more than 100,000"):
            expand(pattern)


@pytest.mark.parametrize("layout", ["folders", "names"])
def test_shards_can_name_their_part(layout, tmp_path):
    for part, first, count in (("train", 0, 6), ("val", 50, 2), ("test", 90, 3)):
        (tmp_path / part).mkdir()
        tar(tmp_path / part / "0.tar" if layout == "folders" else tmp_path / f"{part}-0.tar", samples(first, count))
    if layout == "names":
        for part in ("train", "val", "test"):
            (tmp_path / part).rmdir()
    splits = load(options(tmp_path))
    assert read(splits.train)[1] == [0, 1, 2, 3, 4, 5]
    assert read(splits.val)[1] == [50, 51]
    assert read(splits.test)[1] == [90, 91, 92]


def test_a_sample_without_its_other_half_is_left_out_and_counted(tmp_path):
    lone = [("only.png", picture(9)), ("word.txt", "nobody"), ("else.cls", "3")]
    tar(tmp_path / "x.tar", [*samples(0, 4), *lone])
    with pytest.warns(UserWarning, match=r"2 of 6 samples lack .* the first is .*x\.tar, 'only'"):
        splits = load(options(tmp_path, test_fraction=0.0))
    assert read(splits.train)[1] == [0, 1, 2, 3]
    tar(tmp_path / "x.tar", lone)
    with pytest.warns(UserWarning, match="2 of 2"), pytest.raises(ValueError, match=r"no sample .* has both a \.jpg"):
        load(options(tmp_path))


def test_names_that_would_leave_the_folder_are_only_names(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    names = ["../../evil", "/etc/evil", "C:\\evil", "a\nb", "._hidden/x"]
    tar(inside / "x.tar", [part for n in names for part in ((f"{n}.png", picture(7)), (f"{n}.txt", "t"))])
    with tarfile.open(inside / "x.tar", "a") as file:
        for kind, name in ((tarfile.SYMTYPE, "link.png"), (tarfile.LNKTYPE, "hard.png"), (tarfile.CHRTYPE, "dev.png")):
            header = tarfile.TarInfo(name)
            header.type, header.linkname = kind, "/etc/passwd"
            file.addfile(header)
    before = sorted(tmp_path.rglob("*"))
    splits = load(options(inside, test_fraction=0.0))
    assert read(splits.train) == (["t"] * len(names), [7] * len(names))
    assert sorted(tmp_path.rglob("*")) == before
    assert "\n" not in Shards([inside / "x.tar"], "caption").photo(3)[0]


def test_a_size_below_zero_does_not_lead_round_in_circles(tmp_path):
    header = tarfile.TarInfo("b.png")
    header.size = -3 * 512
    whole = tar(tmp_path / "x.tar", samples(0, 1)).read_bytes()
    (tmp_path / "x.tar").write_bytes(whole[: 512 * 4] + header.tobuf(tarfile.GNU_FORMAT) + whole[512 * 4 :])
    with pytest.raises(DamagedFile, match=r"x\.tar: not a whole tar file"):
        load(options(tmp_path))


def _cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


BREAK = {
    "in a photo": lambda path: _cut(path, 600),
    "in a header": lambda path: _cut(path, 512 * 4 + 100),
    "between members": lambda path: _cut(path, 512 * 4),
    "before the last block": lambda path: _cut(path, 512 * 16),
    "no tar": lambda path: path.write_bytes(b"<html>" * 400),
    "empty": lambda path: path.write_bytes(b""),
    "compressed": lambda path: path.write_bytes(b"\x1f\x8b\x08\x00" + bytes(2000)),
    "a header overwritten": lambda path: path.write_bytes(
        path.read_bytes()[: 512 * 4] + b"\xff" * 512 + path.read_bytes()[512 * 5 :]
    ),
}


@pytest.mark.parametrize("how", BREAK)
def test_a_damaged_shard_is_named(how, tmp_path):
    path = tar(tmp_path / "x.tar", samples(0, 4))
    assert len(path.read_bytes()) > 512 * 17
    BREAK[how](path)
    with pytest.raises(DamagedFile, match=r"x\.tar: not a whole tar file.*use another copy"):
        load(options(tmp_path))


def test_a_shard_that_shrinks_after_it_was_opened_is_named(tmp_path):
    splits = load(options(tar(tmp_path / "x.tar", samples(0, 4)), test_fraction=0.0))
    _cut(tmp_path / "x.tar", 700)
    with pytest.raises(DamagedFile, match=r"x\.tar: cut off since it was opened"):
        splits.train.fetch([3], None)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", b"no image"), ("a.txt", "x")], "'a.png': not a readable image, or damaged"),
        ([("a.png", picture(1)), ("a.txt", "\n \n")], "'a.txt': holds no caption"),
        ([("a.png", picture(1)), ("a.txt", b"\xff\xfe")], "'a.txt': not a text in UTF-8"),
        ([("a.png", picture(1)), ("a.txt", b"x" * (2**20 + 1))], "'a.txt': 1,048,577 bytes are no caption"),
        ([("a.png", picture(1)), ("a.json", "{oops")], "'a.json': not JSON"),
        ([("a.png", picture(1)), ("a.json", "[1]")], "'a.json': expected an object, got list"),
        ([("a.png", picture(1)), ("a.json", '{"text": "x"}')], "no 'caption' among text; name it by data.caption"),
        ([("a.png", picture(1)), ("a.json", '{"caption": 3}')], "'caption' is no caption"),
        ([("a.png", picture(1)), ("a.txt", "x"), ("a.png", picture(2))], "two members are called 'a.png'"),
    ],
    ids=["photo", "blank", "no text", "huge", "no json", "list", "no key", "number", "twice"],
)
def test_a_member_that_cannot_be_used_is_named_with_its_shard(members, message, tmp_path):
    tar(tmp_path / "x.tar", members)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        load(options(tmp_path, test_fraction=0.0))
    assert "x.tar" in str(caught.value)


def test_workers_and_this_process_read_the_same(tmp_path):
    train = load(options(tar(tmp_path / "x.tar", samples(0, 8)), augment="crop_flip", test_fraction=0.0)).train
    plan = Plan(Order(len(train), 0), 4, 1, 0, 1, 0, 4)
    alone, helped = (list(training_batches(train, plan, 0, workers, False)) for workers in (0, 2))
    for a, b in zip(alone, helped, strict=True):
        assert all(torch.equal(a.batch[key], b.batch[key]) for key in ("image", "tokens"))


def test_an_index_does_not_hold_what_it_has_read(tmp_path):
    shards = Shards([tar(tmp_path / "x.tar", samples(0, 30))], "caption")
    assert shards.places.nbytes == 30 * 6 * 8
    assert shards.paths == [Path(tmp_path / "x.tar")]
