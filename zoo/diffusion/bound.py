"""How many bits an image costs at most if a diffusion model describes it: the variational bound on -log p(image).

Sampling over a grid of timesteps is a chain of latent variables from the noisiest x_T to the cleanest x_1, and

    -log p(image) <= KL(q(x_T | image) || p(x_T)) + sum of KL(q(x_s | x_t, image) || p(x_s | x_t)) - log p(image | x_1)

in expectation over x_1, ..., x_T: Ho et al., 2020, equation 5, for any schedule and prediction as in Kingma et al.,
2021, "Variational diffusion models", equations 8 and 11 to 14. Here p(x_T) is N(0, sigma_T^2), where sampling begins; a
step back has the mean and variance of `ddpm`, with the image estimated and clipped as there; and p(image | x_1) is, for
each number of the image, proportional to q(x_1 | level) over the levels that it can have. So this is the cost of whole
numbers, not a density, and needs data of which the levels are known.
"""

import math

import torch
from torch import Tensor

from zoo.diffusion.predictions import DATA_STD
from zoo.diffusion.process import Diffusion, Network


def bits_per_dim(
    diffusion: Diffusion, network: Network, image: Tensor, noise: Tensor, uniform: Tensor, levels: int
) -> Tensor:
    """An unbiased estimate of the bound from one step of the chain, in bits for each number of an image.

    Steps are drawn as often as they would cost if images were white noise of the usual deviation: what a step really
    costs divided by that varies little.

    Args:
        diffusion: what the network was trained on.
        network: what knows its classes already, if it has some.
        image: (batch, channels, ...) in [-1, 1].
        noise: (batch, channels, ...), standard normal.
        uniform: (batch,), in [0, 1): which step.
        levels: how many different numbers images consist of, evenly spaced from -1 to 1.

    Returns:
        (batch,).
    """
    grid = diffusion.schedule.timesteps(diffusion.schedule.steps).to(image.device)
    alpha, sigma = (level.double() for level in diffusion.schedule.level(grid))
    signal = (alpha / sigma).square()
    usual = signal.diff() / (signal[:-1] + 1 / DATA_STD**2)
    share = usual / usual.sum()
    step = torch.searchsorted(share.cumsum(0), uniform.double()).clamp(max=len(share) - 1)
    prior = (signal[0] / 2 * image.double().square()).flatten(1).sum(1)
    x = diffusion.noisy(image, noise, grid[step])
    cost = divergence(diffusion, x, diffusion.ask(network, x, grid[step]), image, grid[step], grid[step + 1])
    nats = prior + cost / share[step] + _decoding(image, noise, float(alpha[-1]), float(sigma[-1]), levels)
    return nats / math.log(2) / image[0].numel()


def divergence(
    diffusion: Diffusion, x: Tensor, output: Tensor, image: Tensor, timestep: Tensor, before: Tensor
) -> Tensor:
    """KL(q(x_s | x_t, image) || p(x_s | x_t)) in nats, (batch,) float64.

    With what the network says of the variance, the two normal distributions differ in that, too: Nichol and Dhariwal,
    2021, equation 15.

    Args:
        diffusion: what the network was trained on.
        x: (batch, channels, ...), x_t.
        output: the network's answer to it.
        image: (batch, channels, ...).
        timestep: (batch,), t.
        before: (batch,), s: the one that the step leads to, where there is less noise.
    """
    shape = (-1, *[1] * (x.ndim - 1))
    (alpha, sigma), (alpha_next, sigma_next) = (
        [level.double().view(shape) for level in diffusion.schedule.level(moment)] for moment in (timestep, before)
    )
    found = diffusion.estimate(x, output, timestep, clip=1.0)
    gained = (alpha_next / sigma_next).square() - (alpha / sigma).square()
    distance = gained * (image - found.image).double().square()  # of the means, in posterior variances
    if found.spread is not None:
        log_ratio = 2 * found.spread.double() * (sigma_next / sigma).log()  # of q's variance to p's
        distance = log_ratio.exp() * (1 + distance) - 1 - log_ratio
    return distance.flatten(1).sum(1) / 2


def _decoding(image: Tensor, noise: Tensor, alpha: float, sigma: float, levels: int) -> Tensor:
    """-log p(image | x_1) in nats, (batch,) float64."""
    values = torch.linspace(-1, 1, levels, dtype=torch.float64, device=image.device)
    x = alpha * image.double() + sigma * noise.double()
    log_p = (-((x[..., None] - alpha * values) / sigma).square() / 2).log_softmax(-1)
    level = ((image + 1) / 2 * (levels - 1)).round().long()
    return -log_p.gather(-1, level[..., None]).flatten(1).sum(1)
