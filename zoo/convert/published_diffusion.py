"""Cards of diffusion networks' public repositories, which no installed library describes, so that they stand here.

All are in the layout of the diffusers library, as safetensors. No commit and sha256 is given, for none is certain.
"""

from collections.abc import Iterator, Mapping

from zoo.convert import foreign_tensors
from zoo.convert.published import COMMERCIAL
from zoo.registry import Architecture, Weights
from zoo.weights import DIFFUSERS
from zoo.weights.fit import on_meta

LICENSE = "apache-2.0"
"""Of all these repositories."""
REPOSITORIES: Mapping[str, str] = {
    "ddpm_cifar10_32.google": "google/ddpm-cifar10-32",
    "ddpm_celebahq_256.google": "google/ddpm-celebahq-256",
    "ddpm_celebahq_256.google_ema": "google/ddpm-ema-celebahq-256",
    "ddpm_church_256.google": "google/ddpm-church-256",
    "ddpm_church_256.google_ema": "google/ddpm-ema-church-256",
    "ddpm_bedroom_256.google": "google/ddpm-bedroom-256",
    "ddpm_bedroom_256.google_ema": "google/ddpm-ema-bedroom-256",
    "ddpm_cat_256.google": "google/ddpm-cat-256",
    "ddpm_cat_256.google_ema": "google/ddpm-ema-cat-256",
}
"""`preset.tag` -> where it is; the first of a preset is its default."""


def published_diffusion(architecture: Architecture) -> Iterator[Weights]:
    """The cards of an architecture."""
    decided: set[str] = set()
    for name, repository in REPOSITORIES.items():
        preset, _, tag = name.partition(".")
        if preset not in architecture.names():
            continue
        config = architecture.preset(preset)
        foreign_tensors(on_meta(architecture, config), "diffusers")  # refuses what that has no network of
        yield Weights(
            preset=preset,
            tag=tag,
            source={"repo": repository, "file": f"{DIFFUSERS}.safetensors", "pinned": False},
            license=LICENSE,
            commercial=COMMERCIAL.get(LICENSE),
            preprocessing={
                "mean": [0.5] * config.in_channels,
                "std": [0.5] * config.in_channels,
                "image_size": config.image_size,
                "mirror": True,
            },
            default=preset not in decided,
        )
        decided.add(preset)
