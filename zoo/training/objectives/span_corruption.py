"""Span corruption: write down the stretches of a text that were cut out.

Source: Raffel et al., 2019, "Exploring the limits of transfer learning with a unified text-to-text transformer",
sections 3.1.4 and 3.3.4; lengths are drawn as in the released code, so that every text of a length becomes a source
and a target of the same lengths.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.tokenizer import BYTES, SENTINELS
from zoo.training.data import Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase
from zoo.training.objectives.tokens import check_tokens


@dataclass(frozen=True, kw_only=True)
class SpanCorruptionConfig:
    """Options of the objective; the defaults are T5's."""

    rate: float = 0.15
    """The share of tokens that are cut out."""
    span: float = 3.0
    """The mean length of a stretch."""
    sentinel: int | None = None
    """What stands for the first stretch; the one before it for the second, and so on. By default the last token of
    the vocabulary, or for bytes 355: the model then needs a vocab_size of 356."""
    start_token: int = 0
    """What the decoder reads first."""
    stop_token: int = 1
    """What ends source and target."""

    def __post_init__(self) -> None:
        """Refuse what cuts out nothing, or everything."""
        if not 0 < self.rate < 1:
            raise ValueError(f"rate {self.rate} is not in (0, 1)")
        if self.span < 1:
            raise ValueError(f"span {self.span} is below 1")


class Corrupted(NamedTuple):
    """A batch as the model shall read it."""

    source: Tensor
    """What is left, with a sentinel for each stretch, (batch, seq) int64."""
    tokens: Tensor
    """What the decoder reads: the start, then the target but for its last token."""
    target: Tensor
    """The stretches, a sentinel before each."""


class SpanCorruption(Objective):
    """The mean cross-entropy of the target's tokens.

    A batch has `tokens`, (batch, seq) int64, whole texts. The model takes `source` and `tokens` and gives logits,
    (batch, target's seq, vocab).
    """

    name = "span_corruption"
    config = SpanCorruptionConfig
    reads = ("tokens",)
    supplies = ("source", "tokens")

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data are no tokens.
        """
        super().__init__(options, spec)
        vocab_size = check_tokens(self.name, spec)
        last = BYTES + SENTINELS - 1 if vocab_size == BYTES else vocab_size - 1
        self.sentinel = last if options.sentinel is None else options.sentinel

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but the model must know the sentinels.

        Raises:
            ValueError: its vocabulary is too small.
        """
        size = getattr(getattr(model, "config", None), "vocab_size", None)
        if size is not None and size <= self.sentinel:
            raise ValueError(
                f"the model has a vocabulary of {size}, and sentinels begin at {self.sentinel}; "
                f"set model.vocab_size={self.sentinel + 1}"
            )
        return {}

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many tokens the targets have."""
        cut, spans = self._sizes(batch["tokens"].shape[1])
        return {"nll": len(batch["tokens"]) * (cut + spans + 1)}

    def loss(self, phase: Phase, nets: Networks, batch: Batch, ctx: Context) -> Loss:
        """The negative log-likelihood of the targets."""
        total, _, count = self._judged(nets, batch, ctx)
        return Loss({"nll": (total, count, 1.0)})

    def evaluate(self, nets: Networks, batch: Batch, ctx: Context) -> dict[str, tuple[Tensor, Tensor | int]]:
        """Loss and hits per token; a text loses the same stretches in every evaluation."""
        total, hits, count = self._judged(nets, batch, ctx)
        return {"loss": (total, count), "accuracy": (hits, count)}

    def summarize(self, totals: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, float]:
        """Nats and hits per token of the target, and perplexity."""
        metrics = super().summarize(totals)
        return metrics | {"perplexity": float(torch.tensor(metrics["loss"]).exp())}

    def _judged(self, nets: Networks, batch: Batch, ctx: Context) -> tuple[Tensor, Tensor, int]:
        source, tokens, target = self.corrupt(batch["tokens"], ctx)
        logits = nets["model"](source=source, tokens=tokens).float()
        total = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum")
        return total, (logits.argmax(-1) == target).sum(), target.numel()

    def corrupt(self, tokens: Tensor, ctx: Context) -> Corrupted:
        """Cut stretches out of texts.

        Args:
            tokens: (batch, seq) int64, seq at least 2.
            ctx: whose rows say which.
        """
        batch, seq = tokens.shape
        cut, spans = self._sizes(seq)
        kept_lengths = _pieces(ctx.rows.uniform("kept", (seq - cut - 1,)), seq - cut, spans)
        cut_lengths = _pieces(ctx.rows.uniform("cut", (cut - 1,)), cut, spans)
        lengths = torch.stack([kept_lengths, cut_lengths], dim=-1).flatten(1)  # kept, cut, kept, cut, ...
        ends = lengths.cumsum(-1)
        piece = torch.searchsorted(ends, torch.arange(seq, device=tokens.device).repeat(batch, 1), right=True)
        sentinel = self.sentinel - torch.arange(spans, device=tokens.device).expand(batch, spans)
        stop = tokens.new_full((batch, 1), self.options.stop_token)
        marked = torch.stack([sentinel, sentinel], dim=-1).flatten(1).gather(1, piece)  # each token's stretch
        is_cut, first = piece % 2 == 1, torch.zeros_like(tokens, dtype=torch.bool)
        first[:, 1:] = piece[:, 1:] != piece[:, :-1]
        first[:, 0] = True
        source = torch.where(is_cut, marked, tokens)[~is_cut | first].view(batch, -1)
        written = torch.stack([marked, tokens], dim=-1)  # before a stretch's first token stands its sentinel
        chosen = torch.stack([is_cut & first, is_cut], dim=-1)
        target = torch.cat([written[chosen].view(batch, -1), stop], dim=1)
        start = tokens.new_full((batch, 1), self.options.start_token)
        return Corrupted(torch.cat([source, stop], dim=1), torch.cat([start, target[:, :-1]], dim=1), target)

    def _sizes(self, seq: int) -> tuple[int, int]:
        """How many tokens of a text are cut out, and in how many stretches."""
        if seq < 2:
            raise ValueError(f"texts of {seq} token leave nothing to cut; set data.seq_len to 2 or more")
        cut = min(max(round(seq * self.options.rate), 1), seq - 1)
        spans = min(max(round(cut / self.options.span), 1), cut, seq - cut)
        if self.spec.vocab_size == BYTES and spans > SENTINELS:
            raise ValueError(
                f"texts of {seq} bytes would lose {spans} stretches, and {SENTINELS} can be told apart; "
                f"set a larger objective.span or a smaller data.seq_len"
            )
        return cut, spans


def _pieces(random: Tensor, total: int, count: int) -> Tensor:
    """Cut `total` things into `count` pieces of at least one, all ways being as likely.

    Args:
        random: (batch, total - 1), uniform; the `count - 1` largest say after which things the cuts are.
        total: how many things.
        count: how many pieces.

    Returns:
        Their lengths, (batch, count) int64.
    """
    cuts = random.topk(count - 1).indices.sort().values + 1 if count > 1 else random.new_zeros(len(random), 0).long()
    ends = torch.cat([cuts, cuts.new_full((len(cuts), 1), total)], dim=1)
    return ends.diff(dim=1, prepend=ends.new_zeros(len(ends), 1))


OBJECTIVE = SpanCorruption
