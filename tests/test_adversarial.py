"""The game of a generator and a discriminator: who learns what from whom, and how the outcome is judged."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from laws import build, perturbed
from test_resume import Crash, crash_at
from torch import nn
from torch.nn import functional as F

import zoo
from zoo.architectures.gan import ARCHITECTURE, GANConfig
from zoo.config import ConfigError
from zoo.registry import ARCHITECTURES
from zoo.training.checkpoint import checkpoints, load_checkpoint
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


def losses(objective, model, image, training=True, step=0):
    """Each phase's terms as means, and the images that the generator drew."""
    networks = objective.networks(model)
    ctx = Context(step, Rows(0, "", [(0, row) for row in range(len(image))], torch.device("cpu")), training)
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


LOSSES = {
    "non_saturating": (
        lambda logit: -logit.sigmoid().log(), lambda logit: -(1 - logit.sigmoid()).log(),
        lambda logit: -logit.sigmoid().log(),
    ),
    "wasserstein": (lambda logit: -logit, lambda logit: logit, lambda logit: -logit),
    "hinge": (
        lambda logit: (1 - logit).clamp(min=0), lambda logit: (1 + logit).clamp(min=0), lambda logit: -logit,
    ),
}  # fmt: skip
"""What a real image costs the discriminator, what a generated one costs it, and what that costs the generator."""


