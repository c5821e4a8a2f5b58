"""Images out of noise: by a GAN or a VAE in one step, by a network that removes noise in many."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.config import ConfigError, build
from zoo.diffusion import DiffusionConfig, draw, guided
from zoo.preprocess import preprocessing, unnormalize
from zoo.registry import did_you_mean
from zoo.training.random import Rows
from zoo.weights import provenance_of

STEPS: Mapping[str, int] = {"dpm_solver": 25, "heun": 25, "ddim": 50, "ddpm": 250}
"""Of the samplers, by default: where more are hardly seen. Heun asks the network twice in each."""
SAMPLER = "dpm_solver"
AT_ONCE, PIXELS = 64, 2**19
"""Images at the most, and their pixels, that go through a network together."""
SHOWN = 20
"""Names of classes that an error lists."""

Label = int | str | Sequence[int | str]
Watch = Callable[[int, int, Callable[[], Tensor]], None]
"""Steps done, of how many, and what gives the images as they are: it is called before the first step and after each."""


class NotFinite(ValueError, FloatingPointError):
    """Images that are no numbers: like a damaged file a failure, and no wrong request."""


@torch.no_grad()
def sample(  # noqa: PLR0913 - what can be asked of any of three kinds
    model: nn.Module,
    count: int,
    *,
    seed: int = 0,
    label: Label | None = None,
    steps: int | None = None,
    sampler: str | None = None,
    guidance: float | None = None,
    vae: nn.Module | None = None,
    watch: Watch | None = None,
) -> Tensor:
    """Draw images from a model; it is left in the mode that it was in.

    Args:
        model: one whose forward turns noise `z` into images, with classes `(z, label)`; or one with `decode` and
            `latent_shape`, whose latents are standard normal; or one whose forward takes `timestep`, and whose weights
            say what noise it was trained on.
        count: how many.
        seed: the same seed draws the same images, and the first ones do not depend on `count`.
        label: the class to draw, by its name or its number, or several, in turn; by default all that there are.
        steps: in how many steps noise is removed; by default as `STEPS` says.
        sampler: how, a name in `zoo.diffusion.SAMPLERS`.
        guidance: above 1, further away from what is drawn when no class is asked for; see `zoo.diffusion.guided`.
        vae: where a network draws latents, the autoencoder of which they are.
        watch: is told of each step; see `Watch`.

    Returns:
        (count, channels, height, width) in [0, 1], on the CPU.

    Raises:
        ValueError: the model does not draw images, `count` is below 1, or an option does not apply to it.
        NotFinite: what it draws is NaN or infinite.
        ConfigError: its weights do not say what sampling must know.
    """
    if count < 1:
        raise ValueError(f"count {count} is below 1")
    kind, who = kind_of(model), type(model).__name__
    if kind != "diffusion":
        for name, value in (("steps", steps), ("sampler", sampler), ("guidance", guidance), ("vae", vae)):
            if value is not None:
                given = type(value).__name__ if isinstance(value, nn.Module) else value
                raise ValueError(
                    f"{name} {given}: {who} makes images of noise at once, and only of networks that remove noise step "
                    f"by step can {name} be asked; leave it out"
                )
    classes = classes_of(model, count, label)
    device = next(model.parameters()).device
    asked = None if classes is None else torch.tensor(classes, device=device)
    rows = Rows(seed, "sample/", [(0, index) for index in range(count)], device)
    with _evaluating(model, vae):
        if kind == "diffusion":
            return _finite(
                model, _denoised(model, rows, asked, vae, watch, steps=steps, sampler=sampler, guidance=guidance)
            )
        z = rows.normal("z", _latent_shape(model) if kind == "vae" else _example(model, "z"))
        z = z.to(next(model.parameters()).dtype)
        make: Any = partial(_decoded, model) if kind == "vae" else partial(_generated, model)
        images: list[Tensor] = []
        for part in _parts(count, 1):
            images.append(make(z[part], None if asked is None else asked[part]))
            if watch is not None:
                watch(min(part.stop, count), count, lambda: torch.cat(images))
    return _finite(model, torch.cat(images))


def _finite(model: nn.Module, images: Tensor) -> Tensor:
    if images.isfinite().all():
        return images
    raise NotFinite(
        f"the images that {type(model).__name__} draws are not finite, so its weights are damaged or their training "
        "diverged; train again with a lower optimizer.lr, or take other weights"
    )


def kind_of(model: nn.Module) -> Literal["gan", "vae", "diffusion"]:
    """How a model draws images.

    Raises:
        ValueError: it draws none.
    """
    arguments = inspect.signature(model.forward).parameters
    if "timestep" in arguments:
        return "diffusion"
    if "z" in arguments:
        return "gan"
    if hasattr(model, "decode") and hasattr(model, "latent_shape"):
        return "vae"
    raise ValueError(
        f"{type(model).__name__} draws no images: its forward takes {', '.join(arguments)}, and neither z nor "
        "timestep, and it has no latents that could be drawn; name a model that does, such as unet.digits, those of "
        "`zoo list --task unconditional-image-generation`, and every `vae`"
    )


def draws_latents(model: nn.Module) -> bool:
    """Whether what a diffusion network draws are latents, of which an autoencoder makes images."""
    record = provenance_of(model).preprocessing or {}
    return bool(record.get("diffusion")) and record.get("image_size") is None


def classes_of(model: nn.Module, count: int, label: Label | None = None) -> list[int] | None:
    """The class of each of the images that `sample` draws; None of a model that is told none.

    Raises:
        ValueError: there is no such class, or the model is told none and `label` asks for one.
    """
    classes = getattr(getattr(model, "config", None), "num_classes", None) or 0
    asked = [label] if isinstance(label, int | str) else label
    if kind_of(model) == "vae" or not classes:
        if asked is not None:
            named = ", ".join(map(str, asked))
            raise ValueError(f"label {named}: {type(model).__name__} is not told what to draw; leave it out")
        return None
    wanted = range(classes) if asked is None else [_class(each, names_of(model)) for each in asked]
    if not wanted:
        raise ValueError("label is empty; give one class at least, or leave it out for all")
    return [wanted[index % len(wanted)] for index in range(count)]


def names_of(model: Any) -> list[str]:
    """Of the classes that a model is told; a class that its weights have no name for is called by its number."""
    labels = provenance_of(model).labels
    return [labels[place] if place < len(labels) else str(place) for place in range(model.config.num_classes)]


def _class(label: int | str, names: Sequence[str]) -> int:
    """The number of a class; a name goes before one of several with commas between, and before a number like it."""
    asked = str(label)
    places = [place for place, name in enumerate(names) if name == asked]
    places = places or [place for place, name in enumerate(names) if asked in map(str.strip, name.split(","))]
    if len(places) > 1:
        raise ValueError(f"label {label!r} is the name of the classes {', '.join(map(str, places))}; give the number")
    if places:
        return places[0]
    wrong, last = f"label {label!r} is no class of this model", len(names) - 1
    if all(name.isdecimal() for name in names):  # then a number that is no name may be meant as one
        if list(names) == [str(place) for place in range(len(names))]:
            raise ValueError(f"{wrong}; give a number from 0 to {last}")
        shown = ", ".join([*names[:SHOWN], *(["..."] if len(names) > SHOWN else [])])
        raise ValueError(f"{wrong}, whose classes are named {shown}; give one of these names")
    number = int(label) if str(label).removeprefix("-").isdecimal() else None
    if number is not None and 0 <= number <= last:
        return number
    near = did_you_mean(str(label), names) if number is None else ""
    raise ValueError(wrong + (near or f"; give a name or a number from 0 to {last}"))


@contextlib.contextmanager
def _evaluating(*models: nn.Module | None) -> Iterator[None]:
    modes = [(model, model.training) for model in models if model is not None]
    for model, _ in modes:
        model.eval()
    try:
        yield
    finally:
        for model, training in modes:
            model.train(training)


def _parts(count: int, pixels: int) -> Iterator[slice]:
    size = max(1, min(AT_ONCE, PIXELS // pixels))
    return (slice(start, start + size) for start in range(0, count, size))


def _example(model: Any, name: str) -> tuple[int, ...]:
    """The shape of an argument of forward, without the batch."""
    return tuple(model.example_inputs(1)[name].shape[1:])


def _latent_shape(model: Any) -> tuple[int, ...]:
    """Of a VAE's latents, if they can be drawn."""
    if provenance_of(model).preprocessing is None and not hasattr(model, "load_report"):  # random weights say nothing
        return model.latent_shape(torch.empty(1, *_example(model, "image"), device="meta"))
    record = preprocessing(model)
    if record.latent_scale is not None:
        raise ValueError(
            f"{type(model).__name__} is the first stage of a diffusion network (its latents, times "
            f"{record.latent_scale:g}, are what that draws), and its latents are far from standard normal; sample from "
            "that network, with this one as vae"
        )
    size = (record.image_size, record.image_size) if record.image_size else _example(model, "image")[1:]
    return model.latent_shape(torch.empty(1, len(record.mean), *size, device="meta"))


