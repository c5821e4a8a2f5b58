"""Write zoo/cards/<architecture>.yaml for weights that others publish: `python scripts/cards.py`.

Bundled weights stay; what fits none of our presets is named on standard error. The extra `peers` brings torchvision,
timm and open_clip, which describe the weights that they know; the others stand in tables of ours.
"""

import argparse
import dataclasses
import sys
from typing import Any

from zoo.config import read_yaml, to_dict, to_yaml
from zoo.convert.published import published
from zoo.convert.published_diffusion import published_diffusion
from zoo.convert.published_text import published_text
from zoo.registry import ARCHITECTURES, Weights
from zoo.weights.cards import CARDS


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("architectures", nargs="*", help="by default all")
    names = parser.parse_args().architectures or list(ARCHITECTURES.records())
    for record in map(ARCHITECTURES.find, names):
        found = [*published(record), *published_text(record), *published_diffusion(record)]
        for reason in (each for each in found if isinstance(each, str)):
            print(f"left out: {reason}", file=sys.stderr)  # noqa: T201 - the script's answer
        if cards := [each for each in found if isinstance(each, Weights)]:
            write(record.name, cards)


def write(name: str, cards: list[Weights]) -> None:
    """The file of an architecture: its bundled weights, then these."""
    path = CARDS / f"{name}.yaml"
    before: dict[str, Any] = read_yaml(path) if path.exists() else {}
    presets = {
        preset: {tag: card for tag, card in tags.items() if "bundled" in card["source"]}
        for preset, tags in before.items()
    }
    defaults = {
        field.name: getattr(Weights(preset="", tag="", source={}), field.name) for field in dataclasses.fields(Weights)
    }
    for card in cards:
        facts = {key: value for key, value in to_dict(card).items() if key not in ("preset", "tag")}
        kept = {key: value for key, value in facts.items() if key == "source" or value != to_dict_value(defaults[key])}
        presets.setdefault(card.preset, {})[card.tag] = kept
    presets = {preset: tags for preset, tags in presets.items() if tags}
    path.write_text(
        "# Written by scripts/cards.py and scripts/bundle.py; see zoo.registry.Weights.\n" + to_yaml(presets)
    )


def to_dict_value(value: Any) -> Any:
    """A default as it stands in a file."""
    return list(value) if isinstance(value, tuple) else value


if __name__ == "__main__":
    main()
