"""Generation for encoder-decoders: a text is written while another one, the source, is looked at.

The model's part (`EncoderDecoder`) is that of any decoder (`zoo/nn/generate.py`), but for `new_state`, which reads
the source once and keeps what every later step needs of it. Its config names three tokens: `start_token`, which the
decoder reads first, `stop_token`, which ends a text, and `pad_token`, which fills up the texts of a batch that are
shorter than others. A model class gets its verbs by two lines in its body, `generate = generate` and
`stream = stream`.

Beam search keeps the `num_beams` likeliest beginnings beside each other. What it looks for, a text Y for the source
X, has the largest log P(Y | X) / penalty(|Y|), where penalty(n) = ((5 + n) / 6)^length_penalty.

Source: Wu et al., 2016, "Google's neural machine translation system", equation 14, without the term for coverage, as
in Vaswani et al., 2017, section 6.1.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from zoo.nn.checks import check_state
from zoo.nn.generate import LIKELIEST, KVCache, evaluating, several
from zoo.nn.generate import stream as continue_texts
from zoo.nn.sampling import Sampling


class EncoderDecoder(Protocol):
    """What generation needs of a model."""

    training: bool
    config: Any
    """With `start_token`, `stop_token` and `pad_token`."""

    def modules(self) -> Iterator[nn.Module]:
        """As every nn.Module has it."""
        ...

    def new_state(self, length: int, source: Tensor, source_mask: Tensor | None = None) -> Any:
        """The memory of a text that is still empty, with the source, which is read here.

        Args:
            length: how many tokens the text will have at the most, its start token included.
            source: (batch, source) int64.
            source_mask: (batch, source) bool, True where there is a token and not padding.

        Returns:
            Tensors and `KVCache`s, whose first axis is the batch, in any nesting of tuples, lists and dicts.
        """
        ...

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read on, and predict the next token; see `zoo.nn.generate.Decoder.step`."""
        ...


class Memory(NamedTuple):
    """What one decoder block looks at, other than what it is given: (batch, heads, seq, head_dim) each."""

    key: Tensor
    """Of the source."""
    value: Tensor
    past: KVCache | None = None
    """Keys and values of the text so far, where it is written step by step."""


class State(NamedTuple):
    """What a decoder of such blocks keeps while it writes."""

    blocks: list[Memory]
    mask: Tensor | None
    """(batch, 1, 1, source), what the cross-attention needs to leave padding out."""


def key_mask(source: Tensor, source_mask: Tensor | None) -> Tensor | None:
    """A source's mask in the shape of attention scores, (batch, 1, 1, source).

    Raises:
        ValueError: it is not bool, or of another shape than the source.
    """
    if source_mask is None:
        return None
    if source_mask.shape != source.shape or source_mask.dtype != torch.bool:
        raise ValueError(
            f"source_mask is {source_mask.dtype} of shape {tuple(source_mask.shape)}; it must be bool, True where the "
            f"source has a token, and of its shape {tuple(source.shape)}"
        )
    return source_mask[:, None, None]


def check_memories(memories: list[Memory], depth: int, texts: int) -> None:
    """Refuse what is of another model or of another batch, which attention would broadcast.

    Args:
        memories: an entry for each of the decoder's blocks.
        depth: how many of them there are.
        texts: how many rows the decoder reads.

    Raises:
        ValueError: there are more or fewer blocks, or sources.
    """
    check_state(memories, depth)
    if (sources := memories[0].key.shape[0]) != texts:
        raise ValueError(f"{texts} texts do not go with {sources} sources; give one source for each text")


def select(state: Any, rows: Tensor) -> Any:
    """A state of these rows of the batch, (new batch,) int64; a row may be taken several times."""

    def chosen(leaf: Any) -> Any:
        if isinstance(leaf, KVCache):
            return leaf.select(rows)
        return leaf[rows] if isinstance(leaf, Tensor) else leaf

    return pytree.tree_map(chosen, state)


