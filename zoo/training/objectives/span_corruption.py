"""Span corruption: write down the stretches of a text that were cut out.

Source: Raffel et al., 2019, "Exploring the limits of transfer learning with a unified text-to-text transformer",
sections 3.1.4 and 3.3.4; lengths are drawn as in the released code, so that every text of a length becomes a source
and a target of the same lengths.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from zoo.tokenizer import BYTES, SENTINELS
from zoo.training.data import IGNORE, Spec
from zoo.training.objectives import Batch, Context, Loss, Networks, Objective, Phase
from zoo.training.objectives.tokens import check_mask, check_tokens, token_nll
from zoo.training.random import Rows
from zoo.weights import TOKENIZER


@dataclass(frozen=True, kw_only=True)
class SpanCorruptionConfig:
    """Options of the objective; the defaults are T5's."""

    rate: float = 0.15
    """The share of tokens that are cut out."""
    span: float = 3.0
    """The mean length of a stretch."""
    sentinel: int | None = None
    """What stands for the first stretch; the one before it for the second, and so on. By default the tokenizer's
    `<extra_id_0>`; without a tokenizer the last token of the vocabulary, or for bytes 355: the model then needs a
    vocab_size of 356."""
    start_token: int | None = None
    """What the decoder reads first; by default the model's own, or of one that has none T5's, 0."""
    stop_token: int | None = None
    """What ends source and target; by default the model's own, or of one that has none T5's, 1."""

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
    """The stretches, a sentinel before each; -100 where a text has fewer tokens than the batch has room for."""
    source_mask: Tensor | None = None
    """True where the source has a token; None where there is no padding."""


