"""Images are drawn by models of every kind: what is asked for, the same again, and what cannot be is told."""

import math
import sys
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo.config import ConfigError
from zoo.diffusion import SAMPLERS, DiffusionConfig
from zoo.pipelines import picture, sample
from zoo.pipelines.picture import animation
from zoo.pipelines.sample import classes_of, names_of
from zoo.weights import Provenance

NAMES = ("cat", "dog", "crane", "crane")
UNITS = {"mean": [0.5, 0.5], "std": [0.5, 0.5], "image_size": 4}


def known(model, labels=(), **preprocessing):
    """A model that says of its weights what a saved one would; with `mean=None`, nothing."""
    facts = None if preprocessing == {"mean": None} else {**UNITS, **preprocessing}
    vars(model)["provenance"] = Provenance(architecture="x", preset="x", labels=tuple(labels), preprocessing=facts)
    return model


class Generator(nn.Module):
    """Twice the noise, plus the class."""

    def __init__(self, num_classes=0):
        super().__init__()
        self.config, self.weight = SimpleNamespace(num_classes=num_classes), nn.Parameter(torch.ones(1))
        self.batches = []

    def forward(self, z, label=None):
        self.batches.append(len(z))
        told = 0 if label is None else label.view(-1, 1, 1, 1) / 10
        return (z[:, :2, None, None].expand(-1, -1, 4, 4) * 0.1 + told) * self.weight

    def example_inputs(self, batch_size=2):
        return {"z": torch.randn(batch_size, 3)}


