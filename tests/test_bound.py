"""The variational bound, beside data whose entropy is known and networks that know all there is to know of them."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from zoo.diffusion import PREDICTIONS, SCHEDULES, Diffusion, bits_per_dim, divergence
from zoo.diffusion.schedules import Discrete, cosine

PAIRS = [("linear", "noise"), ("cosine", "v"), ("sigmoid", "x0"), ("flow", "velocity"), ("edm", "edm")]
each_pair = pytest.mark.parametrize(("schedule", "prediction"), PAIRS, ids=["-".join(pair) for pair in PAIRS])
LEVELS = 5
CHANCES = torch.tensor([0.4, 0.1, 0.05, 0.15, 0.3], dtype=torch.float64)
ENTROPY = float(-(CHANCES * CHANCES.log2()).sum())


def generator(seed):
    return torch.Generator().manual_seed(seed)


def images(count, chances=CHANCES):
    """Numbers that know nothing of each other, (count, 1, 4)."""
    level = chances.multinomial(4 * count, replacement=True, generator=generator(0)).view(count, 1, 4)
    return level / (len(chances) - 1) * 2.0 - 1


def best(process, chances=CHANCES):
    """The network that knows how often each level comes."""
    values = torch.linspace(-1, 1, len(chances), dtype=torch.float64)

    def network(scaled, timestep):
        alpha, sigma = (level.view(-1, 1, 1).double() for level in process.schedule.level(timestep))
        x = scaled / process.prediction.scale(alpha, sigma)
        probability = (
            chances.log() - ((x[..., None] - alpha[..., None] * values) / sigma[..., None]) ** 2 / 2
        ).softmax(-1)
        image = (probability * values).sum(-1)
        return process.target(image, (x - alpha * image) / sigma, timestep).float()

    return network


def measured(process, network, image, levels=LEVELS):
    """The mean over images and four noises, with steps spread evenly."""
    count, total = len(image), 0.0
    for seed in range(4):
        noise = torch.randn(image.shape, generator=generator(seed))
        uniform = (torch.arange(count) + torch.rand(count, generator=generator(seed))) / count
        total += bits_per_dim(process, network, image, noise, uniform, levels).mean().item() / 4
    return total


@each_pair
def test_the_best_network_needs_the_entropy_of_the_data(schedule, prediction):
    process = Diffusion(schedule=SCHEDULES[schedule](), prediction=PREDICTIONS[prediction])
    assert measured(process, best(process), images(20_000)) == pytest.approx(ENTROPY, abs=0.05)


def test_more_steps_cost_less_down_to_the_entropy():
    processes = [Diffusion(schedule=cosine(steps=steps), prediction=PREDICTIONS["v"]) for steps in (30, 100, 1000)]
    excess = [measured(process, best(process), images(20_000)) - ENTROPY for process in processes]
    assert excess[0] > 3 * excess[1] > 9 * abs(excess[2])


def test_a_worse_network_needs_more():
    process = Diffusion(schedule=SCHEDULES["cosine"](), prediction=PREDICTIONS["x0"])
    evenly = torch.full((LEVELS,), 1 / LEVELS, dtype=torch.float64)
    mistaken = float(-(CHANCES * evenly.log2()).sum())  # what the levels cost if they are taken to be alike
    assert mistaken - ENTROPY > 0.2
    assert measured(process, best(process, evenly), images(20_000)) == pytest.approx(mistaken, abs=0.05)


def test_what_the_last_step_leaves_open_is_paid_for_in_levels():
    """With levels alike, the last step's distribution is the best one, though its noise hides neighbours."""
    evenly = torch.full((LEVELS,), 1 / LEVELS, dtype=torch.float64)
    noisy = Discrete(cosine(steps=1000).alpha_bar[200:])
    assert noisy.level(torch.tensor(0))[1] > 2 / (LEVELS - 1) / 2
    process = Diffusion(schedule=noisy, prediction=PREDICTIONS["x0"])
    image = images(20_000, evenly)
    assert measured(process, best(process, evenly), image) == pytest.approx(math.log2(LEVELS), abs=0.05)


def test_what_the_prior_does_not_know_is_paid_for():
    short = Discrete(cosine(steps=1000).alpha_bar[:400])
    process, image = Diffusion(schedule=short, prediction=PREDICTIONS["x0"]), images(20_000)
    alpha, sigma = short.level(torch.tensor(399))
    prior = Normal(0.0, sigma)
    marginal = image.double().flatten() * alpha + sigma * torch.randn(image.numel(), generator=generator(9))
    values = torch.linspace(-1, 1, LEVELS, dtype=torch.float64)
    density = (Normal(alpha * values, sigma).log_prob(marginal[:, None]) + CHANCES.log()).logsumexp(-1)
    unknown = float((density - prior.log_prob(marginal)).mean()) / math.log(2)
    assert unknown > 0.1
    assert measured(process, best(process), image) == pytest.approx(ENTROPY + unknown, abs=0.05)


@each_pair
@pytest.mark.parametrize("spread", [None, 0.0, 0.3, 1.0])
def test_a_step_s_cost_is_the_divergence_of_what_ddpm_draws(schedule, prediction, spread):
    process = Diffusion(schedule=SCHEDULES[schedule](), prediction=PREDICTIONS[prediction])
    later, sooner = process.schedule.timesteps(8)[3:5].tolist()
    later, sooner = (torch.tensor([moment]) for moment in (later, sooner))
    image, noise, guess = (torch.rand(1, 2, 3, generator=generator(seed)) for seed in range(3))
    x = process.noisy(image, noise, later)
    alpha, sigma = (level.double() for level in process.schedule.level(later))
    alpha_next, sigma_next = (level.double() for level in process.schedule.level(sooner))
    output = process.target(guess, (x - alpha * guess) / sigma, later).float()
    if spread is not None:
        output = torch.cat([output, torch.full_like(output, 2 * spread - 1)], 1)

    beta = sigma**2 - (alpha / alpha_next * sigma_next) ** 2  # of x_t given x_s
    smallest = beta * sigma_next**2 / sigma**2

    def mean(known):
        return (alpha / alpha_next * sigma_next**2 * x + alpha_next * beta * known) / sigma**2

    variance = smallest ** (1 - (spread or 0)) * (beta) ** (spread or 0)
    expected = kl_divergence(Normal(mean(image), smallest.sqrt()), Normal(mean(guess), variance.sqrt())).sum()
    found = divergence(process, x, output, image, later, sooner)
    assert found.item() == pytest.approx(expected.item(), rel=1e-3)
