"""Laws of video classifiers."""

import pytest
import torch

from laws import architectures, differ, each, perturbed

each_classifier = each(architectures("video-classification"))


@each_classifier
@pytest.mark.parametrize("scale", [(2, 1, 1), (1, 1, 2), (1, 3, 1)], ids=["long", "wide", "tall"])
def test_clips_of_another_length_or_form_are_classified(architecture, scale):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"].repeat(1, 1, *scale)
    logits = model(image)
    assert logits.shape == (2, model.config.num_classes)
    assert logits.isfinite().all()


@each_classifier
def test_every_frame_and_every_part_of_it_counts(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(1)["image"].requires_grad_()
    (model(image) * torch.randn(model.config.num_classes)).sum().backward()
    gradient = image.grad.abs()
    tiles = gradient.amax((0, 1)).unflatten(1, (4, -1)).unflatten(3, (4, -1)).amax((2, 4))  # (frames, 4, 4)
    assert tiles.all()
    assert gradient.amax((0, 2, 3, 4)).all(), "a channel has no effect"


@each_classifier
def test_the_order_of_the_frames_counts(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    order = torch.randperm(image.shape[2])
    assert differ(model(image[:, :, order]), model(image))


@each_classifier
def test_a_clip_that_cannot_be_read_is_refused_with_what_is_expected(architecture):
    model = perturbed(architecture)
    image = model.example_inputs(2)["image"]
    channels = model.config.in_channels
    shape = rf"is \(batch, {channels}, frames, height, width\), got shape"
    with pytest.raises(ValueError, match=rf"{shape} .*image\[None\]"):
        model(image[0])
    with pytest.raises(ValueError, match=shape):
        model(image[:, :, 0, 0])
    with pytest.raises(ValueError, match=f"got {channels + 1} channels; .*in_channels={channels + 1}"):
        model(torch.cat([image, image[:, :1]], dim=1))
    with pytest.raises(ValueError, match="a video of 0 frames shows nothing; give one at least"):
        model(image[:, :, :0])
    with pytest.raises(ValueError, match=r"floating-point and normalised, got torch\.uint8; zoo\.transforms"):
        model(image.byte())


@each_classifier
@pytest.mark.filterwarnings("ignore:the last feature map has only")
def test_a_clip_is_refused_or_answered_at_any_size(architecture):
    """Below the size that a network takes, it says so; from there on it answers, from a single frame on."""
    model = perturbed(architecture)
    image = model.example_inputs(1)["image"]
    for frames in range(1, image.shape[2] + 1):
        assert model(image[:, :, :frames]).isfinite().all()
    refused = []
    for size in range(1, image.shape[-1] + 1):
        try:
            assert model(image[..., :size, :size]).isfinite().all()
        except ValueError as error:
            refused.append((size, str(error)))
    assert [size for size, _ in refused] == list(range(1, len(refused) + 1))
    assert all(f"this network takes {len(refused) + 1} at least" in message for _, message in refused)
