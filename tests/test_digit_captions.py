"""The digits with captions: every image says which digit it is, in words that training draws anew."""

import pytest
import torch
from samples import read, rngs, whole

from zoo.tokenizer import ByteTokenizer
from zoo.training.data.digit_captions import WORDS, captions_of

WRITTEN = {text: digit for digit in range(10) for text in captions_of(digit)}


def texts(tokens):
    return [ByteTokenizer().decode(row) for row in tokens.tolist()]


def test_images_and_targets_are_those_of_the_digits():
    captioned, digits = read("digit_captions", val_fraction=0.1), read("digits", val_fraction=0.1)
    for name in ("train", "val", "test"):
        batch, expected = whole(getattr(captioned, name)), whole(getattr(digits, name))
        assert torch.equal(batch["image"], expected["image"])
        assert torch.equal(batch["target"], expected["target"])
    assert captioned.spec.mean == digits.spec.mean
    assert (captioned.spec.labels, captioned.spec.keys) == (WORDS, ("image", "tokens", "target"))


def test_no_caption_means_two_digits():
    assert len(WRITTEN) == sum(len(captions_of(digit)) for digit in range(10)) == 160


@pytest.mark.parametrize("part", ["train", "test"])
def test_every_caption_names_the_digit_of_its_image_and_ends(part):
    split = getattr(read("digit_captions", shift=1), part)
    for draws in (None, rngs(range(len(split)))):
        batch = whole(split, draws)
        assert [WRITTEN[text] for text in texts(batch["tokens"])] == batch["target"].tolist()
        assert (batch["tokens"][:, -1] == 0).all()


def test_training_draws_every_caption_and_evaluation_takes_the_first():
    splits = read("digit_captions", shift=1)
    seen = {text for epoch in range(3) for text in texts(whole(splits.train, rngs(range(1437), epoch))["tokens"])}
    assert seen == set(WRITTEN)
    batch = whole(splits.test)
    assert texts(batch["tokens"]) == [f"a handwritten {WORDS[target]}" for target in batch["target"].tolist()]
    alone, among = (splits.train.fetch(rows, rngs(rows)) for rows in ([700], [3, 700]))
    assert all(torch.equal(alone[key][0], among[key][1]) for key in alone)


class Fresh(list):
    """Generators that begin again each time they are asked for, as those of the trainer do."""

    def __getitem__(self, place):
        return rngs([place])[0]

    def __iter__(self):
        return iter(rngs(range(len(self))))


def test_a_caption_is_drawn_by_other_numbers_than_those_that_moved_the_image():
    split, rows = read("digit_captions", shift=3).train, list(range(100))
    fresh, going_on = split.fetch(rows, Fresh(rows)), split.fetch(rows, rngs(rows))
    assert torch.equal(fresh["image"], read("digits", shift=3).train.fetch(rows, rngs(rows))["image"])
    assert torch.equal(fresh["tokens"], going_on["tokens"])


def test_the_prompts_of_a_class_are_all_that_it_is_called():
    spec = read("digit_captions").spec
    assert [texts(torch.tensor(prompts)) for prompts in spec.prompts] == [captions_of(digit) for digit in range(10)]
    assert {len(tokens) for prompts in spec.prompts for tokens in prompts} == {spec.max_seq_len}
    assert (spec.end_token, spec.vocab_size, spec.num_classes) == (0, 256, 10)


def test_shifts_beyond_the_image_are_refused():
    with pytest.raises(ValueError, match=r"shift 8 is not in \[0, 8\)"):
        read("digit_captions", shift=8)
