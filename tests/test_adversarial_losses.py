"""What the two networks minimise: losses and penalties, each beside its paper's formula."""

import copy

import pytest
import torch
from duel import Pair, game, images, losses, player
from laws import build
from torch import nn
from torch.nn import functional as F

from zoo.architectures.gan import ARCHITECTURE
from zoo.config import ConfigError
from zoo.training.objectives.adversarial import AdversarialConfig
from zoo.training.random import Rows


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


def test_a_penalty_of_a_compiled_critic_is_refused():
    with pytest.raises(ConfigError, match=r"differentiate a gradient.*set trainer\.compile=false"):
        player(objective=game(r1=1.0), compile=True).fit()


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


def test_the_discriminator_s_loss_asks_nothing_of_the_generator():
    model = Pair()
    terms, _ = losses(game(), model, images().tensors["image"])
    (terms["discriminator_real"] + terms["discriminator_generated"]).backward()
    assert model.generator.layer.weight.grad is None
    assert model.discriminator.layers[1].weight.grad is not None


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
