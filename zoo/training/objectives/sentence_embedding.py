"""Sentence embedding by contrast: each text shall lie nearer to its partner than to any other of the batch.

Source: the loss is van den Oord et al., 2018, "Representation learning with contrastive predictive coding", equation
4, in both directions; texts are averaged over their tokens as in Reimers and Gurevych, 2019, "Sentence-BERT".
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.pipelines.embed import pool
from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase

PAIR = ("tokens", "mask", "pair_tokens", "pair_mask")


@dataclass(frozen=True, kw_only=True)
class SentenceEmbeddingConfig:
    """Options of the objective."""

    temperature: float = 0.05
    """Cosines are divided by it (Gao et al., 2021, "SimCSE", section 3)."""

    def __post_init__(self) -> None:
        """Refuse what cannot divide."""
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature} is not positive")


class SentenceEmbedding(Objective):
    """The mean cross-entropy of finding each text's partner among those of the batch, from either side.

    A batch has `tokens` and `mask`, (batch, seq), and `pair_tokens` and `pair_mask`, (batch, other seq), of which rows
    of the same number belong together. The model takes `tokens` and `mask` and gives vectors, (batch, seq, dim). The
    others of a microbatch are the rivals, so that its size matters: accumulation does not replace it.
    """

    name = "sentence_embedding"
    config = SentenceEmbeddingConfig
    headline = "recall@1"
    larger_is_better = True
    reads = PAIR

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data are no pairs of texts.
        """
        super().__init__(options, spec)
        if missing := [key for key in PAIR if key not in spec.keys]:
            raise ValueError(f"objective sentence_embedding needs pairs of texts; the data lack {', '.join(missing)}")

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The summed loss of both directions."""
        cosines = self._cosines(nets, batch)
        return Loss({"contrast": (self._contrast(cosines), len(cosines), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The loss, and how often a text's partner is the nearest, or among the ten nearest, of the batch.

        Among those that are equally near, as all are to an encoder that tells nothing apart, chance decides: a hit
        counts by its probability.
        """
        cosines = self._cosines(nets, batch)
        metrics = {"loss": self._contrast(cosines)} | {f"recall@{k}": _found(cosines, k).sum() for k in (1, 10)}
        return {name: (total, len(cosines)) for name, total in metrics.items()}

    def _cosines(self, nets: Networks, batch: Batch) -> Tensor:
        """(batch, batch): texts in rows, partners in columns."""
        first = _mean(nets["model"](tokens=batch["tokens"], mask=batch["mask"]), batch["mask"])
        second = _mean(nets["model"](tokens=batch["pair_tokens"], mask=batch["pair_mask"]), batch["pair_mask"])
        return F.normalize(first, dim=-1) @ F.normalize(second, dim=-1).T

    def _contrast(self, cosines: Tensor) -> Tensor:
        logits, partner = cosines / self.options.temperature, torch.arange(len(cosines), device=cosines.device)
        directions = [F.cross_entropy(scores, partner, reduction="sum") for scores in (logits, logits.T)]
        return (directions[0] + directions[1]) / 2


def _found(cosines: Tensor, k: int) -> Tensor:
    """How probably each row's partner, on the diagonal, is among its k nearest; 0 where a number is none."""
    own = cosines.diagonal()[:, None]
    nearer, alike = (cosines > own).sum(1), (cosines == own).sum(1)
    return ((k - nearer) / alike).clamp(0, 1).masked_fill(cosines.isnan().any(1), 0)


def _mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens that there are, (batch, dim)."""
    if vectors.ndim != 3:
        raise ValueError(
            f"the model gives shape {tuple(vectors.shape)}, not a vector for each token; "
            f"take an encoder without a head, such as bert with model.head=none"
        )
    return pool(vectors, mask, "mean").float()


OBJECTIVE = SentenceEmbedding