def _generated(model: nn.Module, z: Tensor, label: Tensor | None) -> Tensor:
    return _unit(model, (model(z) if label is None else model(z, label)).float().cpu())


def _decoded(model: Any, z: Tensor, _: Tensor | None) -> Tensor:
    return _unit(model, model.decode(z).float().cpu())


def _unit(model: nn.Module, images: Tensor) -> Tensor:
    """Images in [0, 1] from those in the units of a model's training."""
    if provenance_of(model).preprocessing is None:
        return (images * 0.5 + 0.5).clamp(0, 1)  # generators end in tanh; to random weights any range is alike
    low, high = preprocessing(model).value_range
    return ((unnormalize(model, images) - low) / (high - low)).clamp(0, 1)


def _denoised(
    model: nn.Module,
    rows: Rows,
    label: Tensor | None,
    vae: nn.Module | None,
    watch: Watch | None,
    *,
    steps: int | None,
    sampler: str | None,
    guidance: float | None,
) -> Tensor:
    """Images by a network that removes noise."""
    chosen, shape = _diffusion(model), _example(model, "image")
    show = _first_stage(model, vae, shape)
    sampler = SAMPLER if sampler is None else sampler
    steps = STEPS.get(sampler, 1) if steps is None else steps
    states = draw(
        chosen.made(), _network(model, label, 1.0 if guidance is None else guidance), x := rows.normal("noise", shape),
        sampler=sampler, steps=steps, clip=chosen.clip,
        draw_noise=lambda step: rows.normal(f"noise{step}", shape),
    )  # fmt: skip
    for done, state in enumerate(states):
        if watch is not None and done == 0:
            watch(0, steps, partial(show, x))  # only now, for a wrong request is known by now
        x = state
        if watch is not None:
            watch(done + 1, steps, partial(show, x))
    return show(x)


