"""Masked reconstruction: predict the patches of an image that were hidden.

Source: He et al., 2022, "Masked autoencoders are scalable vision learners", section 3: the mean squared error of the
hidden patches alone. Which ones are hidden is drawn anew whenever an image comes up.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn

from zoo.config import ConfigError
from zoo.nn.patches import to_image, to_patches
from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, rows
from zoo.training.quality import QualityConfig, Totals, psnr, similarity, unit_image, unit_scale

FLOOR = 1e-6
"""Added to the variance of a patch, which may be all of one colour."""


@dataclass(frozen=True, kw_only=True)
class MaskedReconstructionConfig(QualityConfig):
    """Options of the objective."""

    normalize_patches: bool = False
    """Whether the target is each patch minus its own mean, divided by its own deviation: the paper's table 1d, where
    features get better by it. The predictions are then no pixels any more."""

    def __post_init__(self) -> None:
        """Refuse to compare images that there are none of."""
        if self.quality and self.normalize_patches:
            raise ValueError("quality compares pixels, and normalize_patches predicts none; leave one of them out")


class Guess(NamedTuple):
    """What was to be predicted, and how it was."""

    prediction: Tensor
    """(batch, patches, numbers), normalised as the target is."""
    target: Tensor
    """Likewise."""
    mask: Tensor
    """(batch, patches) bool, True where a patch was hidden."""
    size: int
    """Height and width of a patch."""


class MaskedReconstruction(Objective):
    """The mean squared error of the numbers in the hidden patches.

    A batch has `image`, (batch, channels, height, width). The model takes it with `noise`, (batch, patches), hides the
    patches with the largest, as many in each image, and gives `prediction`, (batch, patches, numbers), with the `mask`
    of what was hidden.

    Evaluation hides the same patches of an image every time. It gives `mse`, the error per hidden pixel of images in
    [0, 1], unless patches are normalised. Where it is asked for, also what `zoo.training.quality` says: `psnr` of the
    hidden pixels alone, and similarity of whole images, in which the hidden patches are predicted and the others are
    as they were.
    """

    name = "masked_reconstruction"
    config = MaskedReconstructionConfig
    reads = ("image",)
    supplies = ("noise",)

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`."""
        super().__init__(options, spec)
        options.check_quality()
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
        return Loss({"squared_error": (self._error(self._guess(nets, batch, ctx)), rows(batch), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> Totals:
        """The loss, the error in the images' own range, and how alike they look."""
        guess = self._guess(nets, batch, ctx)
        totals: Totals = {"loss": (self._error(guess), rows(batch))}
        if self.options.normalize_patches:
            return totals
        scale = batch["image"].new_tensor(unit_scale(self.spec))
        hidden = (guess.prediction - guess.target)[guess.mask].unflatten(-1, (-1, batch["image"].shape[1])) * scale
        totals["mse"] = (hidden.square().sum(), hidden.numel())
        return totals | (self._quality(guess, batch["image"]) if self.options.quality else {})

    def _guess(self, nets: Networks, batch: Batch, ctx: Context) -> Guess:
        image = batch["image"]
        prediction, mask = nets["model"](image=image, noise=ctx.rows.uniform("noise", (self.patches,)))
        size = round((prediction.shape[-1] // image.shape[1]) ** 0.5)
        target = to_patches(image, size).float()
        if self.options.normalize_patches:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + FLOOR).sqrt()
        return Guess(prediction.float(), target, mask, size)

    def _error(self, guess: Guess) -> Tensor:
        """The mean squared error over each image's hidden numbers, summed over images."""
        error = (guess.prediction - guess.target).square().mean(-1)
        return ((error * guess.mask).sum(1) / guess.mask.sum(1)).sum()

    def _quality(self, guess: Guess, image: Tensor) -> Totals:
        """What a batch adds to each mean over images."""
        grid = (image.shape[-2] // guess.size, image.shape[-1] // guess.size)
        pasted = guess.prediction.where(guess.mask[..., None], guess.target)
        found, wanted = (unit_image(some.float(), self.spec) for some in (to_image(pasted, guess.size, grid), image))
        hidden = (to_patches(some, guess.size)[guess.mask].reshape(len(image), -1) for some in (found, wanted))
        each = {"psnr": psnr(*hidden), **similarity(found, wanted)}
        return {name: (values.sum(), len(values)) for name, values in each.items()}


OBJECTIVE = MaskedReconstruction
