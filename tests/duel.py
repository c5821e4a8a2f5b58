"""Small generators and discriminators without batch statistics, and trainers that let them play."""

import torch
from laws import build
from torch import nn

import zoo
from zoo.architectures.gan import ARCHITECTURE, GANConfig
from zoo.training.data import Spec, Splits
from zoo.training.data.arrays import Arrays
from zoo.training.objectives import Context
from zoo.training.objectives.adversarial import Adversarial, AdversarialConfig
from zoo.training.random import Rows

SPEC = Spec(keys=("image",), in_channels=1, image_size=4, mean=(0.5,), std=(0.5,), value_range=(0.0, 1.0))
RULES = {
    "non_saturating": {},
    "r1": {"r1": 2.0, "penalty_every": 2},
    "wgan_gp": {"loss": "wasserstein", "gradient_penalty": 10.0, "generator_every": 2},
    "hinge": {"loss": "hinge"},
}
"""Options of the objective: what discriminators are taught by."""


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
