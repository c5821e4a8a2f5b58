"""Reconstruction: an image goes through a code and comes back with as small a squared error as can be.

Source: Hinton and Salakhutdinov (2006), https://doi.org/10.1126/science.1127647. With a linear network this is
principal component analysis, whose error is the yardstick for all others.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from zoo.config import ConfigError
from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows
from zoo.training.quality import QualityConfig, Totals, quality, unit_image, unit_scale


class Reconstruction(Objective):
    """The squared error, as a mean over samples, channels and pixels.

    A batch has `image`, (batch, channels, height, width). The model's output has `reconstruction`, of the same shape.

    Evaluation gives `mse`, the error per pixel of images in [0, 1], whatever they were normalised to, and where it is
    asked for what `zoo.training.quality` says.
    """

    name = "reconstruction"
    config = QualityConfig
    headline = "mse"
    reads = ("image",)

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`."""
        super().__init__(options, spec)
        options.check_quality()

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """The model, if it encodes to codes, not to distributions over them."""
        if hasattr(model, "latent_shape"):
            raise ConfigError(
                f"objective reconstruction would not teach the distribution over {type(model).__name__}'s latents; set "
                "objective.name=elbo, and with objective.beta=0 only the reconstruction counts"
            )
        return {"model": check_autoencoder(model, self.name)}

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many numbers are reconstructed."""
        return {"squared_error": batch["image"].numel()}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed squared error of normalised images."""
        squared = (self._reconstruction(nets, batch) - batch["image"]).square()
        return Loss({"squared_error": (squared.sum(), squared.numel(), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The squared error of each channel, on normalised images, and how alike they look."""
        image, reconstruction = batch["image"], self._reconstruction(nets, batch)
        squared = (reconstruction - image).square()
        totals: Totals = {
            "loss": (squared.sum(), squared.numel()),
            "mse": (squared.sum((0, 2, 3)), rows(batch) * squared[0, 0].numel()),
        }
        if self.options.quality:
            totals |= quality(unit_image(reconstruction, self.spec), unit_image(image, self.spec))
        return totals

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The loss, the error in the images' own range, and how alike they look."""
        mean = {name: total / count for name, (total, count) in totals.items()}
        mean["mse"] = (mean["mse"] * mean["mse"].new_tensor(unit_scale(self.spec)).square()).mean()
        return {name: float(value) for name, value in mean.items()}

    def _reconstruction(self, nets: Networks, batch: Batch) -> Tensor:
        return nets["model"](image=batch["image"]).reconstruction.float()


def check_autoencoder(model: nn.Module, objective: str) -> nn.Module:
    """The model itself.

    Raises:
        ConfigError: it does not encode and decode.
    """
    if not (hasattr(model, "encode") and hasattr(model, "decode")):
        raise ConfigError(
            f"objective {objective} trains a network that encodes and decodes images, which {type(model).__name__} "
            "does not; choose another, such as model.name=autoencoder"
        )
    return model


OBJECTIVE = Reconstruction
