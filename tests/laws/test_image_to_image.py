"""Laws of networks that encode and decode images, and of those whose code is a distribution."""

import torch

from laws import architectures, build, differ, each, perturbed

AUTOENCODERS = [record for record in architectures("image-to-image") if hasattr(build(record), "decode")]
each_autoencoder = each(AUTOENCODERS)
each_variational = each([record for record in AUTOENCODERS if hasattr(build(record), "latent_shape")])


def example(model, batch_size=3):
    return model.example_inputs(batch_size)["image"]


@each_autoencoder
def test_a_reconstruction_is_an_image_of_the_same_shape(architecture):
    model = build(architecture)
    image = example(model)
    assert model(image).reconstruction.shape == image.shape


@each_autoencoder
def test_forward_is_encode_and_then_decode(architecture):
    model = perturbed(architecture)
    image = example(model)
    reconstruction, *code = model(image)
    encoded = model.encode(image)
    expected = encoded if isinstance(encoded, tuple) else (encoded,)
    assert all(torch.equal(*pair) for pair in zip(code, expected, strict=True))
    assert torch.equal(reconstruction, model.decode(code[0]))


@each_autoencoder
def test_another_image_has_another_code_and_another_code_another_image(architecture):
    model = perturbed(architecture)
    first, second = model(example(model, 2))[1]
    assert differ(first, second)
    images = model.decode(torch.stack([first, second]))
    assert differ(*images)


@each_autoencoder
def test_a_code_is_smaller_than_its_image(architecture):
    for name in architecture.names():
        with torch.device("meta"):
            model = architecture.model(architecture.preset(name))
            image = example(model, 1)
            assert model(image)[1].numel() < image.numel()


@each_variational
def test_noise_moves_the_latent_by_its_deviation(architecture):
    model = perturbed(architecture)
    image = example(model)
    noise = torch.randn(3, *model.latent_shape(image))
    output = model(image, noise)
    z = output.mu + output.logvar.exp().sqrt() * noise
    torch.testing.assert_close(output.reconstruction, model.decode(z))


@each_variational
def test_without_noise_the_mean_is_decoded_in_train_and_eval(architecture):
    model = perturbed(architecture)
    image = example(model)
    zero = torch.zeros(3, *model.latent_shape(image))
    for training in (True, False):
        model.train(training)
        assert torch.equal(model(image).reconstruction, model(image, zero).reconstruction)


@each_variational
def test_a_latent_has_the_shape_that_the_model_says(architecture):
    model = build(architecture)
    image = example(model)
    mu, logvar = model.encode(image)
    assert mu.shape == logvar.shape == (3, *model.latent_shape(image))
