"""Classification: which of several classes a sample belongs to."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, Term, forward_arguments, rows

MANY_CLASSES = 50
"""From so many on, whether the target is among the five best is worth knowing too."""


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """Options of the objective."""

    loss: Literal["cross_entropy", "perceptron"] = "cross_entropy"
    """`perceptron` is Rosenblatt's criterion; with plain SGD, lr 1 and batches of one it is his learning rule."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread evenly over all classes while training."""
    aux_weight: float = 0.3
    """The weight of each auxiliary head's loss, where the model has some (Szegedy et al., 2014, section 5)."""

    def __post_init__(self) -> None:
        """Refuse what is no share, and smoothing of what is no probability."""
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing} is not in [0, 1)")
        if not self.aux_weight >= 0:
            raise ValueError(f"aux_weight {self.aux_weight} is negative; 0 leaves the auxiliary heads out of the loss")
        if self.label_smoothing and self.loss == "perceptron":
            raise ValueError(f"label_smoothing {self.label_smoothing} needs loss cross_entropy, not perceptron")


class Classification(Objective):
    """The mean loss over samples; hits are counted.

    A batch has `target`, (batch,) int64; the model takes the rest and gives logits, (batch, classes), or these and
    a tuple of those of its auxiliary heads, which are trained along and not evaluated.
    """

    name = "classification"
    config = ClassificationConfig
    headline = "accuracy"
    larger_is_better = True

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data have no classes, or are graphs.
        """
        super().__init__(options, spec)
        if "edges" in spec.keys:
            goal = "graph_classification" if "graph" in spec.keys else "node_classification"
            raise ValueError(f"objective classification reads no graphs; set objective.name={goal}")
        if spec.num_classes is None or spec.num_classes < 2:
            raise ValueError(
                f"objective classification needs data with two classes or more, not {spec.num_classes}; "
                "set objective.name=regression where the target is a quantity"
            )

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss, and the hits for the log."""
        (logits, *aux), target, count = self._logits(nets, batch), batch["target"], rows(batch)
        totals = [self._total(each, target, self.options.label_smoothing) for each in (logits, *aux)]
        terms: dict[str, Term] = {self.options.loss: (totals[0], count, 1.0)}
        terms |= {f"aux{i}": (total, count, self.options.aux_weight) for i, total in enumerate(totals[1:], start=1)}
        return Loss(terms, {"accuracy": (_hits(logits, target, 1), count)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The loss, without label smoothing, and the hits."""
        logits, target, count = self._logits(nets, batch)[0], batch["target"], rows(batch)
        metrics = {"loss": self._total(logits, target), "accuracy": _hits(logits, target, 1)}
        if logits.shape[-1] >= MANY_CLASSES:
            metrics["top5_accuracy"] = _hits(logits, target, 5)
        return {name: (total, count) for name, total in metrics.items()}

    def _total(self, logits: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        if self.options.loss == "perceptron":
            return perceptron_criterion(logits, target).sum()
        return F.cross_entropy(logits, target, reduction="sum", label_smoothing=label_smoothing)

    def _logits(self, nets: Networks, batch: Batch) -> list[Tensor]:
        """The logits, and after them those of auxiliary heads."""
        output = nets["model"](**forward_arguments(batch))
        logits, *aux = (output[0], *output[1]) if isinstance(output, tuple) else (output,)
        classes = self.spec.num_classes or 0
        if logits.shape[:-1] != batch["target"].shape or logits.shape[-1] < classes:
            raise ValueError(
                f"the model gives logits of shape {tuple(logits.shape)} for targets of shape "
                f"{tuple(batch['target'].shape)} in {classes} classes; set model.num_classes={classes}"
            )
        return [each.float() for each in (logits, *aux)]


def perceptron_criterion(logits: Tensor, target: Tensor) -> Tensor:
    """By how much the best rival beats the target, or 0: max(0, max_{j != y} s_j - s_y).

    Its gradient is Rosenblatt's rule: nothing where the target wins, else +1 for the rival and -1 for the target.
    A tie counts as a mistake, or a perceptron that starts from zero would never begin.

    Args:
        logits: (batch, classes).
        target: (batch,) int64.

    Returns:
        (batch,)

    Source: Rosenblatt (1958); for several classes Duda and Hart (1973), "Kesler's construction".
    """
    own = logits.gather(1, target[:, None])
    rival = logits.scatter(1, target[:, None], -torch.inf).max(1, keepdim=True).values  # one rival, also in a tie
    margin = (rival - own).squeeze(1)
    return torch.where(margin >= 0, margin, 0)  # relu and clamp have no gradient in a tie


def _hits(logits: Tensor, target: Tensor, k: int) -> Tensor:
    return (logits.detach().topk(k).indices == target[:, None]).sum()


OBJECTIVE = Classification
