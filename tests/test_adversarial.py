"""The game of a generator and a discriminator: who learns what from whom, and how the outcome is judged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from duel import (
    CLASSED,
    RULES,
    SPEC,
    Draw,
    Pair,
    Spectral,
    classed,
    difference,
    game,
    images,
    player,
    spectral_player,
)
from laws import perturbed
from test_resume import Crash, crash_at
from torch import nn
from torch.nn import functional as F

import zoo
from zoo.config import ConfigError
from zoo.registry import ARCHITECTURES
from zoo.training.checkpoint import checkpoints, load_checkpoint
from zoo.training.data import Spec, Splits
from zoo.training.objectives.adversarial import Adversarial, AdversarialConfig
from zoo.weights import remember

ROOT = Path(__file__).parents[1]


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


def test_the_generator_may_learn_less_often():
    models = [player(None, game(generator_every=3), schedule="constant", steps=n).fit().model for n in (1, 3, 4)]
    first, third, fourth = (model.generator for model in models)
    assert difference(first, third) == 0
    assert difference(third, fourth) > 0
    assert difference(models[0].discriminator, models[1].discriminator) > 0


each_rule = pytest.mark.parametrize("options", RULES.values(), ids=list(RULES))


@each_rule
def test_how_a_batch_is_cut_up_changes_nothing(options):
    whole = player(objective=game(**options), batch_size=16).fit().model
    parts = player(objective=game(**options), batch_size=4, accumulate=4).fit().model
    assert difference(whole, parts) < 1e-6


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import torch
from duel import RULES, game, player, spectral_player

if __name__ == "__main__":
    models = {{name: player(objective=game(**options), batch_size=8).fit().model for name, options in RULES.items()}}
    models["spectral"] = spectral_player().fit().model
    torch.save({{name: model.state_dict() for name, model in models.items()}}, {out!r})
"""


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """What two gloo ranks have learnt."""
    out = tmp_path_factory.mktemp("ranks")
    program = out / "program.py"
    program.write_text(PROGRAM.format(tests=str(Path(__file__).parent), out=str(out / "models.pt")))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(program)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    return torch.load(out / "models.pt")


@pytest.mark.parametrize("name", [*RULES, "spectral"])
def test_two_ranks_learn_what_one_process_does(two_ranks, name):
    if name == "spectral":
        one = spectral_player(batch_size=16).fit().model
    else:
        one = player(objective=game(**RULES[name]), batch_size=16).fit().model
    for key, tensor in one.state_dict().items():
        torch.testing.assert_close(two_ranks[name][key], tensor, rtol=1e-4, atol=1e-6, msg=lambda text, k=key: k + text)


@pytest.mark.parametrize("step", [1, 4])
def test_a_resumed_game_with_spectral_norm_and_an_average_is_the_one_that_never_stopped(tmp_path, step):
    spectral_player(tmp_path / "whole").fit()
    with pytest.raises(Crash):
        crash_at(spectral_player(tmp_path / "cut"), step).fit()
    spectral_player(tmp_path / "cut").fit(resume=True)
    whole, cut = (load_checkpoint(checkpoints(tmp_path / run / "checkpoints")[0])[0] for run in ("whole", "cut"))
    assert set(whole) == set(cut)
    assert {name for name in whole if not torch.equal(whole[name], cut[name])} == set()
    assert {name.split("/")[0] for name in whole if name.endswith("conv.u")} == {"model", "ema"}


def test_a_game_with_gradient_checkpointing_is_the_same_to_the_bit():
    plain, saving = (spectral_player(gradient_checkpointing=on).fit().model for on in (False, True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, saving.state_dict()[name]), name


def test_both_networks_are_told_the_class_of_the_real_image():
    run, heard = spectral_player(steps=2), []
    for network in (run.model.generator, run.model.discriminator):
        network.register_forward_pre_hook(lambda _, __, given: heard.append(given["label"].clone()), with_kwargs=True)
    run.fit()
    assert len(heard) > 10
    step = heard[:4]
    assert all(torch.equal(label, step[0]) for label in step)
    assert set(torch.cat(heard).tolist()) == {0, 1, 2}


def test_a_model_with_classes_needs_data_with_classes():
    with pytest.raises(ConfigError, match=r"has num_classes 3, and the data no classes; set model\.num_classes=0"):
        game().networks(Spectral())


def test_digits_with_classes_may_be_drawn_without():
    options = ["model.num_classes=0", "trainer.steps=1", "objective.features=null", "trainer.device=cpu"]
    run = zoo.Trainer(zoo.RunConfig.read(ROOT / "configs/gan/gan-digits.yaml", options), quiet=True)
    assert run.model.config.num_classes == 0
    assert set(run.fit().metrics) == {"discriminator_loss", "generator_loss"}


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


def test_evaluation_asks_for_the_classes_of_the_real_images(judge):
    class Seven(nn.Module):
        """A judge for which the first pixel is the class."""

        record = None

        def forward(self, image):
            return image.flatten(1), F.one_hot((image[:, 0, 0, 0] * 2).round().long(), 3).float()

    class Obedient(nn.Module):
        """A generator that says in its first pixel what it was told."""

        def forward(self, z, label):
            return (label - 1.0)[:, None, None, None].expand(-1, 1, 8, 8) + 0 * z.sum()

    def measured(generator, data):
        objective = Adversarial(AdversarialConfig(features=judge, samples_per_image=3), CLASSED)
        objective.jury.judge = Seven()
        model = Spectral()
        model.generator = generator
        config = zoo.RunConfig.of({"trainer": {"steps": 1, "device": "cpu"}})
        return zoo.Trainer(config, model, Splits(spec=CLASSED, train=data, test=data), objective, quiet=True).evaluate()

    class Stubborn(Obedient):
        """One that draws the first class alone."""

        def forward(self, z, label):
            return super().forward(z, 0 * label)

    data = classed()
    assert measured(Obedient(), data)["as_asked"] == 1
    share = float((data.tensors["target"] == 0).float().mean())
    assert measured(Stubborn(), data)["as_asked"] == pytest.approx(share)


def test_the_yardstick_stands_beside_the_generator(judge):
    metrics = player(objective=game(features=judge, yardstick="digits")).evaluate()
    assert metrics["frechet_ratio"] == metrics["frechet_distance"] / metrics["frechet_mixture"]
    again = player(Pair(), game(features=judge, yardstick="digits")).evaluate()
    assert metrics["frechet_mixture"] == again["frechet_mixture"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gan", "gan_conditional"])
def test_digits_are_drawn_in_every_class_and_nearly_as_well_as_by_the_mixture(name):
    config = zoo.RunConfig.read(ROOT / f"configs/gan/{name}-digits.yaml")
    metrics = zoo.Trainer(config, quiet=True).fit().metrics
    assert metrics["classes"] == 10
    assert metrics["frechet_ratio"] < 1.6
    assert metrics.get("as_asked", 1) >= 0.97
