"""Link prediction: whether two nodes of a graph are linked, told by the product of their vectors.

Source: Kipf and Welling, 2016, "Variational graph auto-encoders", the plain autoencoder of section 3.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase
from zoo.training.objectives.graphs import check_sampling, of_nodes
from zoo.training.ranking import average_precision, roc_auc
from zoo.training.rows import keep, kept


class LinkPrediction(Objective):
    """The mean binary cross-entropy over pairs of nodes, and how well their scores are ordered.

    A batch has `nodes` and `edges` of a graph, `pairs`, (2, 2 * batch) int64, and `target`, (2 * batch,), 1 where the
    two are linked and 0 where not. The model gives each node a vector, as long as its `num_classes`. The links that a
    batch asks about are hidden from the model, so the size of a microbatch matters a little: accumulation does not
    replace it.
    """

    name = "link_prediction"
    headline = "auc"
    larger_is_better = True
    reads = ("pairs", "target")

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data have no graph, or no pairs.
        """
        super().__init__(options, spec)
        if missing := [key for key in ("nodes", "edges", "pairs") if key not in spec.keys]:
            raise ValueError(
                f"objective link_prediction needs {', '.join(missing)}, but the data give {', '.join(spec.keys)}; "
                "data of one graph give pairs with data.links=true"
            )

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but a model that neighbour sampling leaves the same.

        Raises:
            ValueError: it does not.
        """
        check_sampling(model, self.spec)
        return {}

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """The pairs."""
        return {"cross_entropy": len(batch["target"])}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss, and on which side of zero the scores are."""
        scores, target = _scores(nets, batch), batch["target"]
        right = ((scores.detach() > 0) == (target > 0)).sum()
        return Loss({"cross_entropy": (_total(scores, target), len(target), 1.0)}, {"accuracy": (right, len(target))})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The loss, and all scores."""
        scores, target = _scores(nets, batch), batch["target"]
        index = torch.tensor([index for _, index in ctx.rows.samples])
        row = keep(torch.stack([*scores.view(2, -1), *target.view(2, -1)], dim=1), index)
        return {"loss": (_total(scores, target), len(target)), "pairs": (row, len(target))}

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The loss, the area under the ROC curve, and the average precision, over all pairs of the split."""
        scores, target = (side.flatten() for side in kept(totals["pairs"][0]).chunk(2, dim=1))
        return {
            "loss": float(torch.div(*totals["loss"])),
            "auc": roc_auc(scores, target),
            "average_precision": average_precision(scores, target),
        }


def _scores(nets: Networks, batch: Batch) -> Tensor:
    """(2 * batch,)."""
    first, second = of_nodes(nets, batch)[batch["pairs"]]
    return (first * second).sum(-1)


def _total(scores: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(scores, target.to(scores), reduction="sum")


OBJECTIVE = LinkPrediction
