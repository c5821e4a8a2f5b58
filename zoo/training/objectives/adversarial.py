"""Adversarial training: a generator learns to draw what a discriminator cannot tell from the data.

Source: Goodfellow et al. (2014), https://arxiv.org/abs/1406.2661, with the non-saturating loss of its section 3. With
logits D(x) and softplus(t) = log(1 + exp(t)), which is -log(1 - sigmoid(t)) and, of -t, -log sigmoid(t):

    the discriminator minimises  E softplus(-D(x)) + E softplus(D(G(z)))
    the generator minimises      E softplus(-D(G(z)))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from zoo.config import ConfigError
from zoo.training.data import Spec
from zoo.training.judging import JudgeConfig, Jury, Totals, check_range
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(JudgeConfig):
    """Options of the objective."""

    real_target: float = 1.0
    """The probability that the discriminator shall give real images; 0.9 is one-sided label smoothing (Salimans et
    al., 2016, section 3.4)."""
    generator_every: int = 1
    """The generator learns at the steps that this divides; the discriminator at all."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        super().__post_init__()
        if not 0 < self.real_target <= 1:
            raise ValueError(f"real_target {self.real_target} is not in (0, 1]")
        if self.generator_every < 1:
            raise ValueError(f"generator_every {self.generator_every} is below 1")


class Adversarial(Objective):
    """Two networks, two updates in each step, on noise of their own.

    A batch has `image`, (batch, channels, height, width) in [-1, 1]. The model has the submodules `generator`, which
    turns `z` into such images, and `discriminator`, which turns images into logits, (batch,).

    With a judge, evaluation gives `frechet_distance` between generated and real images, `classes`, how many classes
    the generated ones show, and `confident`, the share in which the judge recognises something; with a yardstick
    also `frechet_mixture` and `frechet_ratio`, the generator's distance divided by the mixture's.
    """

    name = "adversarial"
    config = AdversarialConfig
    headline = "frechet_distance"
    reads = ("image",)
    supplies = ("z",)

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`; the judge is loaded now, so that a run does not fail at its end.

        Raises:
            ConfigError: images are normalised to another range than [-1, 1], or the judge cannot look at them.
        """
        super().__init__(options, spec)
        check_range(self.name, spec)
        self.latent_shape: tuple[int, ...] = ()
        self.jury = Jury(options, spec)

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """The generator and the discriminator."""
        parts: Any = model
        if not hasattr(model, "generator") or not hasattr(model, "discriminator"):
            raise ConfigError(
                f"objective adversarial trains a generator and a discriminator, which {type(model).__name__} has not; "
                "set model.name=gan"
            )
        self.latent_shape = tuple(parts.example_inputs(1)["z"].shape[1:])
        return {"generator": parts.generator, "discriminator": parts.discriminator}

    def phases(self) -> tuple[Phase, ...]:
        """First the discriminator, then the generator."""
        return (
            Phase("discriminator", ("discriminator",)),
            Phase("generator", ("generator",), every=self.options.generator_every),
        )

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """What the phase's network minimises; real and generated images are normalised apart, as batches."""
        z, count = ctx.rows.normal("z", self.latent_shape), rows(batch)
        if phase.name == "generator":
            logits = nets["discriminator"](image=nets["generator"](z=z)).float()
            return Loss({"generator": (softplus(-logits).sum(), count, 1.0)})
        with torch.no_grad():
            generated = nets["generator"](z=z)
        real, fake = (nets["discriminator"](image=image).float() for image in (batch["image"], generated))
        target = self.options.real_target if ctx.training else 1.0
        on_real = target * softplus(-real) + (1 - target) * softplus(real)
        hits = {"real_recognised": (real > 0).sum(), "generated_recognised": (fake < 0).sum()}
        return Loss(
            {
                "discriminator_real": (on_real.sum(), count, 1.0),
                "discriminator_generated": (softplus(fake).sum(), count, 1.0),
            },
            {name: (hit, count) for name, hit in hits.items()},
        )

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> Totals:
        """The losses, and for the judge the moments of both sides and the classes of what is generated."""
        totals: Totals = {}
        for phase in self.phases():
            terms = self.loss(phase, nets, batch, ctx).terms.values()
            totals[f"{phase.name}_loss"] = (torch.stack([total for total, _, _ in terms]).sum(), rows(batch))
        if self.jury.judge is not None:
            z = ctx.rows.normal("samples", (self.options.samples_per_image, *self.latent_shape)).flatten(0, 1)
            totals |= self.jury.totals(batch["image"], nets["generator"](z=z), samples=ctx.rows.samples)
        return totals

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean losses, and what the judge says of the whole split."""
        losses = {name: float(total / count) for name, (total, count) in totals.items() if name.endswith("_loss")}
        return losses | self.jury.metrics(totals)


OBJECTIVE = Adversarial
