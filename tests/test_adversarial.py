"""The game of a generator and a discriminator: who learns what from whom, and how the outcome is judged."""

from pathlib import Path

import pytest
import torch
from laws import perturbed
from torch import nn
from torch.nn import functional as F

import zoo
from zoo.config import ConfigError
from zoo.registry import ARCHITECTURES
from zoo.training.data import Spec, Splits
from zoo.training.data.arrays import Arrays
from zoo.training.objectives import Context
from zoo.training.objectives.adversarial import Adversarial, AdversarialConfig
from zoo.training.random import Rows
from zoo.weights import remember

SPEC = Spec(keys=("image",), in_channels=1, image_size=4, mean=(0.5,), std=(0.5,), value_range=(0.0, 1.0))
ROOT = Path(__file__).parents[1]


class Draw(nn.Module):
    """A generator without batch statistics."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 16)

    def forward(self, z):
        return self.layer(z).tanh().unflatten(1, (1, 4, 4))


class Tell(nn.Module):
    """A discriminator without batch statistics."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))

    def forward(self, image):
        return self.layers(image)


class Pair(nn.Module):
    """Both of them."""

    def __init__(self):
        super().__init__()
        self.generator, self.discriminator = Draw(), Tell()

    def forward(self, z):
        return self.generator(z=z)

    def example_inputs(self, batch_size=2):
        return {"z": torch.randn(batch_size, 3)}


def images(count=48, seed=0):
    random = torch.Generator().manual_seed(seed)
    return Arrays({"image": torch.rand(count, 1, 4, 4, generator=random) * 2 - 1})


def game(spec=SPEC, **options):
    return Adversarial(AdversarialConfig(**options), spec)


def player(model=None, objective=None, data=None, batch_size=8, schedule="cosine", **config):
    """A trainer of the pair; further keywords are trainer options."""
    torch.manual_seed(0)
    sections = {
        "data": {"batch_size": batch_size},
        "schedule": schedule,
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"steps": 6, "device": "cpu", **config},
    }
    data = Splits(spec=SPEC, train=data or images(), test=data or images(31, seed=1))
    model, objective = model or Pair(), objective or game()
    return zoo.Trainer(zoo.RunConfig.of(sections), model, data, objective, quiet=True)


def difference(first, second):
    """The largest difference between two networks' parameters."""
    return max(
        (a - b).detach().abs().max().item() for a, b in zip(first.parameters(), second.parameters(), strict=True)
    )


def losses(objective, model, image, training=True):
    """Each phase's terms as means, and the images that the generator drew."""
    networks = objective.networks(model)
    ctx = Context(0, Rows(0, "", [(0, row) for row in range(len(image))], torch.device("cpu")), training)
    terms = {}
    for phase in objective.phases():
        terms |= objective.loss(phase, networks, {"image": image}, ctx).terms
    drawn = model.generator(z=ctx.rows.normal("z", (3,)))
    return {name: total / count * weight for name, (total, count, weight) in terms.items()}, drawn


def cross_entropy(logits, target):
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


@pytest.mark.parametrize("real_target", [1.0, 0.9])
def test_the_losses_are_cross_entropies(real_target):
    model, image = Pair(), images().tensors["image"]
    terms, drawn = losses(game(real_target=real_target), model, image)
    real, fake = model.discriminator(image), model.discriminator(drawn)
    torch.testing.assert_close(terms["discriminator_real"], cross_entropy(real, real_target))
    torch.testing.assert_close(terms["discriminator_generated"], cross_entropy(fake, 0.0))
    torch.testing.assert_close(terms["generator"], cross_entropy(fake, 1.0))


def test_label_smoothing_is_for_training_only():
    model, image = Pair(), images().tensors["image"]
    smooth, plain = (losses(game(real_target=t), model, image, training=False)[0] for t in (0.9, 1.0))
    assert smooth == plain


def test_a_generator_that_is_found_out_for_certain_still_learns():
    model = Pair()
    with torch.no_grad():
        model.discriminator.layers[3].bias.fill_(-200.0)
    terms, _ = losses(game(), model, images().tensors["image"])
    terms["generator"].backward()
    assert terms["generator"].isfinite()
    assert model.generator.layer.weight.grad.abs().max() > 1e-4


def test_only_the_phase_s_own_network_is_moved():
    class Half(Adversarial):
        """One of the two phases."""

        def phases(self):
            return tuple(phase for phase in super().phases() if phase.name == kept)

    for kept, other in (("discriminator", "generator"), ("generator", "discriminator")):
        torch.manual_seed(0)
        before = Pair()
        after = player(objective=Half(AdversarialConfig(), SPEC)).fit().model
        assert difference(getattr(before, kept), getattr(after, kept)) > 0
        assert difference(getattr(before, other), getattr(after, other)) == 0


def test_the_discriminator_s_loss_asks_nothing_of_the_generator():
    model = Pair()
    terms, _ = losses(game(), model, images().tensors["image"])
    (terms["discriminator_real"] + terms["discriminator_generated"]).backward()
    assert model.generator.layer.weight.grad is None
    assert model.discriminator.layers[1].weight.grad is not None


def test_the_generator_may_learn_less_often():
    models = [player(None, game(generator_every=3), schedule="constant", steps=n).fit().model for n in (1, 3, 4)]
    first, third, fourth = (model.generator for model in models)
    assert difference(first, third) == 0
    assert difference(third, fourth) > 0
    assert difference(models[0].discriminator, models[1].discriminator) > 0


