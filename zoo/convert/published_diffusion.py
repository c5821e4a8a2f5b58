"""Cards of generative networks' public repositories, which no installed library describes, so that they stand here.

All have safetensors in the layout of the diffusers library, MAE's in that of transformers. No commit and sha256 is
given, for none is certain.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from zoo.convert import foreign_tensors
from zoo.convert.published import COMMERCIAL
from zoo.registry import Architecture, Weights
from zoo.weights import DIFFUSERS, TENSORS
from zoo.weights.fit import on_meta

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Repository(NamedTuple):
    """A repository that holds one of our presets."""

    name: str
    preprocessing: Mapping[str, Any]
    license: str = "apache-2.0"
    commercial: bool | None = True
    file: str = f"{DIFFUSERS}.safetensors"
    format: str = "diffusers"


def _ddpm(name: str, size: int) -> Repository:
    noise = {"schedule": "linear", "prediction": "noise"}
    return Repository(name, {**_images(size), "mirror": True, "diffusion": noise})


def _first_stage(name: str, scale: float) -> Repository:
    return Repository(
        name, {**_images(256), "latent_scale": scale}, license="mit", commercial=COMMERCIAL["mit"]
    )  # they are measured on COCO at this size


def _images(size: int) -> dict[str, Any]:
    return {"mean": [0.5] * 3, "std": [0.5] * 3, "image_size": size}


REPOSITORIES: Mapping[str, Repository] = {
    "ddpm_cifar10_32.google": _ddpm("google/ddpm-cifar10-32", 32),
    "ddpm_cat_256.google": _ddpm("google/ddpm-cat-256", 256),
    "sd_vae.ft_mse": _first_stage("stabilityai/sd-vae-ft-mse", 0.18215),
    "sd_vae.ft_ema": _first_stage("stabilityai/sd-vae-ft-ema", 0.18215),
    "sd_vae.sdxl": _first_stage("stabilityai/sdxl-vae", 0.13025),
    "mae_vit_b_16.facebook": Repository(
        "facebook/vit-mae-base",
        {**IMAGENET, "image_size": 224, "squash": True, "mirror": True},
        commercial=None,  # the authors' own files are cc-by-nc-4.0
        file=TENSORS,
        format="transformers",
    ),
}
"""`preset.tag` -> where it is; the first of a preset is its default."""

PICKLED: Mapping[str, str] = {
    "facebook/DiT-XL-2-256": "dit_xl_2",
    "facebook/DiT-XL-2-512": "dit_xl_2_512",
    "facebook/vit-mae-large": "mae_vit_l_16",
    "facebook/vit-mae-huge": "mae_vit_h_14",
}
"""Repositories that one would look for -> their preset; on their main branch they have pickled weights alone."""
UNCERTAIN: Mapping[str, str] = {
    "google/ddpm-celebahq-256": "ddpm_celebahq_256",
    "google/ddpm-church-256": "ddpm_church_256",
    "google/ddpm-bedroom-256": "ddpm_bedroom_256",
}
"""The same; nothing says that they have more than pickled weights."""


def published_diffusion(architecture: Architecture) -> Iterator[Weights | str]:
    """The cards of an architecture; for repositories that have none, a sentence that says why."""
    decided: set[str] = set()
    for name, where in REPOSITORIES.items():
        preset, _, tag = name.partition(".")
        if preset not in architecture.names():
            continue
        foreign_tensors(on_meta(architecture, architecture.preset(preset)), where.format)  # refuses what it cannot be
        yield Weights(
            preset=preset,
            tag=tag,
            source={"repo": where.name, "file": where.file, "pinned": False},
            license=where.license,
            commercial=where.commercial,
            preprocessing=where.preprocessing,
            default=preset not in decided,
        )
        decided.add(preset)
    for repository, preset in PICKLED.items():
        if preset in architecture.names():
            yield f"{preset}: {repository} has pickled weights alone"
    for repository, preset in UNCERTAIN.items():
        if preset in architecture.names():
            yield f"{preset}: nothing says that {repository} has more than pickled weights"
