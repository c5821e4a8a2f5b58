"""The transform that weights expect, and its inverse."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.functional import to_pil_image
from toy_zoo import architecture, registered

import zoo
from zoo.config import ConfigError, UnknownOption


@pytest.fixture(autouse=True)
def toy():
    with registered(architecture()):
        yield


def model_with(channels=3, **record):
    model = zoo.create("toy", in_channels=channels)
    zoo.weights.remember(model, preprocessing={"mean": [0.5] * channels, "std": [0.25] * channels, **record})
    return model


def image(channels=3, size=8):
    return torch.randint(256, (channels, size, size), dtype=torch.uint8)


@pytest.mark.parametrize("channels", [1, 3])
def test_normalising_is_undone(channels):
    model, pixels = model_with(channels, image_size=8), image(channels)
    ready = zoo.transforms(model)(pixels)
    assert ready.dtype == torch.float32
    torch.testing.assert_close(ready, (pixels / 255 - 0.5) / 0.25)
    torch.testing.assert_close(zoo.unnormalize(model, ready), pixels / 255)
    torch.testing.assert_close(zoo.unnormalize(model, ready[None]), pixels[None] / 255)


def test_mean_and_std_are_in_units_of_the_value_range():
    model, pixels = model_with(image_size=8, value_range=(-1.0, 1.0)), image()
    ready = zoo.transforms(model)(pixels)
    torch.testing.assert_close(ready, (pixels / 255 * 2 - 1 - 0.5) / 0.25)
    torch.testing.assert_close(zoo.unnormalize(model, ready), pixels / 255 * 2 - 1)


@pytest.mark.parametrize("train", [False, True])
def test_any_image_gets_the_model_s_size_and_channels(train):
    transform = zoo.transforms(model_with(1, image_size=6, crop=0.75, mirror=True), train=train)
    for pixels in (image(3, 20), image(1, 5), image(3, 40)[:, :13]):
        assert transform(pixels).shape == (1, 6, 6)


def test_the_crop_is_the_middle_of_the_resized_image():
    pixels = image(3, 8)
    ready = zoo.transforms(model_with(image_size=4, crop=0.5))(pixels)
    torch.testing.assert_close(ready, (pixels[:, 2:6, 2:6] / 255 - 0.5) / 0.25)


def test_only_training_is_random_and_mirrors_only_where_that_is_right():
    steps = {train: repr(zoo.transforms(model_with(image_size=4, mirror=True), train=train)) for train in (False, True)}
    assert "Random" not in steps[False]
    assert "RandomHorizontalFlip" in steps[True]
    assert "RandomHorizontalFlip" not in repr(zoo.transforms(model_with(image_size=4), train=True))


def test_a_saved_model_keeps_its_record(tmp_path):
    folder = zoo.save(model_with(image_size=8, interpolation="bicubic"), tmp_path / "a")
    pixels = image()
    expected = zoo.transforms(model_with(image_size=8))(pixels)
    assert torch.equal(zoo.transforms(f"local-dir:{folder}")(pixels), expected)
    assert "BICUBIC" in repr(zoo.transforms(zoo.load(folder))).upper()


def test_weights_without_a_record_say_so():
    with pytest.raises(ConfigError, match="resnet18 says nothing of its inputs"):
        zoo.transforms("resnet18")
    with pytest.raises(ConfigError, match="Toy says nothing of its inputs"):
        zoo.unnormalize(zoo.create("toy"), torch.zeros(3, 2, 2))
    with pytest.raises(ConfigError, match="these weights take no images"):
        zoo.transforms(model_with())


@pytest.mark.parametrize(
    ("record", "error", "message"),
    [
        ({"men": [1]}, UnknownOption, "Toy: preprocessing: unknown option 'men'; did you mean mean"),
        ({"std": [0.0] * 3}, ConfigError, "must be positive"),
        ({"std": [1.0]}, ConfigError, "one number each per channel"),
        ({"value_range": [1, 0]}, ConfigError, "must ascend"),
        ({"crop": 1.5}, ConfigError, "crop 1.5 must lie in"),
        ({"image_size": 0}, ConfigError, "image_size 0 be positive"),
        ({"interpolation": "lanczos"}, ConfigError, "one of nearest, bilinear, bicubic"),
    ],
    ids=str,
)
def test_a_record_that_cannot_be_is_refused(record, error, message):
    with pytest.raises(error, match=message):
        zoo.transforms(model_with(**record))


def wrong_inputs():
    array = np.zeros((8, 8, 3), dtype=np.uint8)
    return {
        "array": ({}, array, TypeError, "expected a PIL image or a uint8 tensor .*, got ndarray; PIL.Image.fromarray"),
        "path": ({}, "cat.jpg", TypeError, r"got str; .* PIL.Image.open\(path\) makes one"),
        "rows": ({}, image()[0], ValueError, r"expected a tensor \(..., channels, height, width\), got shape \(8, 8\)"),
        "picture for a video": (
            {"frames": 4},
            Image.fromarray(array),
            TypeError,
            r"a tensor \(..., frames, .* got Image",
        ),
        "frame for a video": ({"frames": 4}, image(), ValueError, r"\(..., frames, .* got shape \(3, 8, 8\)"),
    }


@pytest.mark.parametrize("case", wrong_inputs())
def test_what_is_no_image_is_refused_with_what_is_expected(case):
    record, value, error, message = wrong_inputs()[case]
    with pytest.raises(error, match=message):
        zoo.transforms(model_with(image_size=4, **record))(value)


def test_what_stands_beside_an_image_passes():
    transform, pixels = zoo.transforms(model_with(image_size=4)), image()
    assert torch.equal(transform(pixels, 3)[0], transform(pixels))
    assert torch.equal(transform((pixels, 3))[0], transform(pixels))
    assert torch.equal(transform(Image.fromarray(pixels.movedim(0, -1).numpy()), 3)[0], transform(to_pil_image(pixels)))