class Autoencoder(nn.Module):
    """An image is its latent's channels, doubled in size."""

    def __init__(self, channels=2):
        super().__init__()
        self.config, self.weight = SimpleNamespace(latent_dim=channels, factor=2), nn.Parameter(torch.ones(1))

    def forward(self, image, noise=None):
        raise AssertionError("only its decoder draws")

    def latent_shape(self, image):
        return (self.config.latent_dim, image.shape[-2] // 2, image.shape[-1] // 2)

    def decode(self, z):
        return z[:, :2].repeat_interleave(2, -1).repeat_interleave(2, -2) * self.weight


class Oracle(nn.Module):
    """Knows what to draw of each class, and of none, and so what noise is in an image."""

    def __init__(self, channels=2, num_classes=3, null_label=True, learned_sigma=False):
        super().__init__()
        self.config = SimpleNamespace(num_classes=num_classes, null_label=null_label, in_channels=channels)
        self.pictures = nn.Parameter(torch.rand(num_classes + 1, channels, 4, 4) - 0.5)
        self.schedule, self.learned_sigma, self.batches = (
            DiffusionConfig(schedule="cosine").made().schedule,
            learned_sigma,
            [],
        )

    def forward(self, image, timestep, label=None):
        self.batches.append(len(image))
        assert (label is None) == (self.config.num_classes == 0)
        alpha, sigma = (level.view(-1, 1, 1, 1) for level in self.schedule.level(timestep))
        asked = self.pictures[-1:] if label is None else self.pictures[label]
        noise = (image - alpha * asked) / sigma
        return torch.cat([noise, torch.full_like(noise, 7.0)], 1) if self.learned_sigma else noise

    def example_inputs(self, batch_size=2):
        image = torch.randn(batch_size, self.config.in_channels, 4, 4)
        return {"image": image, "timestep": torch.zeros(batch_size, dtype=torch.long)}


def oracle(labels=(), schedule="cosine", **options):
    return known(Oracle(**options), labels, diffusion={"schedule": schedule})


def latents():
    """A network of latents."""
    return known(Oracle(), diffusion={"schedule": "cosine"}, image_size=None)


def vae(scale=0.5, shift=0.25, **options):
    return known(Autoencoder(**options), latent_scale=scale, latent_shift=shift, image_size=8)


MODELS = {
    "gan": lambda: known(Generator()),
    "conditional gan": lambda: known(Generator(3)),
    "vae": lambda: known(Autoencoder()),
    "diffusion": lambda: oracle(num_classes=0),
    "conditional diffusion": oracle,
}
each_model = pytest.mark.parametrize("name", MODELS)


@each_model
@pytest.mark.parametrize("sampler", [None, "ddpm"])
def test_a_seed_draws_the_same_images_whatever_their_number_and_the_batch(name, sampler, monkeypatch):
    if sampler and "diffusion" not in name:
        return
    model, options = MODELS[name](), {"sampler": sampler, "steps": 4} if sampler else {}
    first = sample(model, 7, seed=3, **options)
    assert first.shape[:2] == (7, 2)
    assert torch.equal(first, sample(model, 7, seed=3, **options))
    assert torch.equal(first[:2], sample(model, 2, seed=3, **options))
    monkeypatch.setattr(sys.modules[classes_of.__module__], "AT_ONCE", 2)
    torch.testing.assert_close(first, sample(model, 7, seed=3, **options))
    if "diffusion" not in name:  # the oracle draws but one image of each class
        assert not torch.equal(first, sample(model, 7, seed=4))
    if hasattr(model, "batches"):
        assert model.batches[-1] == 1


@each_model
def test_images_lie_in_0_to_1_in_the_units_of_the_weights_and_the_mode_stays(name):
    model = MODELS[name]()
    images = sample(model, 50)
    assert 0 <= images.min() < images.max() <= 1
    facts = {"mean": [0.0, 0.0], "std": [1.0, 1.0], "image_size": 4, "value_range": [-1.0, 1.0]}
    diffusion = model.provenance.preprocessing.get("diffusion", {})
    other = sample(known(model, **facts, diffusion=diffusion), 50)
    torch.testing.assert_close(images, other)
    assert model.training
    sample(model.eval(), 1)
    assert not model.training


@each_model
def test_a_model_in_half_precision_draws_nearly_the_same(name):
    model = MODELS[name]()
    whole = sample(model, 3)
    half = sample(model.bfloat16(), 3)
    assert half.dtype == torch.float32
    assert (half - whole).abs().max() < 0.02


def test_a_vae_s_latents_are_standard_normal():
    draws = sample(known(Autoencoder(), mean=[0.0, 0.0], std=[0.1, 0.1], value_range=[-1.0, 1.0]), 400)
    z = (2 * draws[:, :, ::2, ::2] - 1) / 0.1
    assert z.mean().abs() < 0.05
    assert z.std().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("learned_sigma", [False, True])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_what_the_network_knows(sampler, learned_sigma):
    model = oracle(learned_sigma=learned_sigma)
    images = sample(model, 5, sampler=sampler, steps=8)
    expected = (model.pictures[[0, 1, 2, 0, 1]] + 1) / 2
    torch.testing.assert_close(images, expected.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("label", "drawn"),
    [(None, [0, 1, 2, 3, 0]), ("dog", [1] * 5), (2, [2] * 5), ("3", [3] * 5), (["dog", 0], [1, 0, 1, 0, 1])],
)
def test_classes_are_asked_for_by_name_or_number_and_take_turns(label, drawn):
    model = oracle(NAMES, num_classes=4)
    assert classes_of(model, 5, label) == drawn
    torch.testing.assert_close(sample(model, 5, label=label, steps=3), (model.pictures[drawn].detach() + 1) / 2)
    gan = known(Generator(4), NAMES)
    found = sample(gan, 5, label=label) - sample(known(Generator()), 5)
    torch.testing.assert_close(found[:, 0, 0, 0], torch.tensor(drawn) / 20)


def test_a_class_s_name_goes_before_a_number_that_looks_alike():
    assert classes_of(oracle(("2", "1", "0"), num_classes=3), 1, "2") == [0]


def test_a_class_has_any_of_the_names_with_commas_between_after_those_that_are_whole():
    names = ("tench, Tinca tinca", "crane, machine", "Tinca tinca", "crane, bird")
    model = oracle(names, num_classes=4)
    assert classes_of(model, 4, ["tench", "Tinca tinca", names[0], "bird"]) == [0, 2, 0, 3]
    with pytest.raises(ValueError, match="'crane' is the name of the classes 1, 3; give the number"):
        classes_of(model, 1, "crane")


def test_where_names_are_numbers_only_names_are_classes():
    model = oracle(("3", "4", "5"))
    assert classes_of(model, 4) == [0, 1, 2, 0]
    assert classes_of(model, 2, ["4", 5]) == [1, 2]
    for label in ("0", 0, "1", "9"):
        with pytest.raises(ValueError, match=rf"label {label!r} is no class .* named 3, 4, 5; give one of these names"):
            classes_of(model, 1, label)


def test_classes_without_a_name_are_called_by_their_number():
    assert names_of(oracle()) == ["0", "1", "2"]
    assert names_of(oracle(("cat", "dog"))) == ["cat", "dog", "2"]
    assert classes_of(oracle(("cat", "dog")), 2, ["2", "dog"]) == [2, 1]


def test_guidance_leads_away_from_what_is_drawn_without_a_class():
    model = oracle()
    asked, nothing = model.pictures[1].detach(), model.pictures[3].detach()
    (found,) = sample(model, 1, label=1, guidance=1.5, steps=3)
    torch.testing.assert_close(found, (nothing + 1.5 * (asked - nothing)).clamp(-1, 1) / 2 + 0.5, rtol=0, atol=1e-5)
    assert torch.equal(sample(model, 2, guidance=1.0), sample(model, 2))


def test_latents_become_images_by_their_first_stage():
    model = latents()
    images = sample(model, 3, vae=vae())
    expected = vae().decode(model.pictures[:3] / 0.5 + 0.25).detach().clamp(-1, 1) / 2 + 0.5
    torch.testing.assert_close(images, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", [oracle, latents])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_what_is_drawn_is_as_large_as_the_weights_say(kind, sampler):
    model, stage = kind(), {} if kind is oracle else {"vae": vae(scale=1.0, shift=0.0)}
    facts = model.provenance.preprocessing
    facts["diffusion"]["clip"] = 0.25
    images = sample(model, 3, sampler=sampler, steps=4, **stage)
    expected = (model.pictures[:3].detach().clamp(-0.25, 0.25) + 1) / 2
    torch.testing.assert_close(images[..., :: images.shape[-1] // 4, :: images.shape[-1] // 4], expected)


def test_latents_are_not_bounded_as_images_are():
    model = latents()
    with torch.no_grad():
        model.pictures.mul_(8)
    images = sample(model, 3, vae=vae(scale=10.0, shift=0.0))
    torch.testing.assert_close(images[..., ::2, ::2], (model.pictures[:3].detach() / 10 + 1) / 2, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", [Generator, Autoencoder])
def test_a_one_step_model_of_random_weights_draws_as_they_are(make, monkeypatch):
    monkeypatch.setattr(Autoencoder, "example_inputs", lambda *_: {"image": torch.rand(1, 2, 4, 4)}, raising=False)
    images = sample(known(make(), mean=None), 40)
    assert images.shape == (40, 2, 4, 4)
    assert 0 <= images.min() < images.max() <= 1


def test_loaded_weights_that_do_not_say_what_images_they_make_are_refused():
    model = known(Autoencoder(), mean=None)
    vars(model)["load_report"] = object()
    with pytest.raises(ConfigError, match="Autoencoder says nothing of its inputs"):
        sample(model, 1)


@each_model
def test_weights_that_are_not_finite_draw_nothing(name):
    model = MODELS[name]()
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    with pytest.raises(ValueError, match=r"images that \w+ draws are not finite, .* lower optimizer\.lr"):
        sample(model, 2)


REFUSED = {
    "count": (lambda: sample(oracle(), 0), "count 0 is below 1"),
    "no generator": (
        lambda: sample(zoo.create("resnet20.digits"), 1),
        r"ResNet draws no images: its forward takes image, and neither z .* such as unet.digits, .* and every `vae`",
    ),
    "an autoencoder without a distribution": (lambda: sample(zoo.create("autoencoder"), 1), "it has no latents that"),
    "one that fills in what is hidden": (
        lambda: sample(zoo.create("mae", device="meta"), 1), "MAE draws no images: its forward takes image, noise, and"
    ),
    "steps of a GAN": (lambda: sample(known(Generator()), 1, steps=5), "steps 5: Generator makes images of noise at"),
    "a sampler of a VAE": (lambda: sample(known(Autoencoder()), 1, sampler="ddim"), "sampler ddim: Autoencoder makes"),
    "guidance of a GAN": (lambda: sample(known(Generator(3)), 1, guidance=2.0), "guidance 2.0: Generator makes"),
    "a first stage of a GAN": (lambda: sample(known(Generator()), 1, vae=vae()), "vae Autoencoder: Generator makes"),
    "a class of none": (lambda: sample(known(Generator()), 1, label=3), "label 3: Generator is not told what to draw"),
    "a class of a VAE": (lambda: sample(known(Autoencoder()), 1, label="cat"), "label cat: Autoencoder is not told"),
    "a class that is not there": (lambda: sample(oracle(), 1, label=3), r"label 3 is .*l; give a number from 0 to 2$"),
    "a negative class": (lambda: sample(oracle(), 1, label="-1"), "label '-1' is no class .* from 0 to 2"),
    "a number too large": (
        lambda: sample(oracle([*"0123456789"], num_classes=10), 1, label="10"), "'10' is no .* from 0 to 9$"
    ),
    "a number beyond the names": (
        lambda: sample(oracle(NAMES, num_classes=4), 1, label="4"), "'4' is no .* give a name or a number from 0 to 3$"
    ),
    "a name misspelt": (
        lambda: sample(oracle(NAMES, num_classes=4), 1, label="dogg"), "label 'dogg' is no class .* did you mean dog"
    ),
    "a name of two": (
        lambda: sample(oracle(NAMES, num_classes=4), 1, label="crane"), "is the name of the classes 2, 3; give the num"
    ),
    "no class at all": (lambda: sample(oracle(), 1, label=[]), "label is empty"),
    "an unknown sampler": (lambda: sample(oracle(), 1, sampler="euler"), "sampler 'euler' is unknown; choose one of"),
    "too many steps": (lambda: sample(oracle(), 1, steps=1001), "steps 1001 is not in 1 to 1000"),
    "guidance without classes": (lambda: sample(oracle(num_classes=0), 1, guidance=2.0), "guidance 2 .* told no class"),
    "guidance without a label for none": (
        lambda: sample(oracle(null_label=False), 1, guidance=2.0), "has no label that says nothing"
    ),
    "guidance that is none": (lambda: sample(oracle(), 1, guidance=math.nan), "guidance nan is no number"),
    "latents alone": (
        lambda: sample(latents(), 1),
        "Oracle draws latents of 2 x 4 x 4, which are no images; give as vae .* such as sd_vae.ft_mse",
    ),
    "a first stage of images": (lambda: sample(oracle(), 1, vae=vae()), "Oracle draws images, and not latents"),
    "a first stage of another": (
        lambda: sample(latents(), 1, vae=vae(channels=4)),
        "vae Autoencoder has latents of 4 channels, but Oracle draws 2 x 4 x 4",
    ),
    "a first stage as a VAE": (lambda: sample(vae(), 1), "is the first stage of a diffusion network .* times 0.5"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_drawn_is_told(case):
    ask, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        ask()


def test_weights_that_do_not_say_what_sampling_must_know_are_refused():
    with pytest.raises(
        ConfigError, match=r"UNet does not say what noise .* such as unet\.digits; .* zoo\.weights\.remember"
    ):
        sample(zoo.create("unet", image_size=8, channels=(8, 8), norm_groups=2), 1)
    with pytest.raises(ConfigError, match=r"Oracle: preprocessing\.diffusion: .*schedule"):
        sample(known(Oracle(), diffusion={"schedule": "triangular"}), 1)
    with pytest.raises(ConfigError, match="vae Autoencoder does not say by what its latents are multiplied"):
        sample(latents(), 1, vae=known(Autoencoder()))


def test_who_watches_sees_noise_become_images():
    seen = []
    images = sample(oracle(), 3, steps=6, watch=lambda done, total, now: seen.append((done, total, now())))
    assert [step[:2] for step in seen] == [(done, 6) for done in range(7)]
    far = [(step[2] - images).abs().mean() for step in seen]
    assert far[0] > 0.2
    assert far[-1] == 0
    assert far == sorted(far, reverse=True)


def test_a_picture_has_as_many_columns_as_asked_for():
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 1, 48, 48) / 5
    assert picture(images).size == (3 * 50 + 2, 2 * 50 + 2)
    wide = picture(images, columns=2)
    assert wide.size == (2 * 50 + 2, 3 * 50 + 2)
    assert [wide.getpixel((20 + 50 * column, 20 + 50 * row)) for row in range(3) for column in range(2)] == [
        round(255 * place / 5) for place in range(6)
    ]


def test_a_gif_shows_each_frame_and_holds_the_last(tmp_path):
    frames = [picture(torch.full((1, 3, 48, 48), level)) for level in (0.0, 0.5, 1.0)]
    (tmp_path / "a.gif").write_bytes(animation(frames))
    with Image.open(tmp_path / "a.gif") as gif:
        assert (gif.n_frames, gif.info["loop"]) == (3, 0)
        shown = []
        for frame in range(3):
            gif.seek(frame)
            shown.append((gif.info["duration"], gif.convert("L").getpixel((20, 20))))
    assert shown == [(80, 0), (80, 128), (2000, 255)]
