"""Masked language modelling: guess the tokens that were hidden, from both sides.

Source: Devlin et al., 2018, "BERT", section 3.1; which tokens are hidden is drawn anew whenever a text comes up, as
in Liu et al., 2019, "RoBERTa", section 4.1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.tokenizer import BYTES
from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, forward_arguments
from zoo.training.objectives.tokens import check_mask, check_tokens

UNUSED_BYTE = 255
"""It never occurs in UTF-8, so it can stand for what is hidden."""
HIDDEN, SWAPPED = 0.8, 0.1
"""Of the chosen tokens so many are hidden, so many replaced by a random one, and the rest stay as they are."""


@dataclass(frozen=True, kw_only=True)
class MaskedLMConfig:
    """Options of the objective."""

    rate: float = 0.15
    """The share of tokens that are chosen."""
    mask_token: int | None = None
    """What stands for a hidden token; where tokens are bytes, by default the one that no text has."""

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 < self.rate <= 1:
            raise ValueError(f"rate {self.rate} is not in (0, 1]")


class MaskedLM(Objective):
    """The mean cross-entropy of the chosen tokens.

    A batch has `tokens`, (batch, seq) int64, and may have `mask`, (batch, seq) bool, False where there is no token,
    and `segments`. The model gives logits, (batch, seq, vocab). A `target` that the data may have is not used.
    """

    name = "masked_lm"
    config = MaskedLMConfig
    reads = ()

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data are no tokens, or nothing says which one stands for hidden ones.
        """
        super().__init__(options, spec)
        vocab_size = check_tokens(self.name, spec)
        self.mask_token = UNUSED_BYTE if options.mask_token is None else options.mask_token
        if options.mask_token is None and vocab_size != BYTES:
            raise ValueError("objective.mask_token is missing; give the number of the tokenizer's mask token")
        if not 0 <= self.mask_token < vocab_size:
            raise ValueError(f"objective.mask_token {self.mask_token} is not in a vocabulary of {vocab_size}")

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but the model must take the mask that the data have.

        Raises:
            ValueError: it does not.
        """
        check_mask(model, self.spec, "mask")
        return {}

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many tokens are chosen."""
        return {"nll": self._chosen(batch, ctx).sum()}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The negative log-likelihood of the chosen tokens."""
        chosen = self._chosen(batch, ctx)
        logits = self._logits(nets, batch, chosen, ctx)
        return Loss({"nll": (F.cross_entropy(logits, batch["tokens"][chosen], reduction="sum"), chosen.sum(), 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """Loss and hits over the chosen tokens; a text's are the same in every evaluation."""
        chosen = self._chosen(batch, ctx)
        logits, target, count = self._logits(nets, batch, chosen, ctx), batch["tokens"][chosen], chosen.sum()
        loss = F.cross_entropy(logits, target, reduction="sum")
        return {"loss": (loss, count), "accuracy": ((logits.argmax(-1) == target).sum(), count)}

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Nats and hits per chosen token, and bits where the tokens are bytes."""
        metrics = super().summarize(totals)
        return metrics | ({"bits_per_byte": metrics["loss"] / math.log(2)} if self.spec.vocab_size == BYTES else {})

    def _chosen(self, batch: Batch, ctx: Context) -> Tensor:
        """Which tokens are to be guessed, (batch, seq) bool; drawn from the samples, so the same at every call."""
        chosen = ctx.rows.uniform("chosen", batch["tokens"].shape[1:]) < self.options.rate
        return chosen & batch["mask"] if "mask" in batch else chosen

    def _logits(self, nets: Networks, batch: Batch, chosen: Tensor, ctx: Context) -> Tensor:
        """Scores for the chosen tokens, (chosen, vocab), by a model that does not see most of them."""
        tokens = batch["tokens"]
        fate = ctx.rows.uniform("fate", tokens.shape[1:])
        other = ctx.rows.integers("other", self.spec.vocab_size or 0, tokens.shape[1:])
        seen = torch.where(chosen & (fate < HIDDEN), self.mask_token, tokens)
        seen = torch.where(chosen & (fate >= HIDDEN) & (fate < HIDDEN + SWAPPED), other, seen)
        logits = nets["model"](**forward_arguments({**batch, "tokens": seen}))
        return logits[chosen].float()


OBJECTIVE = MaskedLM