def _diffusion(model: nn.Module) -> DiffusionConfig:
    """The noise that a network was trained on, what it predicts, and how far its images go."""
    who, known = type(model).__name__, (provenance_of(model).preprocessing or {}).get("diffusion")
    if not known:
        raise ConfigError(
            f"{who} does not say what noise it was trained on, without which nothing can be drawn, and random weights "
            "were on none; train it by `zoo train`, or name weights that say it, such as unet.digits; a pipeline of "
            "diffusers does with its scheduler; for other weights, note `diffusion` in their preprocessing by "
            "zoo.weights.remember(...), such as {'schedule': 'linear', 'prediction': 'noise'}"
        )
    # where weights do not say how far images go, their units do
    silent = {"clip": None if draws_latents(model) else _bound(model)}
    return build(DiffusionConfig, {**silent, **known}, f"{who}: preprocessing.diffusion")


def _network(model: nn.Module, label: Tensor | None, guidance: float) -> Callable[[Tensor, Tensor], Tensor]:
    """The network as samplers call it, a few images at a time."""
    dtype, who = next(model.parameters()).dtype, type(model).__name__

    def ask(x: Tensor, timestep: Tensor, label: Tensor | None) -> Tensor:
        found = []
        for part in _parts(len(x), math.prod(x.shape[2:])):
            told = {} if label is None else {"label": label[part]}
            found.append(model(image=x[part].to(dtype), timestep=timestep[part], **told).float())
        return torch.cat(found)

    if not math.isfinite(guidance):
        raise ValueError(f"guidance {guidance} is no number; 1 is none, and 1.5 to 4 are usual")
    if guidance == 1:
        return partial(ask, label=label)
    config: Any = model.config
    if label is None or not getattr(config, "null_label", True):
        lacks = "is told no class" if label is None else "has no label that says nothing"
        raise ValueError(f"guidance {guidance:g} leads away from what is drawn without a class, but {who} {lacks}")
    return guided(ask, label, torch.full_like(label, config.num_classes), guidance)


def _bound(model: nn.Module) -> float | None:
    """The largest number in a normalised image, where the smallest is its negative."""
    record = preprocessing(model)
    low, high = record.value_range
    bounds = {(high - mean) / std for mean, std in zip(record.mean, record.std, strict=True)}
    bounds |= {(mean - low) / std for mean, std in zip(record.mean, record.std, strict=True)}
    return max(bounds) if max(bounds) - min(bounds) < 1e-6 else None


def _first_stage(model: nn.Module, vae: Any, shape: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """What makes images in [0, 1] of what a network draws."""
    who = type(model).__name__
    if not draws_latents(model):
        if vae is not None:
            raise ValueError(f"vae {type(vae).__name__}: {who} draws images, and not latents; leave it out")
        return lambda x: _unit(model, x.cpu())
    size = " x ".join(map(str, shape))
    if vae is None:
        raise ValueError(
            f"{who} draws latents of {size}, which are no images; give as vae the autoencoder that makes images of "
            "them, such as sd_vae.ft_mse for those of Stable Diffusion and DiT"
        )
    name, record = type(vae).__name__, preprocessing(vae)
    if not hasattr(vae, "decode") or record.latent_scale is None:
        raise ConfigError(
            f"vae {name} does not say by what its latents are multiplied for a diffusion network (latent_scale in its "
            "preprocessing), so it is the first stage of none; take one whose weights do, such as sd_vae.ft_mse"
        )
    if vae.config.latent_dim != shape[0]:
        raise ValueError(f"vae {name} has latents of {vae.config.latent_dim} channels, but {who} draws {size}")
    scale, shift = record.latent_scale, record.latent_shift
    weight = next(vae.parameters())

    def show(x: Tensor) -> Tensor:
        z = (x / scale + shift).to(weight)
        pixels = math.prod(shape[1:]) * getattr(vae.config, "factor", 1) ** 2
        return torch.cat([_decoded(vae, z[part], None) for part in _parts(len(z), pixels)])

    return show
