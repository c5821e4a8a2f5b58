"""Node classification: which of several classes a node of a graph belongs to."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.training.data import IGNORE, Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase
from zoo.training.objectives.graphs import about, check_sampling
from zoo.training.objectives.labels import check_classes, check_logits, hits


class NodeClassification(Objective):
    """The mean cross-entropy over the nodes that are asked for, and the hits among them.

    A batch has `nodes` and `edges` of a graph; `asked`, (batch,) int64, says which nodes the samples are, and `target`,
    (batch,) int64, of which classes. Without `asked`, `target` is (num_nodes,), -100 where nothing is asked for. The
    model gives logits, (num_nodes, classes).
    """

    name = "node_classification"
    headline = "accuracy"
    larger_is_better = True
    may_read = ("asked",)

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data have no classes, or no graph.
        """
        super().__init__(options, spec)
        check_classes(self.name, spec, "nodes", "edges")
        if "graph" in spec.keys:
            raise ValueError(
                "objective node_classification asks about nodes, but the data give classes of whole graphs; "
                "set objective.name=graph_classification"
            )

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but a model that neighbour sampling leaves the same.

        Raises:
            ValueError: it does not.
        """
        check_sampling(model, self.spec)
        return {}

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """The nodes that are asked for."""
        return {"cross_entropy": _asked(batch)}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss, and the hits for the log."""
        nll, right = self._totals(nets, batch)
        return Loss({"cross_entropy": (nll, _asked(batch), 1.0)}, {"accuracy": (right, _asked(batch))})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The loss and the hits."""
        nll, right = self._totals(nets, batch)
        return {"loss": (nll, _asked(batch)), "accuracy": (right, _asked(batch))}

    def _totals(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood and the hits, summed."""
        logits, target = about(nets, batch), batch["target"]
        check_logits(logits, target, self.spec)
        return F.cross_entropy(logits, target, ignore_index=IGNORE, reduction="sum"), hits(logits, target)


def _asked(batch: Batch) -> Tensor:
    return (batch["target"] != IGNORE).sum()


OBJECTIVE = NodeClassification
