"""From noise to images, step by step: each sampler yields x after every step, the last one an image.

With y = x / alpha and s = sigma / alpha, a network that knows the noise gives the slope dy / ds of the path on which x
lies, so that sampling is the solution of an ordinary differential equation (Song et al., 2021a, section 4.3); samplers
differ in how they follow it, and in whether they add noise anew on the way.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from torch import Tensor

from zoo.diffusion.process import Diffusion, Estimate, Network

FAINTEST = 1000
"""Times as much noise as image, above which y = x / alpha tells nothing of the image; `linear` begins with 157."""
Draw = Callable[[int], Tensor]
"""The number of a step -> noise, (batch, ...), standard normal."""


class Sampler(Protocol):
    """How samplers are called."""

    def __call__(
        self, diffusion: Diffusion, network: Network, x: Tensor, timesteps: Tensor, *, clip: float | None = None
    ) -> Iterator[Tensor]:
        """Follow the path from x.

        Args:
            diffusion: what the network was trained on.
            network: the network.
            x: (batch, ...), noise with the variance of the first timestep.
            timesteps: (steps,), the noisiest first.
            clip: see `Diffusion.estimate`.
        """
        ...


def ddim(
    diffusion: Diffusion,
    network: Network,
    x: Tensor,
    timesteps: Tensor,
    *,
    clip: float | None = None,
    eta: float = 0.0,
    draw: Draw | None = None,
    consistent: bool = False,
) -> Iterator[Tensor]:
    """Straight to the next level, with a part of the noise drawn anew: Song et al., 2021b, equations 12 and 16.

    With `eta` 0 this is Euler's method, also for `flow` and `edm`. With 1 it is Ho et al., 2020, with the smaller one
    of its two variances, or with what the network says between both: Nichol and Dhariwal, 2021, equation 15. The larger
    one is (sigma / sigma_next)^2 times the smaller one.

    Args:
        diffusion: see `Sampler`, as for what is not said here.
        network: the network.
        x: where to begin.
        timesteps: the steps.
        clip: the bound of images.
        eta: how much noise is drawn anew.
        draw: where it comes from; without it none is added, though its room is left.
        consistent: whether with a clipped image goes the noise that explains x with it, as in the posterior of DDPM;
            else the network's own, as diffusers does by default.
    """
    for step, (timestep, (alpha, sigma), (alpha_next, sigma_next)) in enumerate(_steps(diffusion, timesteps)):
        image, noise, spread = _estimate(diffusion, network, x, timestep, clip if consistent else None)
        image = image if clip is None else image.clamp(-clip, clip)
        kept = alpha / alpha_next
        anew = eta * sigma_next / sigma * math.sqrt(max(0.0, sigma**2 - (kept * sigma_next) ** 2))
        x = alpha_next * image + math.sqrt(max(0.0, sigma_next**2 - anew**2)) * noise
        if anew and draw is not None:
            wider = 1 if spread is None else (sigma / sigma_next) ** spread
            x = x + anew * wider * draw(step)
        yield x


def ddpm(
    diffusion: Diffusion,
    network: Network,
    x: Tensor,
    timesteps: Tensor,
    *,
    clip: float | None = None,
    draw: Draw | None = None,
) -> Iterator[Tensor]:
    """Ancestral sampling: Ho et al., 2020, algorithm 2; see `ddim`."""
    return ddim(diffusion, network, x, timesteps, clip=clip, eta=1.0, draw=draw, consistent=True)


def heun(
    diffusion: Diffusion, network: Network, x: Tensor, timesteps: Tensor, *, clip: float | None = None
) -> Iterator[Tensor]:
    """The mean of the slopes at both ends of a step, two questions each: Karras et al., 2022, algorithm 1.

    Where there is next to no image in x, as at the first step of `flow` and `cosine`, the slopes are x's own, for over
    the width of such a step in s the network's error would be all that there is to see.
    """
    for step, (timestep, (alpha, sigma), (alpha_next, sigma_next)) in enumerate(_steps(diffusion, timesteps)):
        image, noise, _ = _estimate(diffusion, network, x, timestep, clip)
        reached = alpha_next * image + sigma_next * noise
        if sigma_next > 0:
            image_there, noise_there, _ = _estimate(diffusion, network, reached, timesteps[step + 1], clip)
            if sigma > FAINTEST * alpha:
                slopes = (alpha_next - alpha) * (image + image_there) + (sigma_next - sigma) * (noise + noise_there)
                reached = x + slopes / 2
            else:
                width = sigma_next / alpha_next - sigma / alpha
                reached = alpha_next * (x / alpha + width * (noise + noise_there) / 2)
        x = reached
        yield x


def dpm_solver(
    diffusion: Diffusion, network: Network, x: Tensor, timesteps: Tensor, *, clip: float | None = None
) -> Iterator[Tensor]:
    """The image extrapolated from this step and the one before: Lu et al., 2022, DPM-Solver++ (2M), algorithm 2."""
    before: tuple[Tensor, float] | None = None
    for timestep, (alpha, sigma), (alpha_next, sigma_next) in _steps(diffusion, timesteps):
        image, *_ = _estimate(diffusion, network, x, timestep, clip)
        if sigma_next == 0:
            x = alpha_next * image
        else:
            width = math.log(alpha_next / sigma_next) - (math.log(alpha / sigma) if alpha else -math.inf)
            guess = image
            if before is not None:
                image_before, width_before = before
                guess = image + width / (2 * width_before) * (image - image_before)
            x = sigma_next / sigma * x - alpha_next * math.expm1(-width) * guess
            before = image, width
        yield x


SAMPLERS: Mapping[str, Callable[..., Iterator[Tensor]]] = {
    "ddpm": ddpm,
    "ddim": ddim,
    "heun": heun,
    "dpm_solver": dpm_solver,
}
"""By name; `ddim` is Euler's method for `flow`."""


def _steps(
    diffusion: Diffusion, timesteps: Tensor
) -> Iterator[tuple[Tensor, tuple[float, float], tuple[float, float]]]:
    """Each timestep with its alpha and sigma and the next ones; in the end there is no noise."""
    alphas, sigmas = (level.double().tolist() for level in diffusion.schedule.level(timesteps))
    levels = [*zip(alphas, sigmas, strict=True), (1.0, 0.0)]
    return zip(timesteps, levels[:-1], levels[1:], strict=True)


def _estimate(diffusion: Diffusion, network: Network, x: Tensor, timestep: Tensor, clip: float | None) -> Estimate:
    moments = timestep.to(x.device).expand(x.shape[0])
    return diffusion.estimate(x, diffusion.ask(network, x, moments), moments, clip)
