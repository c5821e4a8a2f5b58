"""Adversarial training: a generator learns to draw what a discriminator cannot tell from the data.

Source: Goodfellow et al. (2014), https://arxiv.org/abs/1406.2661. With logits D(x), images x, generated images G(z) and
softplus(t) = log(1 + exp(t)), which is -log(1 - sigmoid(t)) and, of -t, -log sigmoid(t), `loss` is one of

    non_saturating  the discriminator minimises  E softplus(-D(x)) + E softplus(D(G(z)))
                    the generator minimises      E softplus(-D(G(z)))                       (its section 3)
    wasserstein     the discriminator minimises  E D(G(z)) - E D(x)
                    the generator minimises      -E D(G(z))             (Arjovsky et al., 2017, arXiv 1701.07875)
    hinge           the discriminator minimises  E max(0, 1 - D(x)) + E max(0, 1 + D(G(z)))
                    the generator minimises      -E D(G(z))             (Lim and Ye, 2017, arXiv 1705.02894)

To it the discriminator may add penalties on its slope, the gradient of D with respect to an image:

    gradient_penalty  w E (|slope at e x + (1 - e) G(z)| - 1)^2, e uniform in [0, 1]
                      (WGAN-GP: Gulrajani et al., 2017, https://arxiv.org/abs/1704.00028, equation 3)
    r1                w / 2 E |slope at x|^2
                      (Mescheder et al., 2018, https://arxiv.org/abs/1801.04406, equation 9)

The slope is computed in float32 whatever the run's precision is, and not when evaluating.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus
from torch.nn.modules.batchnorm import _BatchNorm

from zoo.config import ConfigError
from zoo.training.data import Spec
from zoo.training.judging import JudgeConfig, Jury, Totals, check_range
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, Term, rows


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig(JudgeConfig):
    """Options of the objective."""

    loss: Literal["non_saturating", "wasserstein", "hinge"] = "non_saturating"
    real_target: float = 1.0
    """The probability that the discriminator shall give real images; 0.9 is one-sided label smoothing (Salimans et
    al., 2016, section 3.4). For the loss that has probabilities, non_saturating."""
    gradient_penalty: float = 0.0
    """Weight of WGAN-GP's penalty; 10 in the paper."""
    r1: float = 0.0
    """Weight of the penalty R1; 10 in the paper."""
    penalty_every: int = 1
    """Penalties are for the steps that this divides, and weigh as many times as much there: lazy regularisation, with
    16 in StyleGAN2 (Karras et al., 2020, appendix B)."""
    generator_every: int = 1
    """The generator learns at the steps that this divides, the discriminator at all; 5 for WGAN-GP's critic."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        super().__post_init__()
        if not 0 < self.real_target <= 1:
            raise ValueError(f"real_target {self.real_target} is not in (0, 1]")
        if self.real_target != 1 and self.loss != "non_saturating":
            raise ValueError(
                f"real_target {self.real_target} is a probability, which loss {self.loss} has not; drop it"
            )
        for name in ("gradient_penalty", "r1"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} {getattr(self, name)} is no weight; give a finite number >= 0")
        for name in ("penalty_every", "generator_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")


class Adversarial(Objective):
    """Two networks, two updates in each step, on noise of their own.

    A batch has `image`, (batch, channels, height, width) in [-1, 1], and for networks with classes `target`, (batch,).
    The model has the submodules `generator`, which turns `z` into such images, and `discriminator`, which turns images
    into logits, (batch,). Where the model's config has `num_classes`, both take `label` too: in each row of a batch,
    what is generated is of the class of the real image.

    With a judge, evaluation gives what `zoo.training.judging` says of generated images.
    """

    name = "adversarial"
    config = AdversarialConfig
    headline = "frechet_distance"
    reads = ("image",)
    may_read = ("target",)
    supplies = ("z", "label")

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`; the judge is loaded now, so that a run does not fail at its end.

        Raises:
            ConfigError: images are normalised to another range than [-1, 1], or the judge cannot look at them.
        """
        super().__init__(options, spec)
        check_range(self.name, spec)
        self.latent_shape: tuple[int, ...] = ()
        self.conditional = False
        self.jury = Jury(options, spec)

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """The generator and the discriminator.

        Raises:
            ConfigError: the model has not both, has classes and the data none, or a penalty does not suit it.
        """
        parts: Any = model
        if not hasattr(model, "generator") or not hasattr(model, "discriminator"):
            raise ConfigError(
                f"objective adversarial trains a generator and a discriminator, which {type(model).__name__} has not; "
                "set model.name=gan"
            )
        classes = getattr(getattr(model, "config", None), "num_classes", 0)
        if classes and self.spec.num_classes is None:
            raise ConfigError(
                f"{type(model).__name__} has num_classes {classes}, and the data no classes; set model.num_classes=0"
            )
        penalty = next((name for name in ("gradient_penalty", "r1") if getattr(self.options, name)), None)
        if penalty and any(isinstance(module, _BatchNorm) for module in parts.discriminator.modules()):
            raise ConfigError(
                f"objective.{penalty} is of each image's own slope, and batch norm lets the discriminator's images see "
                "each other; set model.discriminator_norm=layer or none"
            )
        self.latent_shape, self.conditional = tuple(parts.example_inputs(1)["z"].shape[1:]), bool(classes)
        return {"generator": parts.generator, "discriminator": parts.discriminator}

    def phases(self) -> tuple[Phase, ...]:
        """First the discriminator, then the generator."""
        return (
            Phase("discriminator", ("discriminator",)),
            Phase("generator", ("generator",), every=self.options.generator_every),
        )

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """What the phase's network minimises; real and generated images are normalised apart, as batches."""
        told = {"label": batch["target"]} if self.conditional else {}
        z, count = ctx.rows.normal("z", self.latent_shape), rows(batch)
        if phase.name == "generator":
            logits = nets["discriminator"](image=nets["generator"](z=z, **told), **told).float()
            return Loss({"generator": (self._not_recognised(logits).sum(), count, 1.0)})
        with torch.no_grad():
            generated = nets["generator"](z=z, **told)
        real, fake = (nets["discriminator"](image=image, **told).float() for image in (batch["image"], generated))
        on_real, on_fake = self._told_apart(real, fake, self.options.real_target if ctx.training else 1.0)
        terms: dict[str, Term] = {
            "discriminator_real": (on_real.sum(), count, 1.0),
            "discriminator_generated": (on_fake.sum(), count, 1.0),
        }
        penalised = self.options.gradient_penalty or self.options.r1
        if penalised and ctx.training and ctx.step % self.options.penalty_every == 0:
            terms |= self._penalties(nets["discriminator"], batch["image"], generated, told, ctx)
        if self.options.loss == "wasserstein":
            return Loss(terms)  # whose critic draws no line at zero
        hits = {"real_recognised": (real > 0).sum(), "generated_recognised": (fake < 0).sum()}
        return Loss(terms, {name: (hit, count) for name, hit in hits.items()})

    def _not_recognised(self, fake: Tensor) -> Tensor:
        """What each generated image costs the generator, given its logit."""
        return softplus(-fake) if self.options.loss == "non_saturating" else -fake

    def _told_apart(self, real: Tensor, fake: Tensor, target: float) -> tuple[Tensor, Tensor]:
        """What each real and each generated image costs the discriminator, given their logits."""
        if self.options.loss == "wasserstein":
            return -real, fake
        if self.options.loss == "hinge":
            return relu(1 - real), relu(1 + fake)
        return target * softplus(-real) + (1 - target) * softplus(real), softplus(fake)

    def _penalties(
        self, critic: nn.Module, real: Tensor, generated: Tensor, told: dict[str, Tensor], ctx: Context
    ) -> dict[str, Term]:
        """Those that the options ask for.

        Raises:
            ConfigError: the discriminator is compiled.
        """
        options, count, terms = self.options, len(real), {}
        if any(name.endswith("_orig_mod") for name, _ in critic.named_modules()):
            raise ConfigError(
                "objective.gradient_penalty and r1 differentiate a gradient, which torch.compile cannot; set "
                "trainer.compile=false"
            )
        if options.gradient_penalty:
            share = ctx.rows.uniform("mix")[:, None, None, None]
            slopes = _slopes(critic, share * real + (1 - share) * generated, told)
            off = torch.linalg.vector_norm(slopes, dim=1) - 1
            terms["gradient_penalty"] = (off.square().sum(), count, options.gradient_penalty * options.penalty_every)
        if options.r1:
            total = _slopes(critic, real, told).square().sum()
            terms["r1"] = (total, count, options.r1 / 2 * options.penalty_every)
        return terms

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> Totals:
        """The losses, and for the judge the moments of both sides and the classes of what is generated."""
        totals: Totals = {}
        for phase in self.phases():
            terms = self.loss(phase, nets, batch, ctx).terms.values()
            totals[f"{phase.name}_loss"] = (torch.stack([total for total, _, _ in terms]).sum(), rows(batch))
        if self.jury.judge is not None:
            each = self.options.samples_per_image
            z = ctx.rows.normal("samples", (each, *self.latent_shape)).flatten(0, 1)
            asked = batch["target"].repeat_interleave(each) if self.conditional else None
            told = {} if asked is None else {"label": asked}
            totals |= self.jury.totals(batch["image"], nets["generator"](z=z, **told), asked, samples=ctx.rows.samples)
        return totals

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean losses, and what the judge says of the whole split."""
        losses = {name: float(total / count) for name, (total, count) in totals.items() if name.endswith("_loss")}
        return losses | self.jury.metrics(totals)


def _slopes(critic: nn.Module, image: Tensor, told: Mapping[str, Tensor]) -> Tensor:
    """The gradient of each image's logit with respect to its pixels, (batch, pixels), itself differentiable."""
    image = image.detach().float().requires_grad_()
    with torch.autocast(image.device.type, enabled=False):
        logits = critic(image=image, **told)
        return torch.autograd.grad(logits.sum(), image, create_graph=True)[0].flatten(1)


OBJECTIVE = Adversarial
