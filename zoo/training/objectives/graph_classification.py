"""Graph classification: which of several classes a whole graph belongs to."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, inputs
from zoo.training.objectives.labels import check_classes, check_logits, hits


class GraphClassification(Objective):
    """The mean cross-entropy over graphs, and the hits among them.

    A batch has `nodes` and `edges` of several graphs, `graph`, (num_nodes,) int64, which says to which of them each
    node belongs, and `target`, (batch,) int64. The model takes these and their number, for the last ones may have no
    nodes, and gives logits, (batch, classes).
    """

    name = "graph_classification"
    headline = "accuracy"
    larger_is_better = True

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data have no classes, or no graphs.
        """
        super().__init__(options, spec)
        check_classes(self.name, spec, "nodes", "edges", "graph")

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but a model that reads out whole graphs.

        Raises:
            ValueError: it does not.
        """
        if getattr(getattr(model, "config", None), "readout", "its own way") is None:
            raise ValueError(
                f"{type(model).__name__} answers for nodes, and the data ask about whole graphs; set "
                "model.readout=sum, or mean"
            )
        return {}

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """The graphs."""
        return {"cross_entropy": len(batch["target"])}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss, and the hits for the log."""
        (nll, right), count = self._totals(nets, batch), len(batch["target"])
        return Loss({"cross_entropy": (nll, count, 1.0)}, {"accuracy": (right, count)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The loss and the hits."""
        (nll, right), count = self._totals(nets, batch), len(batch["target"])
        return {"loss": (nll, count), "accuracy": (right, count)}

    def _totals(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """The negative log-likelihood and the hits, summed."""
        target = batch["target"]
        logits = nets["model"](**inputs(batch, ("nodes", "edges", "graph"))).float()
        check_logits(logits, target, self.spec)
        return F.cross_entropy(logits, target, reduction="sum"), hits(logits, target)


OBJECTIVE = GraphClassification
