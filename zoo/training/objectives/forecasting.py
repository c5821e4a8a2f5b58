"""Forecasting: the next values of a series, at every place of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, forward_arguments
from zoo.training.objectives.regression import LOSSES


@dataclass(frozen=True, kw_only=True)
class ForecastingConfig:
    """Options of the objective."""

    loss: Literal["mse", "mae", "huber"] = "mse"
    """On series with mean 0 and standard deviation 1, as the data give them."""


class Forecasting(Objective):
    """The mean loss over places, variables and series.

    A batch has `features`, (batch, seq, variables), and `target`, the values that follow each place, of the same
    shape. The model takes the features and predicts the target; what it may look at is its own affair.
    """

    name = "forecasting"
    config = ForecastingConfig
    headline = "rmse"

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data are no series.
        """
        super().__init__(options, spec)
        if spec.out_features is None:
            given = ", ".join(spec.keys)
            raise ValueError(f"objective forecasting needs data of series, but these give {given}")

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many numbers are predicted."""
        return {self.options.loss: batch["target"].numel()}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss."""
        total = LOSSES[self.options.loss](self._prediction(nets, batch), batch["target"], reduction="sum")
        return Loss({self.options.loss: (total, batch["target"].numel(), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The loss, the squared error, and that of the guess that nothing changes."""
        prediction, target = self._prediction(nets, batch), batch["target"]
        return {
            "loss": (LOSSES[self.options.loss](prediction, target, reduction="sum"), target.numel()),
            "squared": ((prediction - target).square().sum(), target.numel()),
            "unchanged": ((batch["features"][..., : target.shape[-1]] - target).square().sum(), target.numel()),
        }

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The loss, the root mean squared error, and which share it is of the error of guessing the last value."""
        mean = {name: float(total / count) for name, (total, count) in totals.items()}
        metrics = {"loss": mean["loss"], "rmse": mean["squared"] ** 0.5}
        return metrics | ({"error_ratio": (mean["squared"] / mean["unchanged"]) ** 0.5} if mean["unchanged"] else {})

    def _prediction(self, nets: Networks, batch: Batch) -> Tensor:
        prediction = nets["model"](**forward_arguments(batch)).float()
        if prediction.shape != batch["target"].shape:
            raise ValueError(
                f"the model predicts shape {tuple(prediction.shape)} for targets of shape "
                f"{tuple(batch['target'].shape)}; set model.out_features={batch['target'].shape[-1]}"
            )
        return prediction


OBJECTIVE = Forecasting
