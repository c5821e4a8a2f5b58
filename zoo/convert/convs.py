"""What all graph networks of torch_geometric share: their layers are `convs.0`, `convs.1` and so on, the head too."""

from typing import Any


def layers(config: Any) -> list[tuple[str, str]]:
    """Our name and theirs of every layer of a config with `depth` and `num_classes`; the last one is our head."""
    return [(f"blocks.{i}" if i < config.depth - 1 else "head", f"convs.{i}") for i in range(config.depth)]


def numbered(config: Any) -> tuple[tuple[str, str], ...]:
    """Their examples count the layers from 1, as `conv1`."""
    return tuple((rf"^conv{i + 1}\.", f"convs.{i}.") for i in range(config.depth))
