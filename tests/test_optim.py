"""Optimizer groups, decay, layer-wise rates, freezing."""

import pytest
import torch
from torch import nn

from zoo.config import ConfigError
from zoo.training.optim import build_optimizers, frozen_names
from zoo.training.run import Group, OptimizerConfig


class Tower(nn.Module):
    """The names that layer-wise rates go by."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(3))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)


class Towers(nn.Module):
    """Two of them, of which one has more blocks, and a number that belongs to neither."""

    towers = ("first", "second")

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.first, self.second = Tower(), Tower()
        self.second.blocks.append(nn.Linear(4, 4))


def groups_of(config, model=None, spared=()):
    """parameter name -> (algorithm, options of its group)."""
    found = {}
    model = model or Tower()
    towers = getattr(model, "towers", ())
    for named in build_optimizers(config, "model", dict(model.named_parameters()), spared, towers):
        names = {parameter: name for name, parameter in named.parameters.items()}
        for group in named.optimizer.param_groups:
            found |= {names[parameter]: (named.name, group) for parameter in group["params"]}
    return found


def test_every_parameter_has_exactly_one_optimizer():
    groups = (Group(match="head.*", name="sgd"), Group(match="*"))
    assert set(groups_of(OptimizerConfig(groups=groups))) == {name for name, _ in Tower().named_parameters()}


def test_the_first_group_that_matches_wins_and_the_rest_takes_the_top_level_values():
    config = OptimizerConfig(
        lr=0.1, groups=(Group(match="head.weight", lr=0.3), Group(match=("head.*", "norm.*"), lr=0.2))
    )
    rates = {name: group["base_lr"] for name, (_, group) in groups_of(config).items()}
    assert rates["head.weight"] == 0.3
    assert rates["head.bias"] == rates["norm.weight"] == 0.2
    assert rates["embed.weight"] == 0.1


def test_vectors_and_named_parameters_have_no_weight_decay():
    decays = {
        n: g["weight_decay"]
        for n, (_, g) in groups_of(OptimizerConfig(weight_decay=0.5), spared=["embed.weight"]).items()
    }
    assert decays["blocks.0.weight"] == decays["head.weight"] == 0.5
    assert decays["blocks.0.bias"] == decays["norm.weight"] == decays["embed.weight"] == 0.0


def test_layers_further_from_the_head_learn_more_slowly():
    rates = {n: g["base_lr"] for n, (_, g) in groups_of(OptimizerConfig(lr=1.0, layer_decay=0.5)).items()}
    expected = {
        "head.weight": 1.0,
        "norm.weight": 0.5,
        "blocks.2.weight": 0.5,
        "blocks.0.weight": 0.125,
        "embed.weight": 0.0625,
    }
    assert {name: rates[name] for name in expected} == expected


def test_towers_that_stand_side_by_side_end_at_the_same_depth():
    rates = {n: g["base_lr"] for n, (_, g) in groups_of(OptimizerConfig(lr=1.0, layer_decay=0.5), Towers()).items()}
    expected = {
        "scale": 1.0,
        "first.head.weight": 1.0,
        "second.head.weight": 1.0,
        "first.blocks.2.weight": 0.5,
        "second.blocks.3.weight": 0.5,
        "first.embed.weight": 0.0625,
        "second.embed.weight": 0.03125,
    }
    assert {name: rates[name] for name in expected} == expected


def test_muon_takes_matrices_and_leaves_the_rest_to_adamw():
    config = OptimizerConfig(name="muon", groups=(Group(match=("embed*", "head*", "norm*", "*.bias"), name="adamw"),))
    algorithms = {name: algorithm for name, (algorithm, _) in groups_of(config).items()}
    assert algorithms["blocks.0.weight"] == "muon"
    assert {algorithms[name] for name in ("embed.weight", "head.bias", "norm.weight", "blocks.1.bias")} == {"adamw"}


def test_muon_refuses_a_vector_and_says_which_group_to_add():
    with pytest.raises(ConfigError, match=r"muon takes matrices, but embed\.bias has shape \(4,\); add a group"):
        groups_of(OptimizerConfig(name="muon"))


def test_a_frozen_parameter_has_no_optimizer():
    model = Tower()
    model.embed.requires_grad_(False)
    assert not any(name.startswith("embed") for name in groups_of(OptimizerConfig(), model))


def test_backbone_is_all_but_the_head():
    names = [name for name, _ in Tower().named_parameters()]
    assert frozen_names("backbone", names) == [name for name in names if not name.startswith("head")]
    assert frozen_names(("embed", "blocks.1"), names) == [
        "embed.weight",
        "embed.bias",
        "blocks.1.weight",
        "blocks.1.bias",
    ]


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_an_optimizer_goes_on_from_its_saved_state_bit_for_bit(name):
    torch.manual_seed(0)
    gradients = [[torch.randn_like(p) for p in Tower().parameters()] for _ in range(4)]
    rest = (Group(match=("*norm*", "*.bias"), name="adamw"),) if name == "muon" else ()

    def steps(model, optimizers, which):
        for gradient in which:
            for parameter, value in zip(model.parameters(), gradient, strict=True):
                parameter.grad = value.clone()
            for named in optimizers:
                named.optimizer.step()

    def fresh():
        torch.manual_seed(1)
        model = Tower()
        return model, build_optimizers(OptimizerConfig(name=name, groups=rest), "model", dict(model.named_parameters()))

    whole, optimizers = fresh()
    steps(whole, optimizers, gradients)
    first, halves = fresh()
    steps(first, halves, gradients[:2])
    second, resumed = fresh()
    second.load_state_dict(first.state_dict())
    for before, after in zip(halves, resumed, strict=True):
        after.load_state({key: value.clone() for key, value in before.state().items()})
    steps(second, resumed, gradients[2:])
    for a, b in zip(whole.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
