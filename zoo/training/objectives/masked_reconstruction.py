"""Masked reconstruction: predict the patches of an image that were hidden.

Source: He et al., 2022, "Masked autoencoders are scalable vision learners", section 3: the mean squared error of the
hidden patches alone. Which ones are hidden is drawn anew whenever an image comes up.
"""

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from zoo.config import ConfigError
from zoo.nn.patches import to_patches
from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows

FLOOR = 1e-6
"""Added to the variance of a patch, which may be all of one colour."""


@dataclass(frozen=True, kw_only=True)
class MaskedReconstructionConfig:
    """Options of the objective."""

    normalize_patches: bool = False
    """Whether the target is each patch minus its own mean, divided by its own deviation: the paper's table 1d, where
    features get better by it. The predictions are then no pixels any more."""


class MaskedReconstruction(Objective):
    """The mean squared error of the numbers in the hidden patches.

    A batch has `image`, (batch, channels, height, width). The model takes it with `noise`, (batch, patches), hides the
    patches with the largest, as many in each image, and gives `prediction`, (batch, patches, numbers), with the `mask`
    of what was hidden.
    """

    name = "masked_reconstruction"
    config = MaskedReconstructionConfig
    reads = ("image",)
    supplies = ("noise",)

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`."""
        super().__init__(options, spec)
        self.patches = 0

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but the model must hide patches.

        Raises:
            ConfigError: it does not.
        """
        make: Any = getattr(model, "example_inputs", None)
        inputs: dict[str, Tensor] = {} if make is None else make(1)
        if "noise" not in inputs:
            raise ConfigError(
                f"objective masked_reconstruction needs a model that hides patches by their noise, and "
                f"{type(model).__name__} takes none; set model.name=mae"
            )
        self.patches = inputs["noise"].shape[1]
        return {}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The squared error: the mean over an image's hidden numbers, summed over images."""
        image = batch["image"]
        prediction, mask = nets["model"](image=image, noise=ctx.rows.uniform("noise", (self.patches,)))
        numbers = prediction.shape[-1] // image.shape[1]
        target = to_patches(image, round(numbers**0.5)).float()
        if self.options.normalize_patches:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + FLOOR).sqrt()
        error = (prediction.float() - target).square().mean(-1)
        return Loss({"squared_error": (((error * mask).sum(1) / mask.sum(1)).sum(), rows(batch), 1.0)})


OBJECTIVE = MaskedReconstruction
