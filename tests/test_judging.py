"""What the judge says of drawn images: the bound's model as the one who draws, however the split is divided."""

import pytest
import torch

import zoo
from zoo.training.data import Splits, digits
from zoo.training.data.arrays import Arrays
from zoo.training.judging import Jury
from zoo.training.kid import kernel_distance
from zoo.training.manifold import precision_and_recall
from zoo.training.objectives.elbo import OBJECTIVE as ELBO
from zoo.training.objectives.elbo import ELBOConfig


def drawer(normalize="none", batch_size=8, out=None, **options):
    """A trainer of a small VAE, and a few digits to test on."""
    data = digits.load(digits.Digits(normalize=normalize))
    test = Arrays({"image": data.test.fetch(range(41), None)["image"]})
    torch.manual_seed(0)
    model = zoo.create("vae", image_size=8, in_channels=1, widths=(4,), mlp_dim=8, latent_dim=3)
    objective = ELBO(ELBOConfig(features="resnet20.digits", samples_per_image=2, **options), data.spec)
    config = zoo.RunConfig.of({"data": {"batch_size": batch_size}, "trainer": {"steps": 2, "device": "cpu"}})
    parts = Splits(spec=data.spec, train=data.train, test=test)
    return zoo.Trainer(config, model, parts, objective, out=out, quiet=True)


PAIRED = ("kernel_distance", "precision", "recall")


def test_images_are_drawn_from_the_prior_and_shown_in_the_unit_range():
    trainer = drawer()
    look, shown = trainer.objective.jury.judge, []
    trainer.objective.jury.judge = lambda image: shown.append(image) or look(image)
    latents = []
    decode = trainer.model.decode
    trainer.model.decode = lambda z: latents.append(z) or decode(z)
    metrics = trainer.evaluate()
    z = torch.cat([z for z in latents if len(z) in (16, 2)])
    assert z.shape == (82, 3)
    assert abs(z.mean()) < 0.2
    assert abs(z.std() - 1) < 0.2
    assert 0 <= min(image.min() for image in shown) < 0.4 < 0.6 < max(image.max() for image in shown) <= 1
    assert {"elbo", "frechet_distance", "classes", "confident"} <= metrics.keys()
    assert not metrics.keys() & set(PAIRED)


def test_the_judge_s_images_do_not_depend_on_how_the_data_are_normalised():
    real = []
    for normalize in ("none", "standard", "range"):
        trainer = drawer(normalize)
        look, shown = trainer.objective.jury.judge, []
        trainer.objective.jury.judge = lambda image, look=look, shown=shown: shown.append(image) or look(image)
        trainer.evaluate()
        real.append(torch.cat(shown[1::2]))
    assert real[0].shape == (41, 1, 8, 8)
    for other in real[1:]:
        torch.testing.assert_close(real[0], other, atol=1e-6, rtol=0)


def test_all_pairs_are_those_of_the_whole_split_and_equally_many_images_are_held_against_each_other(monkeypatch):
    trainer, seen = drawer(all_pairs=True), []
    look = trainer.objective.jury.judge

    def watch(image):
        seen.append(look(image))
        return seen[-1]

    trainer.objective.jury.judge = watch
    metrics = trainer.evaluate()
    drawn, real = (torch.cat([features for features, _ in seen[side::2]]) for side in (0, 1))
    assert (len(drawn), len(real)) == (82, 41)
    assert metrics["kernel_distance"] == pytest.approx(kernel_distance(drawn, real), rel=1e-6)
    assert (metrics["precision"], metrics["recall"]) == precision_and_recall(drawn[::2], real)


def test_how_evaluation_is_cut_into_batches_changes_nothing():
    whole, parts = (drawer(all_pairs=True, batch_size=rows).evaluate() for rows in (41, 4))
    assert whole == pytest.approx(parts, rel=1e-4)


def test_without_a_judge_there_is_nothing_to_tell():
    jury = Jury(ELBOConfig(all_pairs=True), drawer().objective.spec)
    assert jury.totals(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8), samples=[(0, 0), (0, 1)]) == {}
    assert jury.metrics({}) == {}
