"""Causal language modelling: predict each token from those before it."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from zoo.tokenizer import BYTES
from zoo.training.data import IGNORE, Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, forward_arguments
from zoo.training.objectives.tokens import check_tokens, token_nll


@dataclass(frozen=True, kw_only=True)
class CausalLMConfig:
    """Options of the objective."""

    label_smoothing: float = 0.0
    """Share of the target's probability that is spread evenly over all tokens while training."""

    truncate: int | None = None
    """For models with a state: after so many positions the state is carried on, but no gradient passes back through it
    (truncated back-propagation through time; Williams and Peng, 1990)."""

    def __post_init__(self) -> None:
        """Refuse what is no share, and pieces of nothing."""
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing} is not in [0, 1)")
        if self.truncate is not None and self.truncate < 1:
            raise ValueError(f"truncate {self.truncate} is below 1")


class CausalLM(Objective):
    """The mean cross-entropy of the next token, over tokens and not over texts.

    A batch has `target`, (batch, seq) int64: the token that follows each position, or -100 where none is asked
    for. The model takes the rest and gives logits, (batch, seq, vocab); but not a `mask`, for padding stands behind
    the tokens, where none of them sees it.
    """

    name = "causal_lm"
    config = CausalLMConfig

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data are no tokens.
        """
        super().__init__(options, spec)
        check_tokens(self.name, spec)

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many tokens are to be predicted."""
        return {"nll": (batch["target"] != IGNORE).sum()}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The negative log-likelihood of the targets."""
        logits = self._logits(nets, batch)
        nll = token_nll(logits, batch["target"], self.options.label_smoothing)
        return Loss({"nll": (nll, self.counts(phase, batch, ctx)["nll"], 1.0)})

    def _logits(self, nets: Networks, batch: Batch) -> Tensor:
        """Scores at every position, (batch, seq, vocab); gradients pass back `truncate` positions at the most."""
        if self.options.truncate is None:
            return nets["model"](**_inputs(batch))
        bare: Any = getattr(nets["model"], "module", nets["model"])  # below what spreads it over ranks
        if "state" not in inspect.signature(bare.forward).parameters:
            raise ValueError(
                f"objective.truncate is for models with a state, such as lstm; leave it out for {type(bare).__name__}"
            )
        state, logits = bare.new_state(batch["tokens"].shape[1]), []
        for piece in batch["tokens"].split(self.options.truncate, dim=1):
            scores, state = nets["model"](tokens=piece, state=state)
            state = tree_map_only(Tensor, Tensor.detach, state)
            logits.append(scores)
        return torch.cat(logits, dim=1)

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """Loss, without label smoothing, and hits, over all tokens to be predicted."""
        logits, target = nets["model"](**_inputs(batch)), batch["target"]
        count = (target != IGNORE).sum()
        return {"loss": (token_nll(logits, target), count), "accuracy": ((logits.argmax(-1) == target).sum(), count)}

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Nats and hits per token, perplexity, and bits per byte where the tokens are bytes."""
        means = {name: total / count for name, (total, count) in totals.items()}
        metrics = {name: float(mean) for name, mean in means.items()} | {"perplexity": float(means["loss"].exp())}
        if self.spec.vocab_size == BYTES:
            metrics["bits_per_byte"] = metrics["loss"] / math.log(2)
        return metrics


def _inputs(batch: Batch) -> dict[str, Tensor]:
    return forward_arguments(batch, without=("target", "mask"))


OBJECTIVE = CausalLM
