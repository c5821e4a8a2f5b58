"""From noise to images: what evaluation and sampling do with a trained network, whatever its kind."""

from collections.abc import Iterator

from torch import Tensor

from zoo.diffusion.process import Diffusion, Network
from zoo.diffusion.samplers import SAMPLERS, Draw


def draw(
    diffusion: Diffusion,
    network: Network,
    noise: Tensor,
    *,
    sampler: str = "dpm_solver",
    steps: int = 25,
    clip: float | None = 1.0,
    draw_noise: Draw | None = None,
) -> Iterator[Tensor]:
    """Follow a sampler from noise to images.

    Args:
        diffusion: what the network was trained on.
        network: what knows its classes already, if it has some, such as `guided` makes; with twice the channels of
            images, the second half of its answer says the variance, which `ddpm` uses.
        noise: (batch, channels, ...), standard normal; x begins with it, or where sigma is above 1, with as many times.
        sampler: a name in `SAMPLERS`.
        steps: how many; heun asks the network twice in each.
        clip: no number of an image is larger, and none smaller than its negative; None where images are not bounded,
            as latents.
        draw_noise: the number of a step -> the noise that it adds, like `noise`; for `ddpm` alone, which needs it.

    Yields:
        x after every step, (batch, channels, ...); the last one is an image.

    Raises:
        ValueError: there is no such sampler, the schedule has fewer steps, or `ddpm` is given no noise.
    """
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler {sampler!r} is unknown; choose one of {', '.join(SAMPLERS)}")
    if sampler == "ddpm" and draw_noise is None:
        raise ValueError("sampler ddpm adds noise in every step; give draw_noise, or choose ddim")
    anew = {"draw": draw_noise} if sampler == "ddpm" else {}
    timesteps = diffusion.schedule.timesteps(steps)
    start = noise * diffusion.schedule.level(timesteps[:1])[1].clamp(min=1).to(noise)
    yield from SAMPLERS[sampler](diffusion, network, start, timesteps.to(noise.device), clip=clip, **anew)
