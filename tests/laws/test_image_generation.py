"""Laws of adversarial image generators, the models of their task that have a discriminator."""

import torch

from laws import architectures, build, differ, each, perturbed, run

each_gan = each(
    [record for record in architectures("unconditional-image-generation") if hasattr(build(record), "discriminator")]
)


@each_gan
def test_images_are_what_the_config_says_and_in_range(architecture):
    model = build(architecture).eval()
    image = model(**model.example_inputs(3))
    config = model.config
    assert image.shape == (3, config.in_channels, config.image_size, config.image_size)
    assert image.abs().max() <= 1


@each_gan
def test_forward_is_the_generator(architecture):
    model = perturbed(architecture)
    z = model.example_inputs(2)["z"]
    assert z.shape == (2, model.config.latent_dim)
    assert torch.equal(model(z), model.generator(z))


@each_gan
def test_other_noise_gives_another_image(architecture):
    model = perturbed(architecture)
    first, second = model(**model.example_inputs(2))
    assert differ(first, second)


@each_gan
def test_the_discriminator_has_one_unbounded_score_per_image(architecture):
    model = perturbed(architecture)
    image = model(**model.example_inputs(5))
    scores = model.discriminator(image)
    assert scores.shape == (5,)
    with torch.no_grad():
        for parameter in model.discriminator.head.parameters():
            parameter *= 1000
    assert model.discriminator(image).abs().max() > 1, "the sigmoid belongs to the loss"


@each_gan
def test_the_score_teaches_the_generator(architecture):
    model = build(architecture).train()
    run(model, model.example_inputs(4))[-1].sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.generator.parameters())


@each_gan
def test_the_two_networks_share_nothing(architecture):
    model = build(architecture)
    generator, discriminator = set(model.generator.parameters()), set(model.discriminator.parameters())
    assert not generator & discriminator
    assert generator | discriminator == set(model.parameters())
