"""Clips of moving digits: the digit is whole in every frame, its way is drawn from the sample alone."""

import numpy as np
import pytest
import torch

from zoo.training.data.moving_digits import MovingDigits, load


def raw(part, indices=range(6), rngs=None):
    """(batch, frames, height, width) in [0, 1]."""
    image = part.fetch(list(indices), rngs)["image"]
    mean, std = part.mean[0], part.std[0]
    return (image * std + mean).squeeze(1)


@pytest.mark.parametrize(
    ("frames", "size", "speed", "digit"), [(8, 16, 2, 8), (1, 8, 3, 8), (5, 9, 4, 6), (12, 32, 0, 16)]
)
def test_every_frame_shows_the_whole_digit(frames, size, speed, digit):
    part = load(MovingDigits(frames=frames, image_size=size, speed=speed, digit_size=digit)).train
    clips = raw(part, rngs=[np.random.default_rng(i) for i in range(6)])
    assert clips.shape == (6, frames, size, size)
    ink = clips.sum((-2, -1))
    torch.testing.assert_close(ink, part.digits[:6].sum((-2, -1))[:, None].expand(-1, frames), rtol=1e-4, atol=1e-4)


def test_digits_move_by_no_more_than_their_speed_and_turn_back_at_the_border():
    clips = raw(load(MovingDigits(frames=30, speed=2)).test, range(40))
    centre = (clips * torch.arange(16.0)).sum((-2, -1)) / clips.sum((-2, -1))  # along x
    steps = centre.diff(dim=1)
    assert steps.abs().max() <= 2 + 1e-3
    assert ((steps.max(1).values > 0.5) & (steps.min(1).values < -0.5)).float().mean() > 0.5


def test_a_clip_depends_on_its_sample_alone():
    splits = load(MovingDigits(val_fraction=0.2))
    assert torch.equal(raw(splits.test, [0, 1, 2])[2], raw(splits.test, [2])[0])
    first, again, other = (raw(splits.train, [3], [np.random.default_rng(seed)]) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(splits.val) + len(splits.train) == 1437


def test_the_split_and_the_targets_are_those_of_digits():
    from zoo.training.data.digits import Digits
    from zoo.training.data.digits import load as load_digits

    still, moving = load_digits(Digits()), load(MovingDigits())
    for name in ("train", "test"):
        a, b = getattr(still, name), getattr(moving, name)
        assert torch.equal(a.fetch(range(len(a)), None)["target"], b.fetch(range(len(b)), None)["target"])
    pixels = moving.train.fetch(range(256), [np.random.default_rng(i) for i in range(256)])["image"]
    assert abs(pixels.mean()) < 0.05
    assert abs(pixels.std() - 1) < 0.05


@pytest.mark.parametrize("options", [{"frames": 0}, {"digit_size": 17}, {"speed": -1}, {"val_fraction": 1.0}], ids=str)
def test_clips_that_cannot_be_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        MovingDigits(**options)
