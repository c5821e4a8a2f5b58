"""Sequence to sequence: predict each token of a target from the source and the tokens before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from zoo.training.data import IGNORE, Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase, forward_arguments
from zoo.training.objectives.tokens import token_nll


@dataclass(frozen=True, kw_only=True)
class Seq2SeqConfig:
    """Options of the objective."""

    label_smoothing: float = 0.1
    """Share of the target's probability that is spread evenly over all tokens while training (Szegedy et al., 2015);
    the default is that of Vaswani et al., 2017, section 5.4."""

    def __post_init__(self) -> None:
        """Refuse what is no share."""
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing {self.label_smoothing} is not in [0, 1)")


class Seq2Seq(Objective):
    """The mean cross-entropy of the target's next token, over tokens and not over texts.

    A batch has `source`, with `source_mask` where it is padded; `tokens`, the start token and the target without its
    last; and `target`, (batch, seq) int64: the token that follows each of `tokens`, or -100 where none is asked for.
    """

    name = "seq2seq"
    config = Seq2SeqConfig

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data are no pairs of texts.
        """
        super().__init__(options, spec)
        if spec.vocab_size is None or "source" not in spec.keys:
            given = ", ".join(spec.keys)
            raise ValueError(
                f"objective seq2seq needs data of a source and tokens, with a vocabulary, but these give {given}"
            )

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many tokens are to be predicted."""
        return {"nll": (batch["target"] != IGNORE).sum()}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The negative log-likelihood of the targets."""
        logits = nets["model"](**forward_arguments(batch))
        nll = token_nll(logits, batch["target"], self.options.label_smoothing)
        return Loss({"nll": (nll, self.counts(phase, batch, ctx)["nll"], 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """Loss, without label smoothing, and hits, over all tokens to be predicted; and texts without a miss.

        Such a text is the one that the model writes by itself when it takes the likeliest token every time: each
        token is the likeliest behind the right ones before it, and those it wrote itself.
        """
        logits, target = nets["model"](**forward_arguments(batch)), batch["target"]
        asked = target != IGNORE
        hit = logits.argmax(-1) == target
        return {
            "loss": (token_nll(logits, target), asked.sum()),
            "accuracy": ((hit & asked).sum(), asked.sum()),
            "exact_match": ((hit | ~asked).all(1).sum(), len(target)),
        }

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Nats and hits per token, perplexity, and the share of texts that are right as a whole."""
        means = {name: total / count for name, (total, count) in totals.items()}
        return {name: float(mean) for name, mean in means.items()} | {"perplexity": float(means["loss"].exp())}


OBJECTIVE = Seq2Seq