class SpanCorruption(Objective):
    """The mean cross-entropy of the target's tokens.

    A batch has `tokens`, (batch, seq) int64, and where texts are padded behind, `mask`, (batch, seq) bool. The model
    takes `source` and `tokens`, with a mask also `source_mask`, and gives logits, (batch, target's seq, vocab).
    """

    name = "span_corruption"
    config = SpanCorruptionConfig
    reads = ("tokens",)
    may_read = ("mask",)
    supplies = ("source", "tokens", "source_mask")

    def __init__(self, options: Any, spec: Spec) -> None:
        """See `Objective`.

        Raises:
            ValueError: the data are no tokens, or their tokenizer has no sentinels.
        """
        super().__init__(options, spec)
        self.sentinel, self.sentinels = _sentinels(check_tokens(self.name, spec), spec, options.sentinel)
        self.start_token = 0 if options.start_token is None else options.start_token
        self.stop_token = 1 if options.stop_token is None else options.stop_token

    def build(self, model: nn.Module) -> dict[str, nn.Module]:
        """Nothing more is needed, but the model must know the sentinels, and begin and end texts as they are here.

        Raises:
            ValueError: its vocabulary is too small, its tokens are others, or it takes no mask where there is one.
        """
        check_mask(model, self.spec, "source_mask")
        config = getattr(model, "config", None)
        for name in ("start_token", "stop_token"):
            own, given = getattr(config, name, None), getattr(self.options, name)
            if own is not None and given not in (None, own):
                raise ValueError(f"objective.{name} {given} is not the model's, which is {own}; leave it out")
            if own is not None:
                setattr(self, name, own)
        size = getattr(config, "vocab_size", None)
        if size is not None and size <= self.sentinel:
            raise ValueError(
                f"the model has a vocabulary of {size}, and sentinels begin at {self.sentinel}; "
                f"set model.vocab_size={self.sentinel + 1}"
            )
        return {}

    def counts(self, phase: Phase, batch: Batch, ctx: Context) -> dict[str, Tensor | int]:
        """How many tokens the targets have."""
        sizes = [self._sizes(length) for length in _lengths(batch) if length > 1]
        return {"nll": sum(cut + spans + 1 for cut, spans in sizes)}

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

    def _judged(self, nets: Networks, batch: Batch, ctx: Context) -> tuple[Tensor, Tensor, Tensor | int]:
        made = self.corrupt(batch["tokens"], ctx) if "mask" not in batch else self._corrupt_padded(batch, ctx)
        inputs = {"source": made.source, "tokens": made.tokens, "source_mask": made.source_mask}
        logits = nets["model"](**{name: value for name, value in inputs.items() if value is not None}).float()
        hits, count = (logits.argmax(-1) == made.target).sum(), (made.target != IGNORE).sum()
        return token_nll(logits, made.target), hits, count

    def _corrupt_padded(self, batch: Batch, ctx: Context) -> Corrupted:
        """Cut stretches out of texts of several lengths; one of less than two tokens is asked for nothing."""
        tokens, lengths = batch["tokens"], _lengths(batch)
        cut, spans = self._sizes(tokens.shape[1])
        source = tokens.new_full((len(tokens), tokens.shape[1] - cut + spans + 1), self.stop_token)
        target = tokens.new_full((len(tokens), cut + spans + 1), IGNORE)
        read, mask = torch.full_like(target, self.start_token), torch.zeros_like(source, dtype=torch.bool)
        mask[:, 0] = True  # encoders must have something to read
        for length in {length for length in lengths if length > 1}:
            rows = [row for row, having in enumerate(lengths) if having == length]
            own = Rows(ctx.rows.seed, ctx.rows.prefix, [ctx.rows.samples[row] for row in rows], ctx.rows.device)
            part = self.corrupt(tokens[rows, :length], replace(ctx, rows=own))
            for whole, piece in zip((source, read, target), part[:3], strict=True):
                whole[rows, : piece.shape[1]] = piece
            mask[rows, : part.source.shape[1]] = True
        return Corrupted(source, read, target, mask)

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
        stop = tokens.new_full((batch, 1), self.stop_token)
        marked = torch.stack([sentinel, sentinel], dim=-1).flatten(1).gather(1, piece)  # each token's stretch
        is_cut, first = piece % 2 == 1, torch.zeros_like(tokens, dtype=torch.bool)
        first[:, 1:] = piece[:, 1:] != piece[:, :-1]
        first[:, 0] = True
        source = torch.where(is_cut, marked, tokens)[~is_cut | first].view(batch, -1)
        written = torch.stack([marked, tokens], dim=-1)  # before a stretch's first token stands its sentinel
        chosen = torch.stack([is_cut & first, is_cut], dim=-1)
        target = torch.cat([written[chosen].view(batch, -1), stop], dim=1)
        start = tokens.new_full((batch, 1), self.start_token)
        return Corrupted(torch.cat([source, stop], dim=1), torch.cat([start, target[:, :-1]], dim=1), target)

    def _sizes(self, seq: int) -> tuple[int, int]:
        """How many tokens of a text are cut out, and in how many stretches."""
        if seq < 2:
            raise ValueError(f"texts of {seq} token leave nothing to cut; set data.seq_len to 2 or more")
        cut = min(max(round(seq * self.options.rate), 1), seq - 1)
        spans = min(max(round(cut / self.options.span), 1), cut, seq - cut)
        if spans > self.sentinels:
            raise ValueError(
                f"texts of {seq} tokens would lose {spans} stretches, and {self.sentinels} can be told apart; "
                f"set a larger objective.span or a smaller data.seq_len"
            )
        return cut, spans


def _lengths(batch: Batch) -> list[int]:
    """How many tokens each text has."""
    tokens = batch["tokens"]
    return batch["mask"].sum(1).tolist() if "mask" in batch else [tokens.shape[1]] * len(tokens)


def _sentinels(vocab_size: int, spec: Spec, first: int | None) -> tuple[int, int]:
    """The first sentinel, and how many there are from it downwards.

    Args:
        vocab_size: of the data.
        spec: of the data, whose tokenizer may have names for them.
        first: the one that the config names.

    Raises:
        ValueError: nothing says which tokens are sentinels.
    """
    if vocab_size == BYTES:
        first = BYTES + SENTINELS - 1 if first is None else first
        return first, min(SENTINELS, first + 1 - BYTES)
    if not spec.tokenizer:
        first = vocab_size - 1 if first is None else first
        return first, min(SENTINELS, first + 1)
    added = json.loads(spec.tokenizer[TOKENIZER]).get("added_tokens") or ()
    named = {token["content"]: token["id"] for token in added}
    if first is None:
        first = named.get("<extra_id_0>")
    if first is None:
        raise ValueError(
            "the tokenizer has no '<extra_id_0>', so nothing stands for what is cut out; take one of T5's kind, or "
            "name the first of 100 tokens that no text has by objective.sentinel"
        )
    if first != named.get("<extra_id_0>"):
        return first, min(SENTINELS, first + 1)
    return first, next(n for n in range(1, first + 2) if named.get(f"<extra_id_{n}>") != first - n)


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
