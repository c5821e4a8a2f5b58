"""Denoising: a network is shown an image with noise and predicts what was mixed; so diffusion models learn.

Source: Ho, Jain and Abbeel, 2020, "Denoising diffusion probabilistic models", algorithm 1, for any noise schedule and
prediction of `zoo.diffusion`:

    the mean over images, noise e and timesteps t of |network(alpha_t image + sigma_t e, t) - target_t(image, e)|^2
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.config import ConfigError
from zoo.diffusion import SAMPLERS, DiffusionConfig, guided
from zoo.training.data import Spec
from zoo.training.judging import JudgeConfig, Jury, Totals, check_range
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows


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
            ConfigError: images are normalised to another range than [-1, 1], or the judge cannot look at them.
        """
        super().__init__(options, spec)
        check_range(self.name, spec)
        self.diffusion, self.jury = options.made(), Jury(options, spec)
        self.num_classes: int | None = None

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but the network's classes are the data's.

        Raises:
            ConfigError: labels are asked for or hidden where there are none.
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
        return {}

    def facts(self) -> dict[str, Any]:
        """What sampling must know: schedule and prediction."""
        chosen = self.options
        return {
            "diffusion": {
                "schedule": chosen.schedule,
                "schedule_options": dict(chosen.schedule_options),
                "prediction": chosen.prediction,
            }
        }

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The squared errors, averaged over each image's pixels and summed over images."""
        image, process = batch["image"], self.diffusion
        noise = ctx.rows.normal("noise", image.shape[1:]).to(image.dtype)
        timestep = process.schedule.draw(ctx.rows.uniform("timestep"))
        label = self._labels(batch, ctx)
        output = process.ask(self._network(nets, label), process.noisy(image, noise, timestep), timestep)
        error = (output.float() - process.target(image, noise, timestep).float()).square().flatten(1).mean(1)
        return Loss({"denoising": ((error * self._weight(timestep)).sum(), rows(batch), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> Totals:
        """The loss, and what the judge says of images drawn from as much noise as there are images."""
        totals: Totals = {"loss": self.loss(self.phases()[0], nets, batch, ctx).terms["denoising"][:2]}
        if self.jury.judge is None:
            return totals
        image, each = batch["image"], self.options.samples_per_image
        noise = ctx.rows.normal("samples", (each, *image.shape[1:])).flatten(0, 1)
        asked = None if self.num_classes is None else batch["target"].repeat_interleave(each)
        return totals | self.jury.totals(image, self.draw(nets, noise, asked), asked, samples=ctx.rows.samples)

    def draw(self, nets: Networks, noise: Tensor, label: Tensor | None) -> Tensor:
        """Images from noise, both (batch, channels, height, width), of these classes, (batch,)."""
        network, steps = self._network(nets, label), self.diffusion.schedule.timesteps(self.options.sampling_steps)
        if label is not None and self.options.guidance != 1:
            nothing = torch.full_like(label, self.num_classes or 0)
            network = guided(
                lambda x, timestep, asked: nets["model"](image=x, timestep=timestep, label=asked),
                label, nothing, self.options.guidance,
            )  # fmt: skip
        start = noise * self.diffusion.schedule.level(steps[:1])[1].to(noise)
        *_, image = SAMPLERS[self.options.sampler](self.diffusion, network, start, steps.to(noise.device), clip=1.0)
        return image.clamp(-1, 1)

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The mean loss, and what the judge says of the whole split."""
        return {"loss": float(torch.div(*totals["loss"]))} | self.jury.metrics(totals)

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