def test_how_a_batch_is_cut_up_changes_nothing():
    whole = player(batch_size=16).fit().model
    parts = player(batch_size=4, accumulate=4).fit().model
    assert difference(whole, parts) < 1e-6


def test_noise_belongs_to_samples_and_differs_between_phases_and_steps():
    seen = []

    class Listening(Draw):
        def forward(self, z):
            seen.append(z.detach().clone())
            return super().forward(z)

    model = Pair()
    model.generator = Listening()
    player(model, batch_size=8, steps=2).fit()
    first, second = seen[:2], seen[2:4]
    assert all(not torch.equal(*pair) for pair in (first, second, (first[0], second[0])))
    assert torch.cat(seen[:4]).unique(dim=0).shape == (32, 3)


def test_images_in_another_range_are_refused_with_the_remedy():
    standard = Spec(keys=("image",), in_channels=1, image_size=4, mean=(0.3,), std=(0.4,), value_range=(0.0, 1.0))
    with pytest.raises(ConfigError, match=r"from -0\.75 to 1\.75.*set data\.normalize=range"):
        game(standard)


def test_a_model_without_two_networks_is_refused():
    with pytest.raises(ConfigError, match=r"Linear has not; set model\.name=gan"):
        game().networks(nn.Linear(2, 2))


@pytest.mark.parametrize("options", [{"real_target": 0.0}, {"generator_every": 0}, {"samples_per_image": 0}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        AdversarialConfig(**options)


def test_without_a_judge_only_the_losses_are_evaluated():
    assert set(player().evaluate()) == {"discriminator_loss", "generator_loss"}


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """A classifier of images with one channel, in a folder."""
    folder = tmp_path_factory.mktemp("judge")
    model = perturbed(ARCHITECTURES.find("resnet"), zoo.config("resnet20", depths=(1, 1), width=4, in_channels=1))
    remember(model, preprocessing={"mean": (0.2,), "std": (0.4,), "image_size": 4})
    return f"local-dir:{zoo.save(model, folder)}"


def test_a_generator_of_the_real_images_has_no_distance(judge):
    data = images(40)

    class Perfect(nn.Module):
        def forward(self, z):
            return data.tensors["image"].repeat(len(z) // 40, 1, 1, 1) + 0 * z.sum()

    model = Pair()
    objective = game(features=judge, samples_per_image=25)
    far = player(model, objective, data, batch_size=40).evaluate()
    model.generator = Perfect()
    near = player(model, objective, data, batch_size=40).evaluate()
    assert near["frechet_distance"] < far["frechet_distance"] / 100


def test_the_judge_is_shown_all_images_in_the_range_that_it_knows(judge):
    objective, shown = game(features=judge, samples_per_image=2, yardstick="digits"), [[], []]
    look = objective.jury.judge

    def watch(image):
        shown[len(image) == 31].append(image)
        return look(image)

    objective.jury.judge = watch
    player(objective=objective, batch_size=31).evaluate()
    (real,), generated = shown[True], shown[False][0]
    assert torch.allclose(real, images(31, seed=1).tensors["image"] / 2 + 0.5)
    assert 0 <= generated.min() < 0.4 < 0.6 < generated.max() <= 1
    assert objective.jury.images.shape == (1437, 1, 8, 8)
    assert (objective.jury.images.min(), objective.jury.images.max()) == (0, 1)


def test_how_evaluation_is_cut_into_batches_changes_nothing(judge):
    objective = game(features=judge, samples_per_image=3)
    whole, parts = (player(objective=objective, eval_batch_size=rows).evaluate() for rows in (31, 4))
    assert whole == pytest.approx(parts, rel=1e-5)


def test_a_class_is_there_when_it_has_a_tenth_of_its_share(judge):
    objective = game(features=judge)
    moments = torch.eye(5).double() * 50
    counts = torch.tensor([400, 10, 9, 0, 500, 0, 0, 0, 0, 0])
    metrics = objective.summarize(
        {name: (moments, torch.tensor(1000)) for name in ("real", "generated")}
        | {"recognised": (counts, torch.tensor(1000))}
    )
    assert metrics["classes"] == 3
    assert metrics["confident"] == pytest.approx(0.919)


def test_the_judge_must_look_at_as_many_channels_as_the_data_have(judge):
    coloured = Spec(keys=("image",), in_channels=3, mean=(0.5,) * 3, std=(0.5,) * 3, value_range=(0.0, 1.0))
    with pytest.raises(ConfigError, match="images with 1 channels, the data have 3"):
        game(coloured, features=judge)


@pytest.mark.parametrize("name", ["diabetes", "nothing"])
def test_a_yardstick_without_images_is_refused(judge, name):
    with pytest.raises((ConfigError, KeyError), match=name):
        game(features=judge, yardstick=name)


def test_the_yardstick_stands_beside_the_generator(judge):
    metrics = player(objective=game(features=judge, yardstick="digits")).evaluate()
    assert metrics["frechet_ratio"] == metrics["frechet_distance"] / metrics["frechet_mixture"]
    again = player(Pair(), game(features=judge, yardstick="digits")).evaluate()
    assert metrics["frechet_mixture"] == again["frechet_mixture"]


@pytest.mark.slow
def test_digits_are_drawn_in_every_class_and_nearly_as_well_as_by_the_mixture():
    config = zoo.RunConfig.read(ROOT / "configs/gan/gan-digits.yaml")
    metrics = zoo.Trainer(config, quiet=True).fit().metrics
    assert metrics["classes"] == 10
    assert metrics["frechet_ratio"] < 3.3
