"""What is learnt. One file = one objective; it exports `OBJECTIVE`, plugins use the group `zoo_objectives`.

An objective says which networks there are, in which phases they are updated, and what each phase minimises.
It never touches an optimizer, a device or a rank: the trainer does.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor, nn

from zoo.registry import Registry
from zoo.training.data import Spec
from zoo.training.random import Rows

Networks = Mapping[str, nn.Module]
Batch = Mapping[str, Tensor]
Features = Mapping[str, Tensor]
"""What a network makes of a batch, (batch, ...) each."""


Term = tuple[Tensor, Tensor | int, float]
"""One part of a loss as (sum, count, weight): the total over the microbatch, 0-D with gradient and not the mean;
how many samples, tokens or pixels it runs over; its weight in the whole. Sums and counts can be added up over
microbatches and ranks, means cannot."""


@dataclass(frozen=True)
class Loss:
    """What a phase minimises: the weighted sum of its terms, each divided by its count over the global batch."""

    terms: Mapping[str, Term]
    logs: Mapping[str, tuple[Tensor, Tensor | int]] = field(default_factory=dict)
    """Further (sum, count) pairs to be logged, never differentiated."""


class Phase(NamedTuple):
    """One update within a step."""

    name: str
    updates: tuple[str, ...]
    """Which networks it updates; the others only pass gradients through."""
    every: int = 1
    """It runs at the steps that this divides."""


def alone(features: Features) -> tuple[dict[str, Tensor], int]:
    """This batch's rows are all that there are."""
    return {name: feature.detach() for name, feature in features.items()}, 0


@dataclass(frozen=True)
class Context:
    """What an objective may know of the moment."""

    step: int
    rows: Rows
    """Random numbers for the rows of the batch: noise, masks, latents."""
    training: bool
    everyone: Callable[[Features], tuple[dict[str, Tensor], int]] = alone
    """From this microbatch's features to those of the whole global batch, constants without gradient, and the place at
    which this microbatch's rows begin among them. Under accumulation they are what `Objective.embed` gave."""


@dataclass(frozen=True)
class NoOptions:
    """For objectives without options."""


class Objective(Protocol):
    """The contract, with the defaults that most objectives keep; write `class Mine(Objective)`.

    Models are called only as `nets["model"](...)`, with keyword arguments named like the batch's keys.
    """

    name: ClassVar[str]
    config: ClassVar[type] = NoOptions
    """The dataclass of its options: `objective.<field>` in a run's config."""
    headline: str = "loss"
    """The metric that says how good the model is; its name decides what `best` means."""
    larger_is_better: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ("target",)
    """The batch keys that the objective itself uses; the trainer drops what neither it nor the model reads."""
    may_read: ClassVar[tuple[str, ...]] = ()
    """Further keys that it uses where the data have them."""
    supplies: ClassVar[tuple[str, ...]] = ()
    """Arguments of the model's forward that the objective makes, such as a latent, and the data need not have."""

    options: Any
    spec: Spec

    def __init__(self, options: Any, spec: Spec) -> None:
        """Keep the options, an instance of `config`, and what the data are."""
        self.options, self.spec = options, spec

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Further networks (a teacher, a projection head): trained and checkpointed, never exported."""
        return {}

    def networks(self, model: nn.Module) -> dict[str, nn.Module]:
        """The networks of the model that are wrapped, called and updated each by itself."""
        return {"model": model}

    def facts(self) -> dict[str, Any]:
        """What a trained model must say of itself besides what the data tell, to be used: fields of `Preprocessing`."""
        return {}

    @classmethod
    def remembered(cls, preprocessing: Mapping[str, Any], given: Collection[str]) -> dict[str, Any]:
        """What weights that are trained further, or evaluated, say of the options: the way back from `facts`.

        Args:
            preprocessing: of the weights, fields of `Preprocessing`; empty for new ones.
            given: the options that the config names, which win.
        """
        return {}

    def phases(self) -> tuple[Phase, ...]:
        """The updates of a step, in order; the default updates the model once."""
        return (Phase("train", ("model",)),)

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """What each term of `loss` will count, known before the forward pass.

        Gradient accumulation needs it: the first microbatch must already be divided by the global count.
        The default, an empty dict, stands for one per row of the batch.
        """
        return {}

    def embed(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> dict[str, Tensor]:
        """The features of a microbatch that the losses of all others depend on; by default none do.

        Under accumulation it runs on every microbatch, without gradients, before the first `loss`; see `everyone.py`.
        """
        return {}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The loss of one phase on one microbatch."""
        ...

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """(sum, count) pairs of one batch in eval mode; sums may be tensors of any shape, counts numbers."""
        loss = self.loss(self.phases()[0], nets, batch, ctx)
        return {f"{name}_loss" if len(loss.terms) > 1 else "loss": term[:2] for name, term in loss.terms.items()}

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Metrics from the totals of `evaluate` over a whole split; by default sum / count."""
        return {name: float(total / count) for name, (total, count) in totals.items()}


OBJECTIVES: Registry[type[Objective]] = Registry(
    "objectives", "zoo.training.objectives", "OBJECTIVE", lambda objective: [objective.name]
)

DEFAULT = {
    "image-classification": "classification",
    "video-classification": "classification",
    "tabular-classification": "classification",
    "tabular-regression": "regression",
    "text-generation": "causal_lm",
    "fill-mask": "masked_lm",
    "text2text-generation": "seq2seq",
    "image-to-image": "reconstruction",
    "image-feature-extraction": "masked_reconstruction",
    "unconditional-image-generation": "adversarial",
    "zero-shot-image-classification": "contrastive",
}
"""Which objective a task is trained by when the config names none, and the data ask for no other."""


def suited(task: str | None, spec: Spec, arguments: Collection[str] = ()) -> str | None:
    """The objective for a config that names none: what the data ask for, else what is usual for the task, if known.

    Args:
        task: the model's, a pipeline tag of the Hub; None for one that is not known.
        spec: what the data are.
        arguments: those of the model's forward, which tell networks of one task apart.
    """
    usual = DEFAULT.get(task or "")
    if "timestep" in arguments:
        return "denoising"  # a diffusion network, though its task is a GAN's
    if usual == "reconstruction" and "noise" in arguments:
        return "elbo"  # its latents are drawn
    if spec.out_features is not None:
        return "forecasting"
    if "pair_tokens" in spec.keys and usual != "contrastive":
        return "sentence_embedding"
    if usual == "seq2seq" and "tokens" in spec.keys and "source" not in spec.keys and spec.num_classes is None:
        return "span_corruption"  # of a text alone, source and target are made
    if usual in ("classification", "causal_lm", "masked_lm") and spec.target_mean:
        return "regression"
    return "classification" if usual in ("causal_lm", "masked_lm") and spec.num_classes is not None else usual


def forward_arguments(batch: Batch, *, without: tuple[str, ...] = ("target",)) -> dict[str, Tensor]:
    """The batch without what only the loss needs."""
    return {key: value for key, value in batch.items() if key not in without}


def rows(batch: Batch) -> int:
    """How many samples a batch has."""
    return len(next(iter(batch.values())))
