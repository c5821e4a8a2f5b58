"""Sentence embedding by contrast: each text shall lie nearer to its partner than to any other of the batch.

Source: the loss is van den Oord et al., 2018, "Representation learning with contrastive predictive coding", equation
4, in both directions; texts are averaged over their tokens as in Reimers and Gurevych, 2019, "Sentence-BERT".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zoo.pipelines.embed import pool
from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase
from zoo.training.retrieval import pair_losses, recalls
from zoo.training.rows import keep, kept

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
    others of a microbatch are the rivals, so that its size matters: accumulation does not replace it. When evaluating,
    those of the whole split are.
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
        first, second = self._vectors(nets, batch)
        logits, partner = first @ second.T / self.options.temperature, torch.arange(len(first), device=first.device)
        directions = [F.cross_entropy(scores, partner, reduction="sum") for scores in (logits, logits.T)]
        return Loss({"contrast": ((directions[0] + directions[1]) / 2, len(first), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """The vectors of this batch, to be compared with those of the whole split."""
        places = torch.tensor([index for _, index in ctx.rows.samples])
        return {
            name: (keep(vectors, places), len(places))
            for name, vectors in zip(("text", "partner"), self._vectors(nets, batch), strict=True)
        }

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """The loss, and how well texts find their partners, and partners their texts, among all of the split."""
        first, second = (kept(totals[name][0]) for name in ("text", "partner"))
        return {"loss": pair_losses(first, second, 1 / self.options.temperature, 0.0, False), **recalls(first, second)}

    def _vectors(self, nets: Networks, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of texts and of their partners, (batch, dim) of length 1."""
        first = _mean(nets["model"](tokens=batch["tokens"], mask=batch["mask"]), batch["mask"])
        second = _mean(nets["model"](tokens=batch["pair_tokens"], mask=batch["pair_mask"]), batch["pair_mask"])
        return F.normalize(first, dim=-1), F.normalize(second, dim=-1)


def _mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens that there are, (batch, dim)."""
    if vectors.ndim != 3:
        raise ValueError(
            f"the model gives shape {tuple(vectors.shape)}, not a vector for each token; "
            f"take an encoder without a head, such as bert with model.head=none"
        )
    return pool(vectors, mask, "mean").float()


OBJECTIVE = SentenceEmbedding
