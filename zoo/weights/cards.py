"""What is known of pretrained weights: `cards/<architecture>.yaml`, preset -> tag -> fields of `registry.Weights`."""

import functools
from pathlib import Path

from zoo.config import ConfigError, build, read_yaml
from zoo.registry import ARCHITECTURES, Architecture, UnknownName, Weights, did_you_mean, normalise

CARDS = Path(__file__).parents[1] / "cards"
PRETRAINED = Path(__file__).parents[1] / "pretrained"


def cards(architecture: Architecture, preset: str | None = None) -> tuple[Weights, ...]:
    """The weights of an architecture, or of one of its presets."""
    found = _read(CARDS / f"{architecture.name}.yaml")
    return tuple(card for card in found if preset in (None, card.preset))


def find_card(architecture: Architecture, preset: str, tag: str | None) -> Weights:
    """The weights that a tag names, or without one the preset's default.

    Raises:
        UnknownName: there are none; the message names those that there are.
    """
    known = cards(architecture, preset)
    for card in known:
        if (card.default and tag is None) or (tag is not None and normalise(card.tag) == normalise(tag)):
            return card
    asked = f"{preset} has no pretrained weights" + (f" {tag!r}" if tag else " by default" if known else "")
    if known:
        tags = ", ".join(card.tag for card in known)
        raise UnknownName(f"{asked}{did_you_mean(tag or '', tags.split(', ')) or f'; it has {tags}'}")
    raise UnknownName(f"{asked}; {bundled_names()}")


def labels(card: Weights) -> tuple[str, ...]:
    """The names of a card's classes; known lists are torchvision's, in the order that all libraries use."""
    if card.label_set is None:
        return card.labels
    from torchvision.models import get_weight

    holder = {"imagenet-1k": "ResNet18_Weights.IMAGENET1K_V1", "kinetics-400": "R3D_18_Weights.KINETICS400_V1"}
    return tuple(get_weight(holder[card.label_set]).meta["categories"])


def bundled_folder(card: Weights) -> Path | None:
    """The folder within this package that holds the weights, where one does."""
    name = card.source.get("bundled")
    return None if name is None else PRETRAINED / str(name)


def bundled_names() -> str:
    """A sentence that names all weights that need no download."""
    every = [card for architecture in ARCHITECTURES.records().values() for card in cards(architecture)]
    names = sorted(f"{card.preset}.{card.tag}" for card in every if bundled_folder(card) is not None)
    return f"bundled with zoo are {', '.join(names)}" if names else "none are bundled with zoo"


@functools.cache
def _read(path: Path) -> tuple[Weights, ...]:
    if not path.is_file():
        return ()
    presets = read_yaml(path)
    try:
        found = [
            {"preset": preset, "tag": tag, **fields} for preset in presets for tag, fields in presets[preset].items()
        ]
    except (AttributeError, TypeError):
        raise ConfigError(f"{path}: expected preset -> tag -> fields; see zoo.registry.Weights") from None
    return tuple(build(Weights, card, f"{path.name}: {card['preset']}.{card['tag']}") for card in found)
