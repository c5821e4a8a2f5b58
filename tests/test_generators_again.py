"""Weights that draw are evaluated and trained further as what they are."""

import pytest
import torch

import zoo
from zoo.config import ConfigError
from zoo.training.assemble import assemble

DIGITS = {"name": "digits", "normalize": "range"}
CLASSES = 3


def parts(model, objective=None, **data):
    sections = {"model": model, "data": {**DIGITS, **data}, "trainer": {"steps": 1}}
    config = zoo.RunConfig.of({**sections, **({"objective": objective} if objective else {})})
    return assemble(config, None, None, None)


def test_the_noise_that_weights_know_is_the_one_that_they_are_measured_by():
    options = parts({"name": "unet.digits"}).objective.options
    assert (options.schedule, options.prediction) == ("cosine", "v")


def test_another_schedule_may_be_named_and_what_is_predicted_stays():
    remembered = {"schedule": "linear", "schedule_options": {"end": 0.01}, "prediction": "x0"}
    model = zoo.create("unet.digits")
    model.provenance.preprocessing["diffusion"] = remembered
    config = zoo.RunConfig.of({"data": DIGITS, "objective": {"name": "denoising"}, "trainer": {"steps": 1}})
    assert assemble(config, model, None, None).objective.options.schedule_options == {"end": 0.01}
    config = zoo.RunConfig.of(
        {"data": DIGITS, "objective": {"name": "denoising", "schedule": "cosine"}, "trainer": {"steps": 1}}
    )
    options = assemble(config, model, None, None).objective.options
    assert (options.schedule, options.schedule_options, options.prediction) == ("cosine", {}, "x0")


@pytest.mark.parametrize("names", [(4, 5, 6), (7, 8, 9)])
def test_only_the_table_of_classes_is_drawn_anew_for_other_classes(names):
    stored = zoo.create("unet.digits")
    model = parts({"name": "unet.digits"}, classes=list(names)).model
    assert model.config.num_classes == CLASSES
    state, before = model.state_dict(), stored.state_dict()
    changed = [name for name in state if state[name].shape != before[name].shape]
    assert changed == ["label_embed.weight"]
    assert all(torch.equal(state[name], before[name]) for name in state if name not in changed)
    assert model.load_report.adapted == (f"label_embed.weight new, {(4, 128)} instead of {(11, 128)}",)


def test_a_gan_s_tables_follow_the_classes_in_both_networks(tmp_path):
    config = {"latent_dim": 4, "generator_width": 4, "discriminator_width": 4, "image_size": 8, "in_channels": 1}
    zoo.save(zoo.create("gan", num_classes=10, spectral_norm=True, **config), tmp_path / "ten")
    model = parts({"name": f"local-dir:{tmp_path / 'ten'}"}, classes=[1, 2, 3]).model
    assert model(torch.randn(2, 4), torch.tensor([0, 2])).shape == (2, 1, 8, 8)
    assert model.discriminator(torch.randn(2, 1, 8, 8), torch.tensor([0, 2])).shape == (2,)
    assert all(".scale." in note or ".shift." in note or ".classes." in note for note in model.load_report.adapted)


def test_classes_of_the_same_number_leave_the_output_as_it_was(tmp_path):
    small = {"name": "unet", "channels": [8], "depth": 1, "norm_groups": 4, "attention_levels": []}
    config = zoo.RunConfig.of(
        {"model": small, "data": {**DIGITS, "classes": [0, 1, 2]}, "trainer": {"steps": 1}},
    )
    done = zoo.Trainer(config, out=tmp_path / "run", quiet=True).fit()
    again = parts({"name": f"local-dir:{tmp_path / 'run' / 'model'}"}, classes=[3, 4, 5]).model
    assert again.provenance.labels != ("3", "4", "5")
    assert torch.equal(again.head.weight, done.model.head.weight)
    assert again.load_report.adapted == ()


def test_who_was_told_no_class_is_told_none_on_labelled_data():
    assert parts({"name": "gan.digits"}).model.config.num_classes == 0


def test_an_autoencoder_knows_no_classes_and_so_may_see_others(tmp_path):
    config = zoo.RunConfig.of(
        {
            "model": {"name": "autoencoder", "widths": [4], "latent_dim": 2},
            "data": {"name": "digits", "classes": [0, 1, 2]},
            "trainer": {"steps": 1},
        },
    )
    zoo.Trainer(config, out=tmp_path / "run", quiet=True).fit()
    again = parts({"name": f"local-dir:{tmp_path / 'run' / 'model'}"}, classes=[3, 4, 5]).model
    assert again.load_report.adapted == ()


@pytest.mark.parametrize("name", ["unet.digits", "gan.digits"])
def test_who_draws_grey_images_is_not_shown_colours(name):
    with pytest.raises(ConfigError, match="has in_channels 1, but the data have 3"):
        parts({"name": name}, name="photo_patches", image_size=16 if name == "unet.digits" else 8)
