"""Put the model of a finished run into the package, with its card: `python scripts/bundle.py RUN CONFIG TAG`.

The card says what the run measured on its test part; `tests/test_pretrained.py` measures it again.
"""

import argparse
from pathlib import Path

import zoo
from zoo.config import read_yaml, to_yaml
from zoo.training.log import read_log
from zoo.weights import provenance_of, remember
from zoo.weights.cards import CARDS, PRETRAINED

HEADER = "# Written by scripts/cards.py and scripts/bundle.py; see zoo.registry.Weights.\n"
LARGEST = 2_000_000
"""Bytes of one bundled model."""


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("recipe", type=Path, help="the config that it was trained by, below configs/")
    parser.add_argument("tag", help="what follows the preset's name and a dot")
    parser.add_argument("--keep", nargs="*", default=[], help="the metrics that the card tells; by default all")
    given = parser.parse_args()
    print(bundle(given.run, given.recipe, given.tag, given.keep))  # noqa: T201 - the script's answer


def bundle(run: Path, recipe: Path, tag: str, keep: list[str]) -> Path:
    """Copy the model and write its card; returns the new folder."""
    metrics = next(event for event in read_log(run / "log.jsonl") if event.get("split") == "test")
    metrics = {name: value for name, value in metrics.items() if name not in ("step", "time", "split")}
    model = zoo.load(run / "model")
    remember(model, tag=tag)
    known = provenance_of(model)
    folder = PRETRAINED / f"{known.preset}.{tag}"
    zoo.save(model, folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    if size > LARGEST:
        raise SystemExit(f"{folder} has {size:,} bytes, more than {LARGEST:,}; train a smaller model")
    path = CARDS / f"{known.architecture}.yaml"
    cards = read_yaml(path) if path.exists() else {}
    cards.setdefault(known.preset, {})[tag] = {
        "source": {"bundled": folder.name},
        "license": "apache-2.0",
        "commercial": True,
        "metrics": {name: round(metrics[name], 4) for name in keep or metrics},
        "recipe": recipe.as_posix(),
    }
    path.write_text(HEADER + to_yaml(cards), encoding="utf-8")
    return folder


if __name__ == "__main__":
    main()
