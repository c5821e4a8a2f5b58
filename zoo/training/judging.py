"""How good drawn images are in the eyes of a trained classifier; shared by all objectives whose models draw images.

The judge gives the Fréchet distance between drawn and real images, how many classes the drawn ones show, in which
share of them it recognises something, and where a class was asked for, how often that one is seen; where it is asked
to look at all pairs, also the kernel distance, precision and recall.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zoo.config import ConfigError, build
from zoo.training.data import DATA_SETS, Spec
from zoo.training.frechet import Judge, frechet_distance, moments, yardstick
from zoo.training.kept import keep, kept
from zoo.training.kid import kernel_distance
from zoo.training.manifold import precision_and_recall

RECOGNISED = 0.5
"""The judge recognises an image when one class is more probable than all others together."""
SEEN = 0.1
"""A class is there when its recognised share of the images is at least this part of an equal share."""
Totals = dict[str, tuple[Tensor, Tensor | int]]


@dataclass(frozen=True, kw_only=True)
class JudgeConfig:
    """What evaluation looks at; base of the options of objectives whose models draw images."""

    features: str | None = None
    """The judge: a trained classifier, named as for `zoo.create`. None: only the losses are evaluated."""
    samples_per_image: int = 1
    """Images to draw for each real one when the judge looks at them; more make the Fréchet distance steadier."""
    yardstick: str | None = None
    """A data set whose training part the mixture of `zoo.training.frechet` is fitted to: its distance, for equally
    many samples, is told beside the model's. None, or no judge: no yardstick."""
    all_pairs: bool = False
    """Whether to compare each image with all others too, for `kernel_distance`, `precision` and `recall`. Features of
    all images are kept, and the time grows with the square of their number."""

    def __post_init__(self) -> None:
        """Refuse to draw nothing."""
        if self.samples_per_image < 1:
            raise ValueError(f"samples_per_image {self.samples_per_image} is below 1")


class Jury:
    """The judge and the yardstick that the options name."""

    def __init__(self, options: JudgeConfig, spec: Spec) -> None:
        """Load them now, so that a run does not fail at its end.

        Raises:
            ConfigError: the judge cannot look at the data's images.
        """
        self.options = options
        self.judge = None if options.features is None else Judge(options.features)
        self.images: Tensor | None = None
        if self.judge is None:
            return
        channels = len(self.judge.record.mean)
        if spec.in_channels not in (None, channels):
            raise ConfigError(
                f"objective.features: {options.features} looks at images with {channels} channels, the data have "
                f"{spec.in_channels}; name another model"
            )
        if options.yardstick is not None:
            self.images = _training_images(options.yardstick)

    def totals(
        self, real: Tensor, drawn: Tensor, asked: Tensor | None = None, *, samples: Sequence[tuple[int, int]]
    ) -> Totals:
        """What a batch adds to the verdict; nothing without a judge.

        Args:
            real: (batch, channels, height, width) in [-1, 1].
            drawn: (batch * samples_per_image, channels, height, width), likewise.
            asked: (batch * samples_per_image,), the class that each was to show.
            samples: (epoch, index) of each real image, as in `Rows`.
        """
        if self.judge is None:
            return {}
        (features, probability), (of_real, _) = self.judge(unit(drawn)), self.judge(unit(real))
        totals: Totals = {
            "real": (moments(of_real), len(real)),
            "generated": (moments(features), len(drawn)),
            "recognised": ((probability > RECOGNISED).sum(0), len(drawn)),
        }
        if asked is not None:
            totals["as_asked"] = ((probability.argmax(-1) == asked).sum(), len(drawn))
        if self.options.all_pairs:
            index = torch.tensor([index for _, index in samples])
            totals["real_rows"] = (keep(of_real, index), len(real))
            every = self.options.samples_per_image
            places = index.repeat_interleave(every) * every + torch.arange(every).repeat(len(index))
            totals["generated_rows"] = (keep(features, places), len(drawn))
        return totals

    def metrics(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The verdict on a whole split, from its totals."""
        if self.judge is None:
            return {}
        (real, _), (generated, drawn), (recognised, _) = (totals[n] for n in ("real", "generated", "recognised"))
        metrics = {"frechet_distance": frechet_distance(generated, real)}
        if self.images is not None:
            metrics["frechet_mixture"] = frechet_distance(yardstick(self.judge, self.images, int(drawn)), real)
            metrics["frechet_ratio"] = metrics["frechet_distance"] / metrics["frechet_mixture"]
        metrics["classes"] = float((recognised >= SEEN * drawn / len(recognised)).sum())
        metrics["confident"] = float(recognised.sum() / drawn)
        if "as_asked" in totals:
            metrics["as_asked"] = float(torch.div(*totals["as_asked"]))
        if self.options.all_pairs:
            of_real, of_drawn = (kept(totals[name][0]) for name in ("real_rows", "generated_rows"))
            metrics["kernel_distance"] = kernel_distance(of_drawn, of_real)
            one_each = of_drawn[:: self.options.samples_per_image]  # as many as are real
            metrics["precision"], metrics["recall"] = precision_and_recall(one_each, of_real)
        return metrics


def check_range(name: str, spec: Spec) -> None:
    """Refuse images that are not of the range in which models draw.

    Args:
        name: the objective's.
        spec: of the data.

    Raises:
        ConfigError: images are normalised to another range than [-1, 1].
    """
    if spec.value_range is None or not spec.mean:
        return
    ends = [(end - mean) / std for mean, std in zip(spec.mean, spec.std, strict=True) for end in spec.value_range]
    if any(abs(end - wanted) > 1e-3 for end, wanted in zip(ends, (-1.0, 1.0) * len(spec.mean), strict=True)):
        raise ConfigError(
            f"objective {name}: images reach from {min(ends):.3g} to {max(ends):.3g}, but the generator draws in "
            "[-1, 1]; set data.normalize=range"
        )


def unit(image: Tensor) -> Tensor:
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
