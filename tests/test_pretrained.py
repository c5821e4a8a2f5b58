"""The weights that come with the package: small, whole, and as good as their cards say."""

from pathlib import Path

import pytest

import zoo
from zoo.registry import ARCHITECTURES
from zoo.training.run import RunConfig
from zoo.training.trainer import Trainer
from zoo.weights.cards import PRETRAINED, bundled_folder, cards

ROOT = Path(__file__).parents[1]
BUNDLED = [card for a in ARCHITECTURES.records().values() for card in cards(a) if bundled_folder(card) is not None]
each = pytest.mark.parametrize("card", BUNDLED, ids=lambda card: f"{card.preset}.{card.tag}")


def size(folder):
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_bundled_folder_has_a_card():
    folders = {path.name for path in PRETRAINED.iterdir() if path.is_dir() and not path.name.startswith("__")}
    assert folders == {bundled_folder(card).name for card in BUNDLED}
    assert folders


def test_bundled_weights_are_small():
    assert all(size(bundled_folder(card)) < 2_000_000 for card in BUNDLED)
    assert sum(size(bundled_folder(card)) for card in BUNDLED) < 20_000_000


@each
def test_a_bundled_model_is_created_by_its_name_and_knows_where_it_is_from(card):
    model = zoo.create(f"{card.preset}.{card.tag}")
    assert (model.provenance.preset, model.provenance.tag) == (card.preset, card.tag)
    assert model.load_report.loaded > 0
    assert (ROOT / card.recipe).is_file()


@each
def test_a_bundled_model_measures_what_its_card_says(card):
    """Within a little, for sums are rounded differently on other machines, and Python's own files change with it."""
    model = zoo.create(f"{card.preset}.{card.tag}")
    config = RunConfig.read(ROOT / card.recipe, ["trainer.device=cpu"])
    measured = Trainer(config, model=model, quiet=True).evaluate("test")
    for name, value in card.metrics.items():
        assert measured[name] == pytest.approx(value, rel=0.03, abs=0.005), name


def test_bundled_generators_draw_digits_that_are_measured_to_be_some():
    """A Fréchet ratio of 1 is that of ten normal distributions in pixels."""
    told = {card.preset: card.metrics for card in BUNDLED}
    assert told["unet"]["frechet_ratio"] <= 1
    assert told["unet"]["as_asked"] >= 0.97
    assert told["gan"]["frechet_ratio"] <= 1.6
    assert {told[name]["classes"] for name in ("unet", "gan")} == {10}
