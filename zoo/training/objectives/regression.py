"""Regression: quantities, predicted in units of their standard deviation and judged in their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, forward_arguments, rows

LOSSES = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.huber_loss}


@dataclass(frozen=True, kw_only=True)
class RegressionConfig:
    """Options of the objective."""

    loss: Literal["mse", "mae", "huber"] = "mse"
    """On targets with mean 0 and standard deviation 1; `huber` is quadratic up to an error of 1."""


class Regression(Objective):
    """The mean loss over samples and outputs.

    A batch has `target`, (batch, outputs), as measured. The model takes the rest and predicts
    (target - mean) / std, where `target_mean` and `target_std` of the data's spec belong to the training part.
    """

    name = "regression"
    config = RegressionConfig
    headline = "rmse"

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data's target is no quantity.
        """
        super().__init__(options, spec)
        if not spec.target_mean:
            raise ValueError(
                "objective regression needs data whose target is a quantity; "
                f"these have {spec.num_classes} classes: set objective.name=classification"
            )

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many numbers are predicted."""
        return {self.options.loss: batch["target"].numel()}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss on standardised targets."""
        prediction, target = self._standardised(nets, batch)
        total = LOSSES[self.options.loss](prediction, target, reduction="sum")
        return Loss({self.options.loss: (total, target.numel(), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """What `summarize` needs, per output and on standardised targets, where sums of squares stay accurate."""
        prediction, target = self._standardised(nets, batch)
        error, count = prediction - target, rows(batch)
        return {
            "loss": (LOSSES[self.options.loss](prediction, target, reduction="sum"), target.numel()),
            "absolute": (error.abs().sum(0), count),
            "squared": (error.square().sum(0), count),
            "target": (target.sum(0), count),
            "target_squared": (target.square().sum(0), count),
        }

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Root mean squared and mean absolute error in the target's unit, and the share of variance explained.

        Several outputs are averaged. `r2` is left out where a target never varies, since it then means nothing.
        """
        mean = {name: total / count for name, (total, count) in totals.items()}
        std = mean["squared"].new_tensor(self.spec.target_std)
        variance = mean["target_squared"] - mean["target"].square()
        metrics = {
            "loss": mean["loss"],
            "rmse": (mean["squared"].sqrt() * std).mean(),
            "mae": (mean["absolute"] * std).mean(),
        }
        if (variance > 0).all():
            metrics["r2"] = (1 - mean["squared"] / variance).mean()
        return {name: float(value) for name, value in metrics.items()}

    def _standardised(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """The model's prediction and the target as it should be, both (batch, outputs)."""
        target = batch["target"]
        prediction = nets["model"](**forward_arguments(batch)).float()
        if prediction.shape != target.shape:
            raise ValueError(
                f"the model predicts shape {tuple(prediction.shape)} for targets of shape {tuple(target.shape)}; "
                f"set model.num_classes={target.shape[-1]}"
            )
        mean, std = target.new_tensor(self.spec.target_mean), target.new_tensor(self.spec.target_std)
        return prediction, (target - mean) / std


OBJECTIVE = Regression