def slopes_of(loss, module):
    module.zero_grad()
    loss.backward(retain_graph=True)
    return torch.cat([parameter.grad.flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_is_its_paper_s_in_value_and_gradient(name):
    model, image = Pair(), images().tensors["image"]
    with torch.no_grad():
        model.discriminator.layers[3].weight *= 5  # so that the hinge is on both of its sides
    terms, drawn = losses(game(loss=name), model, image)
    on_real, on_fake, on_drawn = LOSSES[name]
    real, fake = model.discriminator(image), model.discriminator(drawn)
    assert (real < -1).any() or (real > 1).any()
    found = {
        "discriminator": terms["discriminator_real"] + terms["discriminator_generated"],
        "generator": terms["generator"],
    }
    expected = {"discriminator": on_real(real).mean() + on_fake(fake).mean(), "generator": on_drawn(fake).mean()}
    for network, loss in expected.items():
        torch.testing.assert_close(found[network], loss)
        module = getattr(model, network)
        torch.testing.assert_close(slopes_of(found[network], module), slopes_of(loss, module))


def slope(critic, image):
    """By the chain rule on paper: the gradient of `Tell`, (batch, pixels)."""
    _, first, _, last, _ = critic.layers
    hidden = first(image.flatten(1)).tanh()
    return (last.weight * (1 - hidden.square())) @ first.weight


PENALTIES = {
    "gradient_penalty": lambda slopes: (slopes.square().sum(1).sqrt() - 1).square().mean(),
    "r1": lambda slopes: slopes.square().sum(1).mean() / 2,
}


@pytest.mark.parametrize("name", PENALTIES)
def test_each_penalty_is_its_paper_s_in_value_and_gradient(name):
    model, image = Pair(), images().tensors["image"]
    with torch.no_grad():
        model.discriminator.layers[3].weight *= 5
    terms, drawn = losses(game(**{name: 10.0}), model, image)
    exact = copy.deepcopy(model.discriminator).double()
    share = Rows(0, "", [(0, row) for row in range(len(image))], torch.device("cpu")).uniform("mix").double()
    share = share[:, None, None, None]
    where = image.double() if name == "r1" else share * image.double() + (1 - share) * drawn.detach().double()
    expected = 10 * PENALTIES[name](slope(exact, where))
    torch.testing.assert_close(terms[name].double(), expected, rtol=1e-5, atol=0)
    model.zero_grad()
    terms[name].backward()
    expected.backward()
    for mine, theirs in zip(model.discriminator.parameters(), exact.parameters(), strict=True):
        known = torch.zeros_like(theirs) if theirs.grad is None else theirs.grad  # the last bias has no slope
        found = (torch.zeros_like(mine) if mine.grad is None else mine.grad).double()
        torch.testing.assert_close(found, known, rtol=1e-5, atol=1e-6)
    assert model.generator.layer.weight.grad is None


class Plane(nn.Module):
    """A critic of one slope everywhere."""

    def __init__(self, steepness):
        super().__init__()
        self.weight = nn.Parameter(F.normalize(torch.randn(16), dim=0) * steepness)

    def forward(self, image):
        return image.flatten(1) @ self.weight


@pytest.mark.parametrize(("steepness", "penalty", "r1"), [(1.0, 0.0, 5.0), (3.0, 40.0, 45.0), (0.0, 10.0, 0.0)])
def test_a_plane_pays_for_its_slope(steepness, penalty, r1):
    model = Pair()
    model.discriminator = Plane(steepness)
    terms, _ = losses(game(gradient_penalty=10.0, r1=10.0), model, images().tensors["image"])
    assert terms["gradient_penalty"].item() == pytest.approx(penalty, abs=1e-5)
    assert terms["r1"].item() == pytest.approx(r1, abs=1e-5)
    sum(terms.values()).backward()
    assert model.discriminator.weight.grad.isfinite().all()


def test_the_slope_is_taken_on_lines_between_real_and_generated_images():
    model, image, seen = Pair(), images().tensors["image"], []
    model.discriminator.register_forward_pre_hook(
        lambda _, __, given: seen.append(given["image"].detach()), with_kwargs=True
    )
    _, drawn = losses(game(gradient_penalty=10.0), model, image)
    point = seen[2]
    share = ((point - drawn) / (image - drawn)).flatten(1).detach()
    assert torch.allclose(share, share[:, :1].expand(-1, 16), atol=1e-3)
    assert share.min() > -1e-3
    assert share.max() < 1 + 1e-3
    assert share[:, 0].std() == pytest.approx(12**-0.5, abs=0.05)


def test_penalties_are_paid_at_every_so_many_steps_and_weigh_as_many_times_as_much():
    model, image, lazy = Pair(), images().tensors["image"], game(gradient_penalty=10.0, r1=1.0, penalty_every=4)
    always, _ = losses(game(gradient_penalty=10.0, r1=1.0), model, image, step=8)
    paid = [losses(lazy, model, image, step=step)[0] for step in (8, 9, 10, 11)]
    for name in ("gradient_penalty", "r1"):
        assert [name in terms for terms in paid] == [True, False, False, False]
        torch.testing.assert_close(paid[0][name], 4 * always[name])
        assert name not in losses(lazy, model, image, training=False)[0], "evaluation has no gradients"


@pytest.mark.parametrize("name", PENALTIES)
def test_the_slope_is_computed_in_float32_under_autocast(name):
    model, image = Pair(), images().tensors["image"]
    exact = losses(game(**{name: 10.0}), model, image)[0][name]
    with torch.autocast("cpu", torch.bfloat16):
        rough = losses(game(**{name: 10.0}), model, image)[0]
    assert not torch.equal(rough["discriminator_real"], losses(game(), model, image)[0]["discriminator_real"])
    tolerance = 1e-6 if name == "r1" else 1e-2  # the generated ends of the lines are rounded
    assert rough[name].item() == pytest.approx(exact.item(), rel=tolerance)


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_is_refused_where_images_see_each_other(penalty):
    with pytest.raises(ConfigError, match=rf"objective.{penalty} is of each .* set model.discriminator_norm=layer"):
        game(**{penalty: 1.0}).networks(build(ARCHITECTURE))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_penalty_of_a_compiled_critic_is_refused(penalty):
    with pytest.raises(ConfigError, match=r"differentiate a gradient.*set trainer\.compile=false"):
        player(objective=game(**{penalty: 1.0}), compile=True).fit()


def test_a_game_with_gradient_checkpointing_is_the_same_to_the_bit():
    plain, saving = (spectral_player(gradient_checkpointing=on).fit().model for on in (False, True))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, saving.state_dict()[name]), name


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


RULES = {
    "non_saturating": {},
    "r1": {"r1": 2.0, "penalty_every": 2},
    "wgan_gp": {"loss": "wasserstein", "gradient_penalty": 10.0, "generator_every": 2},
    "hinge": {"loss": "hinge"},
}
each_rule = pytest.mark.parametrize("options", RULES.values(), ids=list(RULES))


@each_rule
def test_how_a_batch_is_cut_up_changes_nothing(options):
    whole = player(objective=game(**options), batch_size=16).fit().model
    parts = player(objective=game(**options), batch_size=4, accumulate=4).fit().model
    assert difference(whole, parts) < 1e-6


class Spectral(Pair):
    """A generator without batch statistics, and a discriminator whose layers are normalised and told classes."""

    config = GANConfig(
        image_size=8, in_channels=1, discriminator_width=4, depth=1, num_classes=3, discriminator_norm="none",
        spectral_norm=True,
    )  # fmt: skip

    def __init__(self):
        super().__init__()
        self.generator = Told()
        self.discriminator = build(ARCHITECTURE, self.config).discriminator

    def forward(self, z, label):
        return self.generator(z=z, label=label)


class Told(nn.Module):
    """A generator that is told the class."""

    def __init__(self):
        super().__init__()
        self.layer, self.label = nn.Linear(3, 64), nn.Embedding(3, 64)

    def forward(self, z, label):
        return (self.layer(z) + self.label(label)).tanh().unflatten(1, (1, 8, 8))


CLASSED = Spec(
    keys=("image", "target"), num_classes=3, in_channels=1, image_size=8, mean=(0.5,), std=(0.5,),
    value_range=(0.0, 1.0),
)  # fmt: skip


def classed(count=48, seed=0):
    random = torch.Generator().manual_seed(seed)
    image = torch.rand(count, 1, 8, 8, generator=random) * 2 - 1
    return Arrays({"image": image, "target": torch.randint(3, (count,), generator=random)})


def spectral_player(out=None, batch_size=8, **config):
    """A trainer of `Spectral`, with all that has a state."""
    torch.manual_seed(0)
    sections = {
        "data": {"batch_size": batch_size},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "trainer": {"steps": 7, "device": "cpu", "ema": 0.9, "checkpoint_every": 1, **config},
    }
    objective = Adversarial(AdversarialConfig(loss="hinge", r1=1.0, penalty_every=2), CLASSED)
    data = Splits(spec=CLASSED, train=classed(), test=classed(31, 1))
    return zoo.Trainer(zoo.RunConfig.of(sections), Spectral(), data, objective, out=out, quiet=True)


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import torch
from test_adversarial import RULES, game, player, spectral_player

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


@pytest.mark.parametrize(
    "options",
    [
        {"real_target": 0.0}, {"real_target": 0.9, "loss": "hinge"}, {"generator_every": 0}, {"samples_per_image": 0},
        {"gradient_penalty": -1.0}, {"gradient_penalty": float("inf")}, {"r1": -1.0}, {"r1": float("nan")},
        {"penalty_every": 0},
    ],
    ids=str,
)  # fmt: skip
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
