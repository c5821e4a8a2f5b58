"""Denoising: a network is shown an image with noise and predicts what was mixed; so diffusion models learn.

Source: Ho, Jain and Abbeel, 2020, "Denoising diffusion probabilistic models", algorithm 1, for any noise schedule and
prediction of `zoo.diffusion`:

    the mean over images, noise e and timesteps t of |network(alpha_t image + sigma_t e, t) - target_t(image, e)|^2

A network whose output has twice the channels says the variance of the steps back, too, which it learns by the
variational bound: Nichol and Dhariwal, 2021, "Improved denoising diffusion probabilistic models", equation 16.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.config import ConfigError
from zoo.diffusion import DiffusionConfig, Draw, bits_per_dim, divergence, draw, guided
from zoo.diffusion.schedules import Discrete
from zoo.training.data import Spec
from zoo.training.judging import JudgeConfig, Jury, Totals, check_range
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows

BOUND_WEIGHT = 0.001
"""Of the bound, in bits for each number of an image, beside the error; Nichol and Dhariwal, section 3.1."""


@dataclass(frozen=True, kw_only=True)
class DenoisingConfig(DiffusionConfig, JudgeConfig):
    """Options of the objective."""

    min_snr: float | None = None
    """The image's error weighs as the ratio of signal to noise, but never more than this; 5 in Hang et al., 2023,
    "Efficient diffusion training via min-SNR weighting strategy". None: errors of the prediction weigh alike."""
    label_dropout: float = 0.0
    """The share of images whose class is hidden in training, as guidance needs; .1 to .2 in Ho and Salimans, 2022."""
    sampler: Literal["ddpm", "ddim", "heun", "dpm_solver"] = "dpm_solver"
    """How evaluation draws what the judge looks at."""
    sampling_steps: int = 25
    guidance: float = 1.0
    """Of these draws; above 1, further away from what the network draws when no class is asked for."""
    bound: int = 0
    """At how many random steps for each image evaluation estimates `bits_per_dim`, the variational bound on its cost,
    of which `zoo.diffusion.bound` tells; of a network with classes, when the class is known. 0: not at all."""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        DiffusionConfig.__post_init__(self)
        JudgeConfig.__post_init__(self)
        if not 0 <= self.label_dropout < 1:
            raise ValueError(f"label_dropout {self.label_dropout} is not in [0, 1)")
        if self.min_snr is not None and not self.min_snr > 0:
            raise ValueError(f"min_snr {self.min_snr} is not positive; leave it out to weigh all alike")
        if self.guidance != 1 and not self.label_dropout:
            raise ValueError(f"guidance {self.guidance} needs a network that knows no class too; set label_dropout=0.1")
        if self.bound < 0:
            raise ValueError(f"bound {self.bound} is negative; give a number of steps, or 0 for none")
        self.made().schedule.timesteps(self.sampling_steps)


class Denoising(Objective):
    """The mean squared error of the prediction, per pixel.

    A batch has `image`, (batch, channels, height, width) in [-1, 1], and for a network with classes `target`, (batch,).
    The network takes `image`, `timestep` and, with classes, `label`, where `num_classes` stands for none.

    With a judge, evaluation draws images and gives what `zoo.training.judging` says of them.
    """

    name = "denoising"
    config = DenoisingConfig
    headline = "loss"
    reads = ("image",)
    may_read = ("target",)
    supplies = ("timestep", "label")

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`; a judge is loaded now.

        Raises:
            ConfigError: images are normalised to another range than [-1, 1], the judge cannot look at them, or their
                bits are asked for and their levels not known.
        """
        super().__init__(options, spec)
        check_range(self.name, spec)
        if options.bound and spec.levels is None:
            raise ConfigError(
                "objective.bound counts the bits of whole numbers, and these data do not say how many different ones "
                "there are; choose data that do, such as digits at their own size, or set objective.bound=0"
            )
        self.diffusion, self.jury = options.made(), Jury(options, spec)
        self.num_classes: int | None = None

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but the network's classes are the data's.

        Raises:
            ConfigError: labels are asked for or hidden where there are none, or the output has other channels than can
                be learnt.
        """
        config = getattr(model, "config", None)
        self.num_classes = getattr(config, "num_classes", None) or None
        if self.num_classes is not None and self.spec.num_classes is None:
            raise ConfigError(
                f"{type(model).__name__} has num_classes {self.num_classes}, and the data no classes; "
                "set model.num_classes=0"
            )
        if self.num_classes is None and self.options.label_dropout:
            raise ConfigError("objective.label_dropout hides classes, and the network has none; set model.num_classes")
        if self.options.label_dropout and not getattr(config, "null_label", True):
            raise ConfigError("objective.label_dropout needs a label that says nothing; set model.null_label=true")
        self._check_output(model)
        return {}

    def facts(self) -> dict[str, Any]:
        """What sampling must know: schedule and prediction, and how far images go."""
        chosen = self.options
        return {
            "diffusion": {
                "schedule": chosen.schedule,
                "schedule_options": dict(chosen.schedule_options),
                "prediction": chosen.prediction,
                "clip": chosen.clip,
            }
        }

    @classmethod
    def remembered(cls, preprocessing: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """The noise that weights were trained on, and what they predict; another schedule has other options."""
        known = dict(preprocessing.get("diffusion") or {})
        if "schedule" in given:
            known.pop("schedule_options", None)
        return known

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The squared errors, averaged over each image's pixels and summed over images; and the bound's part."""
        image, process = batch["image"], self.diffusion
        noise = ctx.rows.normal("noise", image.shape[1:]).to(image.dtype)
        timestep = process.schedule.draw(ctx.rows.uniform("timestep"))
        x = process.noisy(image, noise, timestep)
        answer = process.ask(self._network(nets, self._labels(batch, ctx)), x, timestep).float()
        output, said = answer[:, : image.shape[1]], answer[:, image.shape[1] :]
        error = (output - process.target(image, noise, timestep).float()).square().flatten(1).mean(1)
        loss = Loss({"denoising": ((error * self._weight(timestep)).sum(), rows(batch), 1.0)})
        if not said.shape[1]:
            return loss
        # the variance alone learns by the bound: the prediction is held fixed there
        hybrid = torch.cat([output.detach(), said], 1)
        nats = divergence(process, x, hybrid, image, timestep.clamp(min=1), (timestep - 1).clamp(min=0))
        bits = nats / math.log(2) / image[0].numel() * process.schedule.steps
        bound = bits.masked_fill(timestep == 0, 0.0).sum().float()  # there is no step back from the first
        return Loss({**loss.terms, "bound": (bound, rows(batch), BOUND_WEIGHT)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> Totals:
        """The loss, the bits of images, and what the judge says of others, drawn from noise."""
        totals: Totals = {"loss": self.loss(self.phases()[0], nets, batch, ctx).terms["denoising"][:2]}
        if self.options.bound:
            totals["bits_per_dim"] = self._bits(nets, batch, ctx), self.options.bound * rows(batch)
        if self.jury.judge is None:
            return totals
        image, each = batch["image"], self.options.samples_per_image

        def draw_noise(step: int | str) -> Tensor:
            return ctx.rows.normal(f"samples{step}", (each, *image.shape[1:])).flatten(0, 1)

        asked = None if self.num_classes is None else batch["target"].repeat_interleave(each)
        drawn = self.draw(nets, draw_noise(""), asked, draw_noise)
        return totals | self.jury.totals(image, drawn, asked, samples=ctx.rows.samples)

    def draw(self, nets: Networks, noise: Tensor, label: Tensor | None, draw_noise: Draw | None = None) -> Tensor:
        """Images in [-1, 1] from noise, both (batch, channels, height, width).

        Args:
            nets: the networks.
            noise: where to begin.
            label: the classes to show, (batch,); None for a network without.
            draw_noise: the number of a step -> what a sampler that draws noise anew adds there.
        """
        network, chosen = self._network(nets, label), self.options
        if label is not None and chosen.guidance != 1:
            nothing = torch.full_like(label, self.num_classes or 0)
            network = guided(
                lambda x, timestep, asked: nets["model"](image=x, timestep=timestep, label=asked),
                label, nothing, chosen.guidance,
            )  # fmt: skip
        *_, image = draw(
            self.diffusion, network, noise,
            sampler=chosen.sampler, steps=chosen.sampling_steps, clip=chosen.clip, draw_noise=draw_noise,
        )  # fmt: skip
        return image

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean loss and bits, and what the judge says of the whole split."""
        means = {name: float(torch.div(*totals[name])) for name in ("loss", "bits_per_dim") if name in totals}
        return means | self.jury.metrics(totals)

    def _bits(self, nets: Networks, batch: Batch, ctx: Context) -> Tensor:
        """The bounds of all images, added up over as many steps as are asked for, which are spread over the chain."""
        image, network = batch["image"], self._network(nets, None if self.num_classes is None else batch["target"])
        total, count = torch.zeros((), dtype=torch.float64, device=image.device), self.options.bound
        for part in range(count):
            noise = ctx.rows.normal(f"bound{part}", image.shape[1:])
            uniform = (part + ctx.rows.uniform(f"bound_step{part}")) / count
            total += bits_per_dim(self.diffusion, network, image, noise, uniform, self.spec.levels or 0).sum()
        return total

    def _check_output(self, model: nn.Module) -> None:
        """Refuse what is neither a prediction nor one with a variance that can be learnt."""
        config = getattr(model, "config", None)
        channels, out = getattr(config, "in_channels", None), getattr(config, "out_channels", None)
        if channels is None or out in (None, channels):
            return
        remedy = (
            "set model.learned_sigma=false"
            if hasattr(config, "learned_sigma")
            else f"set model.out_channels={channels}"
        )
        if out != 2 * channels:
            raise ConfigError(
                f"{type(model).__name__} has out_channels {out} for in_channels {channels}; a prediction has as many, "
                f"one with the variance twice as many; {remedy}"
            )
        if not isinstance(self.diffusion.schedule, Discrete):
            raise ConfigError(
                f"objective.schedule {self.options.schedule} has no steps whose variance {type(model).__name__} could "
                f"learn; {remedy}, or choose linear, scaled_linear, cosine or sigmoid"
            )

    def _network(self, nets: Networks, label: Tensor | None) -> Any:
        told = {} if label is None else {"label": label}
        return lambda x, timestep: nets["model"](image=x, timestep=timestep, **told)

    def _labels(self, batch: Batch, ctx: Context) -> Tensor | None:
        """The classes, of which training hides some."""
        if self.num_classes is None:
            return None
        if not (ctx.training and self.options.label_dropout):
            return batch["target"]
        hidden = ctx.rows.uniform("label_dropout") < self.options.label_dropout
        return batch["target"].masked_fill(hidden, self.num_classes)

    def _weight(self, timestep: Tensor) -> Tensor | float:
        """How much the squared error of the prediction weighs, (batch,)."""
        if self.options.min_snr is None:
            return 1.0
        alpha, sigma = self.diffusion.schedule.level(timestep)
        c, d = self.diffusion.prediction.target(alpha, sigma)
        whole = alpha * d - sigma * c  # an error e of the prediction is one of sigma e / whole of the image
        return (alpha / sigma).square().clamp(max=self.options.min_snr) * (sigma / whole).square()


OBJECTIVE = Denoising
