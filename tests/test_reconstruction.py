"""Reconstruction and the evidence lower bound: against their definitions, and in the images' own units."""

import math
from dataclasses import replace

import pytest
import torch
from laws import build, perturbed
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

import zoo
from zoo.architectures import autoencoder, vae
from zoo.training.data import Spec, Splits
from zoo.training.data.arrays import Arrays
from zoo.training.objectives import Context
from zoo.training.objectives.elbo import ELBO, ELBOConfig, divergence
from zoo.training.objectives.reconstruction import OBJECTIVE as Reconstruction
from zoo.training.quality import QualityConfig
from zoo.training.random import Rows

PLAIN = Spec(keys=("image",), in_channels=2, image_size=8, mean=(0.0, 0.0), std=(1.0, 1.0), value_range=(0.0, 1.0))
SCALED = replace(PLAIN, mean=(0.3, 0.4), std=(0.5, 0.25))
SMALL = autoencoder.AutoencoderConfig(image_size=8, in_channels=2, latent_dim=3, widths=(5,))


def images(spec=PLAIN, count=10, seed=0):
    """In [0, 1] before they are normalised."""
    unit = torch.rand(count, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    return (unit - torch.tensor(spec.mean)[:, None, None]) / torch.tensor(spec.std)[:, None, None]


def context(count=10, step=0, training=True):
    return Context(step, Rows(0, "", [(0, row) for row in range(count)], torch.device("cpu")), training)


def bound(spec=PLAIN, **options):
    return ELBO(ELBOConfig(**options), spec)


def terms(objective, model, image, ctx=None):
    """Each term's mean and weight."""
    nets = objective.networks(model)
    loss = objective.loss(objective.phases()[0], nets, {"image": image}, ctx or context(len(image)))
    return {name: (total / count, weight) for name, (total, count, weight) in loss.terms.items()}


def trainer(model, objective, spec=PLAIN, batch_size=8, **config):
    data = Splits(
        spec=spec, train=Arrays({"image": images(spec, 48)}), test=Arrays({"image": images(spec, 31, seed=1)})
    )
    sections = {
        "data": {"batch_size": batch_size}, "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"steps": 6, "device": "cpu", **config},
    }  # fmt: skip
    return zoo.Trainer(zoo.RunConfig.of(sections), model, data, objective, quiet=True)


def variational(**options):
    return perturbed(vae.ARCHITECTURE, replace(vae.ARCHITECTURE.tiny, **options)).train()


def test_the_loss_is_the_mean_squared_error():
    model, image = build(autoencoder.ARCHITECTURE, SMALL), images()
    ((found, weight),) = terms(Reconstruction(QualityConfig(), PLAIN), model, image).values()
    torch.testing.assert_close(found, nn.functional.mse_loss(model(image).reconstruction, image))
    assert weight == 1


@pytest.mark.parametrize(
    "make", [lambda spec: Reconstruction(QualityConfig(), spec), bound], ids=["reconstruction", "elbo"]
)
def test_the_error_is_told_for_images_in_the_unit_range_however_they_were_normalised(make):
    class Wrong(nn.Module):
        """Every pixel is off by 0.1 or 0.2 of the unit range."""

        def encode(self, image):
            return image

        decode = encode

        def forward(self, image, noise=None):
            off = torch.tensor([0.1 / 0.5, 0.2 / 0.25])[:, None, None]
            zero = torch.zeros(len(image), 3)
            output = (image + off, zero, zero)
            return Output(*output) if noise is None else output

    objective = make(SCALED)
    model = Wrong()
    if isinstance(objective, ELBO):
        model.latent_shape = lambda image: (3,)
    assert trainer(model, objective, SCALED).evaluate()["mse"] == pytest.approx((0.1**2 + 0.2**2) / 2, rel=1e-5)


class Output(tuple):
    """A plain stand-in for a model's output."""

    def __new__(cls, *values):
        return super().__new__(cls, values)

    @property
    def reconstruction(self):
        return self[0]


@pytest.mark.parametrize("kind", ["reconstruction", "elbo"])
def test_how_a_batch_is_cut_up_changes_nothing(kind):
    def fit(**options):
        if kind == "elbo":
            return trainer(variational(), bound(beta_warmup=4), **options).fit()
        return trainer(build(autoencoder.ARCHITECTURE, SMALL), Reconstruction(QualityConfig(), PLAIN), **options).fit()

    whole, parts = fit(batch_size=16), fit(batch_size=4, accumulate=4)
    pairs = zip(whole.model.parameters(), parts.model.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) < 1e-5
    assert whole.metrics == pytest.approx(parts.metrics, rel=1e-4)


def test_the_divergence_is_the_closed_form():
    mu, logvar = 3 * torch.randn(200), 3 * torch.randn(200)
    expected = kl_divergence(Normal(mu, (logvar / 2).exp()), Normal(0, 1))
    torch.testing.assert_close(divergence(mu, logvar), expected, rtol=1e-4, atol=1e-5)
    assert divergence(torch.zeros(3), torch.zeros(3)).tolist() == [0, 0, 0]


@pytest.mark.parametrize("spec", [PLAIN, SCALED], ids=["plain", "normalised"])
def test_the_parts_are_those_of_equation_10_in_nats_per_image(spec):
    model, image, ctx = variational(), images(spec), context()
    found = terms(bound(spec, sigma=0.2, beta=3.0), model, image, ctx)
    output = model(image, ctx.rows.normal("noise", (3,)))
    std = torch.tensor(spec.std)[:, None, None]
    likelihood = Normal(output.reconstruction * std, 0.2).log_prob(image * std)
    torch.testing.assert_close(found["nll"][0], -likelihood.sum() / 10)
    prior = kl_divergence(Normal(output.mu, (output.logvar / 2).exp()), Normal(0, 1))
    torch.testing.assert_close(found["kl"][0], prior.sum() / 10)
    assert (found["nll"][1], found["kl"][1]) == (1, 3)


def test_a_bernoulli_s_parts_are_cross_entropies():
    model, image, ctx = variational(output="sigmoid"), images(), context()
    found = terms(bound(likelihood="bernoulli"), model, image, ctx)
    output = model(image, ctx.rows.normal("noise", (3,)))
    expected = Bernoulli(probs=output.reconstruction, validate_args=False).log_prob(image)
    torch.testing.assert_close(found["nll"][0], -expected.sum() / 10)


def test_without_deviation_and_beta_the_bound_is_reconstruction():
    model, image = variational(), images()
    with torch.no_grad():
        model.encoder.head.weight[3:] = 0
        model.encoder.head.bias[3:] = -100
    (nll, _), (_, beta) = terms(bound(sigma=1.0, beta=0.0), model, image).values()
    assert beta == 0
    error = nn.functional.mse_loss(model(image).reconstruction, image)
    pixels = image[0].numel()
    torch.testing.assert_close(nll, pixels * (error / 2 + math.log(2 * math.pi) / 2))


def test_beta_rises_linearly_while_training_and_is_whole_when_evaluating():
    objective = bound(beta=4.0, beta_warmup=10)
    assert [objective.beta(context(step=step)) for step in (0, 5, 10, 99)] == [0, 2, 4, 4]
    assert objective.beta(context(step=0, training=False)) == 4
    assert bound(beta=4.0).beta(context(step=0)) == 4


def test_the_metrics_are_the_bound_itself_whatever_beta_is():
    metrics = [trainer(variational(), bound(beta=beta, sigma=0.3)).evaluate() for beta in (0.0, 5.0)]
    assert metrics[0] == metrics[1]
    assert metrics[0]["elbo"] == pytest.approx(-metrics[0]["nll"] - metrics[0]["kl"])
    assert metrics[0].keys() == {"elbo", "nll", "kl", "mse"}


def test_bits_count_every_number_of_a_bernoulli_image():
    metrics = trainer(variational(output="sigmoid"), bound(likelihood="bernoulli")).evaluate()
    assert metrics["bits_per_dim"] == pytest.approx(-metrics["elbo"] / (2 * 8 * 8) / math.log(2))


def test_how_evaluation_is_cut_into_batches_changes_nothing():
    whole, parts = (trainer(variational(), bound(), eval_batch_size=rows).evaluate() for rows in (31, 4))
    assert whole == pytest.approx(parts, rel=1e-5)


def test_noise_belongs_to_samples_and_differs_between_steps():
    model, seen = variational(), []
    model.register_forward_pre_hook(lambda _, __, kwargs: seen.append(kwargs["noise"]), with_kwargs=True)
    trainer(model, bound(), steps=2).fit()
    assert torch.cat(seen[:2]).unique(dim=0).shape == (16, 3)


def test_latents_that_are_maps_get_noise_of_their_shape():
    model = build(zoo.registry.ARCHITECTURES.find("autoencoder_kl"))
    spec = replace(PLAIN, in_channels=3, mean=(0.5,) * 3, std=(0.5,) * 3)
    image = torch.rand(4, 3, 8, 12) * 2 - 1
    assert all(value.isfinite() for value, _ in terms(bound(spec), model, image).values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ELBOConfig(sigma=0.0), "sigma 0.0 is not positive"),
        (lambda: ELBOConfig(beta=-1.0), "beta -1.0 is negative"),
        (lambda: bound(SCALED, likelihood="bernoulli"), r"images in \[0, 1\]; set data\.normalize=none"),
        (lambda: bound(likelihood="bernoulli").networks(variational()), r"set model\.output=sigmoid"),
        (lambda: bound().networks(build(autoencoder.ARCHITECTURE)), r"set model\.name=vae"),
        (lambda: bound().networks(nn.Linear(2, 2)), "Linear does not; choose another"),
        (lambda: Reconstruction(QualityConfig(), PLAIN).networks(variational()), r"set objective\.name=elbo"),
        (lambda: Reconstruction(QualityConfig(), PLAIN).networks(nn.Linear(2, 2)), "Linear does not; choose another"),
    ],
    ids=["sigma", "beta", "range", "output", "no distribution", "elbo", "distribution", "reconstruction"],
)
def test_what_does_not_fit_is_refused_with_the_remedy(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("name", "objective"), [("autoencoder", "reconstruction"), ("vae", "elbo")])
def test_what_is_drawn_from_a_distribution_is_trained_by_the_bound_unless_said_otherwise(name, objective):
    sizes = {"widths": [8, 8]}
    run = zoo.RunConfig.of({"model": {"name": name, **sizes}, "data": {"name": "digits"}, "trainer": {"steps": 1}})
    assert zoo.Trainer(run, quiet=True).config.objective["name"] == objective
