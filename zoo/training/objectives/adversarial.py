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

from zoo.config import ConfigError, build
from zoo.training.data import DATA_SETS, Spec
from zoo.training.frechet import Judge, frechet_distance, moments, yardstick
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows

RECOGNISED = 0.5
"""The judge recognises an image when one class is more probable than all others together."""
SEEN = 0.1
"""A class is there when its recognised share of the images is at least this part of an equal share."""


@dataclass(frozen=True, kw_only=True)
class AdversarialConfig:
    """Options of the objective."""

    real_target: float = 1.0
    """The probability that the discriminator shall give real images; 0.9 is one-sided label smoothing (Salimans et
    al., 2016, section 3.4)."""
    generator_every: int = 1
    """The generator learns at the steps that this divides; the discriminator at all."""
    features: str | None = None
    """The judge of evaluation: a trained classifier, named as for `zoo.create`. None: only the losses are evaluated."""
    samples_per_image: int = 1
    """Images to generate for each real one when the judge looks at them; more make the Fréchet distance steadier."""
    yardstick: str | None = None
    """A data set whose training part the mixture of `zoo.training.frechet` is fitted to: its distance, for equally
    many samples, is told beside the generator's. None, or no judge: no yardstick."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if not 0 < self.real_target <= 1:
            raise ValueError(f"real_target {self.real_target} is not in (0, 1]")
        for name in ("generator_every", "samples_per_image"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} {getattr(self, name)} is below 1")


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
        _check_range(spec)
        self.latent_shape: tuple[int, ...] = ()
        self.judge, self.images = None, None
        if options.features is not None:
            self.judge = Judge(options.features)
            channels = len(self.judge.record.mean)
            if spec.in_channels not in (None, channels):
                raise ConfigError(
                    f"objective.features: {options.features} looks at images with {channels} channels, the data have "
                    f"{spec.in_channels}; name another model"
                )
            if options.yardstick is not None:
                self.images = _training_images(options.yardstick)

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

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The losses, and for the judge the moments of both sides and the classes of what is generated."""
        totals: dict[str, tuple[Tensor, Tensor | int]] = {}
        for phase in self.phases():
            terms = self.loss(phase, nets, batch, ctx).terms.values()
            totals[f"{phase.name}_loss"] = (torch.stack([total for total, _, _ in terms]).sum(), rows(batch))
        if self.judge is not None:
            z = ctx.rows.normal("samples", (self.options.samples_per_image, *self.latent_shape)).flatten(0, 1)
            features, probability = self.judge(_unit(nets["generator"](z=z)))
            totals["real"] = (moments(self.judge(_unit(batch["image"]))[0]), rows(batch))
            totals["generated"] = (moments(features), len(z))
            totals["recognised"] = ((probability > RECOGNISED).sum(0), len(z))
        return totals

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean losses, and what the judge says of the whole split."""
        metrics = {name: float(total / count) for name, (total, count) in totals.items() if name.endswith("_loss")}
        if self.judge is None:
            return metrics
        (real, _), (generated, drawn), (recognised, _) = (totals[n] for n in ("real", "generated", "recognised"))
        metrics["frechet_distance"] = frechet_distance(generated, real)
        if self.images is not None:
            metrics["frechet_mixture"] = frechet_distance(yardstick(self.judge, self.images, int(drawn)), real)
            metrics["frechet_ratio"] = metrics["frechet_distance"] / metrics["frechet_mixture"]
        metrics["classes"] = float((recognised >= SEEN * drawn / len(recognised)).sum())
        metrics["confident"] = float(recognised.sum() / drawn)
        return metrics


def _check_range(spec: Spec) -> None:
    """What the discriminator is shown must be of the range in which the generator draws."""
    if spec.value_range is None or not spec.mean:
        return
    ends = [(end - mean) / std for mean, std in zip(spec.mean, spec.std, strict=True) for end in spec.value_range]
    if any(abs(end - wanted) > 1e-3 for end, wanted in zip(ends, (-1.0, 1.0) * len(spec.mean), strict=True)):
        raise ConfigError(
            f"objective adversarial: images reach from {min(ends):.3g} to {max(ends):.3g}, but the generator draws in "
            "[-1, 1]; set data.normalize=range"
        )


def _unit(image: Tensor) -> Tensor:
    """From [-1, 1] to [0, 1]."""
    return image / 2 + 0.5


def _training_images(name: str) -> Tensor:
    """The training part of a data set, (samples, channels, height, width) in [0, 1]."""
    record = DATA_SETS.find(name)
    splits = record.load(build(record.config, {}, f"objective.yardstick: {name}"))
    if "image" not in splits.spec.keys:
        raise ConfigError(f"objective.yardstick: {name} has no images; name another data set")
    image, spec = splits.train.fetch(range(len(splits.train)), None)["image"], splits.spec
    mean, std = (image.new_tensor(values)[:, None, None] for values in (spec.mean or (0.0,), spec.std or (1.0,)))
    low, high = spec.value_range or (0.0, 1.0)
    return (image * std + mean - low) / (high - low)


OBJECTIVE = Adversarial
