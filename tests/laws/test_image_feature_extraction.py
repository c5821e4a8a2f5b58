"""Laws of masked autoencoders, the models of their task that take noise: what is hidden is hidden."""

import pytest
import torch

from laws import architectures, build, differ, each, perturbed
from zoo.nn.patches import to_image, to_patches

each_masked = each(
    [record for record in architectures("image-feature-extraction") if "noise" in build(record).example_inputs(1)]
)


def reading(architecture, batch=4):
    """A model, images, and noise for them."""
    model = perturbed(architecture)
    return model, *(model.example_inputs(batch)[name] for name in ("image", "noise"))


def with_patches_changed(model, image, where):
    """The images with other pixels in the patches (batch, patches) where it is True."""
    size, grid = model.config.patch_size, model.config.image_size // model.config.patch_size
    patches = to_patches(image, size)
    return to_image(torch.where(where[..., None], torch.randn_like(patches), patches), size, (grid, grid))


@each_masked
def test_there_is_a_prediction_for_each_number_of_each_patch(architecture):
    model, image, noise = reading(architecture)
    prediction, mask = model(image, noise)
    assert prediction.shape == to_patches(image, model.config.patch_size).shape
    assert mask.shape == noise.shape
    assert mask.dtype == torch.bool


@each_masked
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_exactly_the_ratio_is_hidden_in_each_image(architecture, ratio):
    model = build(architecture, architecture.config(**{**vars(architecture.tiny), "mask_ratio": ratio}))
    image, noise = model.example_inputs(5).values()
    mask = model(image, noise).mask
    assert mask.sum(1).tolist() == [ratio * noise.shape[1]] * 5


@each_masked
def test_the_smallest_stay_visible(architecture):
    model, image, noise = reading(architecture)
    mask = model(image, noise).mask
    for row, hidden in zip(noise, mask, strict=True):
        assert row[~hidden].max() < row[hidden].min()


@each_masked
def test_what_is_hidden_changes_nothing(architecture):
    model, image, noise = reading(architecture)
    prediction, mask = model(image, noise)
    other = model(with_patches_changed(model, image, mask), noise)
    assert torch.equal(other.prediction, prediction)
    assert differ(model(with_patches_changed(model, image, ~mask), noise).prediction, prediction)


@each_masked
def test_every_visible_patch_is_read(architecture):
    model, image, noise = reading(architecture, 1)
    prediction, mask = model(image, noise)
    for patch in (~mask[0]).nonzero():
        alone = torch.arange(mask.shape[1])[None] == patch
        moved = model(with_patches_changed(model, image, alone), noise).prediction
        assert all(differ(*pair) for pair in zip(moved[0], prediction[0], strict=True)), f"patch {patch.item()}"


@each_masked
def test_only_the_order_of_the_noise_counts(architecture):
    model, image, noise = reading(architecture)
    prediction, mask = model(image, noise)
    again = model(image, (noise / 7).exp() - 5)
    assert torch.equal(again.mask, mask)
    assert torch.equal(again.prediction, prediction)
    hidden = noise.masked_fill(~mask, 1e3).argmin(1, keepdim=True)  # the first that is hidden becomes visible
    assert not torch.equal(model(image, noise.scatter(1, hidden, -1.0)).mask, mask)


@each_masked
def test_the_order_among_visible_patches_does_not_count(architecture):
    model, image, noise = reading(architecture)
    prediction, mask = model(image, noise)
    turned = torch.where(mask, noise, -noise)
    torch.testing.assert_close(model(image, turned).prediction, prediction, rtol=1e-4, atol=1e-5)


@each_masked
def test_without_noise_nothing_is_hidden(architecture):
    model, image, _ = reading(architecture)
    first, again = model(image), model(image)
    assert not first.mask.any()
    assert torch.equal(first.prediction, again.prediction)
    features = model.encode(image)
    assert features.shape[::2] == (len(image), model.config.dim)


@each_masked
def test_every_patch_is_in_the_features(architecture):
    model, image, _ = reading(architecture, 1)
    features = model.encode(image)
    for patch in range(model.example_inputs(1)["noise"].shape[1]):
        alone = torch.arange(model.example_inputs(1)["noise"].shape[1])[None] == patch
        assert differ(model.encode(with_patches_changed(model, image, alone)), features)