@torch.no_grad()
def stream(
    model: EncoderDecoder,
    source: Tensor,
    max_new_tokens: int,
    *,
    source_mask: Tensor | None = None,
    sampling: Sampling = LIKELIEST,
    stop_tokens: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Write texts, giving each new column of tokens, (batch,) int64, as soon as it is known.

    Args:
        model: the model.
        source: see `generate`, as for what is not said here.
        max_new_tokens: how many columns there are at the most.
        source_mask: which tokens of the source count.
        sampling: how a token is chosen.
        stop_tokens: what ends a text; one that has ended repeats it.
        generator: where chance comes from.
    """
    with evaluating(model):  # pyright: ignore[reportArgumentType] - it asks for no more than `modules`
        state = model.new_state(max_new_tokens, source, source_mask)
    return continue_texts(
        model,  # pyright: ignore[reportArgumentType] - with a state given, it makes none
        source.new_full((len(source), 1), model.config.start_token),
        max_new_tokens,
        sampling=sampling,
        stop_tokens=_stops(model, stop_tokens),
        generator=generator,
        state=state,
    )


def generate(  # noqa: PLR0913 - the options that users know by these names
    model: EncoderDecoder,
    source: Tensor,
    max_new_tokens: int,
    *,
    source_mask: Tensor | None = None,
    num_beams: int = 1,
    length_penalty: float = 0.6,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Write the text that belongs to a source, such as its translation.

    Dropout is off while this runs, also for a model in train mode.

    Args:
        model: the model.
        source: (batch, source) int64.
        max_new_tokens: how many tokens a text has at the most, the one that ends it included.
        source_mask: (batch, source) bool, True where there is a token; by default there is no padding.
        num_beams: 1 chooses token by token; more search for the text that is likeliest as a whole.
        length_penalty: with beams, how much is made up to longer texts for having more factors: 0 nothing.
        temperature: 0 takes the likeliest token every time; 1 draws from the model's own distribution.
        top_k: draw from the k likeliest only.
        top_p: draw from the fewest that together have this probability.
        min_p: draw only from those at least this many times as likely as the likeliest.
        repetition_penalty: above 1, tokens that the text already has become less likely.
        stop_tokens: a text ends with any of them; by default with the model's own stop token.
        generator: for draws that can be repeated, a torch.Generator on the model's device.

    Returns:
        (batch, at most max_new_tokens) int64: without the start token, with the one that ends a text, and from
        there on filled up with the model's pad token.

    Raises:
        ValueError: an option is out of range, or chance is asked for together with beams.
    """
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    if num_beams != 1:
        if sampling != LIKELIEST:
            raise ValueError(
                f"num_beams {num_beams} searches and draws nothing; give num_beams=1 to sample or penalise"
            )
        return beam_search(
            model, source, max_new_tokens,
            source_mask=source_mask, num_beams=num_beams, length_penalty=length_penalty, stop_tokens=stop_tokens,
        )  # fmt: skip
    columns = stream(
        model, source, max_new_tokens,
        source_mask=source_mask, sampling=sampling, stop_tokens=stop_tokens, generator=generator,
    )  # fmt: skip
    texts = torch.cat([source[:, :0], *(column[:, None] for column in columns)], dim=1)
    ends = _isin(texts, _stops(model, stop_tokens)).long()
    return texts.masked_fill(ends.cumsum(1) > ends, model.config.pad_token)


@torch.no_grad()
def beam_search(
    model: EncoderDecoder,
    source: Tensor,
    max_new_tokens: int,
    *,
    source_mask: Tensor | None = None,
    num_beams: int = 4,
    length_penalty: float = 0.6,
    stop_tokens: Sequence[int] | None = None,
) -> Tensor:
    """Search for the best text, as `generate` does with more than one beam; see there.

    At every step each beginning is prolonged by every token, and of all these the best are kept. Those among the
    first `num_beams` that end are finished; the best of the others go on, still `num_beams` of them. It is over when
    no beginning, however it went on, could beat the best text that is finished. At `max_new_tokens` a text counts as
    finished without its stop token.
    """
    if num_beams < 1 or length_penalty < 0:
        raise ValueError(f"num_beams {num_beams} must be at least 1, and length_penalty {length_penalty} at least 0")
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens {max_new_tokens} is negative; give 0 or more")
    batch, stops = len(source), _stops(model, stop_tokens)
    row = torch.arange(batch, device=source.device)[:, None]
    texts = source.new_full((batch, num_beams, max_new_tokens), model.config.pad_token)
    scores = torch.zeros(batch, num_beams, device=source.device)
    scores[:, 1:] = -torch.inf  # all beams begin alike, so that only one of them may go on
    found = _Found(texts[:, 0].clone(), scores.new_full((batch,), -torch.inf), torch.zeros_like(row[:, 0]))
    with evaluating(model):  # pyright: ignore[reportArgumentType] - as in `stream`
        state = model.new_state(max_new_tokens, source, source_mask)
        state = select(state, row.expand(-1, num_beams).flatten())  # beam k of text i is row i * num_beams + k
        unread = source.new_full((batch * num_beams, 1), model.config.start_token)
        for length in range(1, max_new_tokens + 1):
            logits, state = model.step(unread, state)
            scores, beam, token = _prolong(scores, logits, keep=num_beams * (1 + len(stops)))
            longer = texts[row, beam]
            longer[..., length - 1] = token
            ends = _isin(token, stops) if length < max_new_tokens else torch.ones_like(token, dtype=torch.bool)
            finished = scores.masked_fill(~ends, -torch.inf)[:, :num_beams] / _penalty(length, length_penalty)
            found = found.better(finished, longer, length)
            scores, going_on = scores.masked_fill(ends, -torch.inf).topk(num_beams)
            if (scores[:, 0] / _penalty(max_new_tokens, length_penalty) <= found.score).all():
                break
            texts = longer[row, going_on]
            unread = texts[..., length - 1].reshape(-1, 1)
            state = select(state, (row * num_beams + beam.gather(1, going_on)).flatten())
    return found.text[:, : int(found.length.max()) if batch else 0]


class _Found(NamedTuple):
    """The best finished text of each row."""

    text: Tensor
    """(batch, max_new_tokens)."""
    score: Tensor
    """(batch,)."""
    length: Tensor

    def better(self, scores: Tensor, texts: Tensor, length: int) -> "_Found":
        """The best of these and others, (batch, beams) and (batch, beams, max_new_tokens)."""
        score, which = scores.max(1)
        wins = score > self.score
        text = texts[torch.arange(len(texts), device=texts.device), which]
        return _Found(
            torch.where(wins[:, None], text, self.text),
            torch.where(wins, score, self.score),
            self.length.masked_fill(wins, length),
        )


def _prolong(scores: Tensor, logits: Tensor, keep: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations by one token, (batch, keep) each, best first: log P, which beam, and the token."""
    vocab = logits.shape[-1]
    following = logits.float().log_softmax(-1).unflatten(0, scores.shape)  # (batch, beams, vocab)
    every = (scores[..., None] + following).flatten(1)
    best, place = every.topk(min(keep, every.shape[1]))
    return best, place // vocab, place % vocab


def _penalty(length: int, exponent: float) -> float:
    return ((5 + length) / 6) ** exponent


def _stops(model: EncoderDecoder, stop_tokens: Sequence[int] | None) -> Sequence[int]:
    return (model.config.stop_token,) if stop_tokens is None else several(stop_tokens)


def _isin(tokens: Tensor, wanted: Sequence[int]) -> Tensor:
    return torch.isin(tokens, torch.tensor(list(wanted), dtype=torch.long, device=tokens.device))
