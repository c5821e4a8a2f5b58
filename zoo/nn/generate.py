"""Generation, one token after the other, for every model that predicts the next one.

A model takes part by two methods (`Decoder`): `new_state` makes the memory of an empty text, `step` reads
tokens into it and predicts what follows. What the memory is stays the model's own affair: key-value caches
for attention, a hidden state for a recurrence. A model class gets its verbs by two lines in its body,
`generate = generate` and `stream = stream`.

Prompts of different lengths stand left-aligned in one tensor. All rows are read together up to the end of the
shortest prompt; from there on a row that still has a prompt reads its next token where the others take what they
have chosen. So no model meets padding, and each row comes out as it would alone where the likeliest tokens are taken;
rows that draw share one generator.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from zoo.nn.checks import check_tokens
from zoo.nn.sampling import Sampling
from zoo.nn.single_row import fast_single_row

LIKELIEST = Sampling()
"""Takes the likeliest token every time."""


class Decoder(Protocol):
    """What generation needs of a model."""

    training: bool

    def modules(self) -> Iterator[nn.Module]:
        """As every nn.Module has it."""
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """Likewise."""
        ...

    def new_state(self, length: int) -> Any:
        """The memory of a text that is still empty.

        Args:
            length: how many tokens it will have at the most.

        Raises:
            ValueError: the model cannot read so long a text.
        """
        ...

    def step(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Read on, and predict the next token.

        Args:
            tokens: (batch, seq) int64, what comes after all that `state` has seen: a prompt or a single token.
            state: from `new_state` or the previous step; it may be changed in place, so a loss over several steps has
                gradients only where the model says so.

        Returns:
            The logits after the last token, (batch, vocab), and the state that has seen it.
        """
        ...


class KVCache:
    """The keys and values of one attention layer, in buffers of a fixed size that later steps fill up."""

    def __init__(self, capacity: int) -> None:
        """Wait for the first keys, which decide on shape, dtype and device.

        Args:
            capacity: how many positions there will be at the most.
        """
        self.capacity, self.length = capacity, 0
        self._buffers: tuple[Tensor, Tensor] | None = None

    def append(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Add positions, (batch, heads, seq, head_dim), and return those of all positions so far.

        Raises:
            ValueError: the cache is full, or what it holds is of another batch or model.
        """
        start, end = self.length, self.length + key.shape[-2]
        if end > self.capacity:
            raise ValueError(f"{end} tokens do not fit in a state made for {self.capacity}; give new_state more")
        if self._buffers is None:
            self._buffers = _room(key, self.capacity), _room(value, self.capacity)
        keys, values = self._buffers
        for room, new in ((keys, key), (values, value)):  # which an assignment would broadcast
            if (room.shape[:-2], room.shape[-1]) != (new.shape[:-2], new.shape[-1]):
                raise ValueError(
                    f"a state of {_described(room)} does not fit {_described(new)}; take it from this model's "
                    f"new_state, for the texts that are read on"
                )
        keys[..., start:end, :], values[..., start:end, :] = key, value
        self.length = end
        return keys[..., :end, :], values[..., :end, :]

    def select(self, rows: Tensor) -> "KVCache":
        """A cache of these rows of the batch, (new batch,) int64."""
        chosen = KVCache(self.capacity)
        chosen.length = self.length
        if self._buffers is not None:
            keys, values = self._buffers
            chosen._buffers = keys[rows], values[rows]
        return chosen


def _described(pairs: Tensor) -> str:
    rows, heads, _, head_dim = pairs.shape
    return f"{rows} texts with {heads} heads of {head_dim}"


def _room(like: Tensor, positions: int) -> Tensor:
    return like.new_empty(*like.shape[:-2], positions, like.shape[-1])


@torch.no_grad()
def stream(
    model: Decoder,
    tokens: Tensor,
    max_new_tokens: int,
    *,
    lengths: Tensor | None = None,
    sampling: Sampling = LIKELIEST,
    stop_tokens: Sequence[int] = (),
    generator: torch.Generator | None = None,
    state: Any = None,
) -> Iterator[Tensor]:
    """Continue texts, giving each new column of tokens, (batch,) int64, as soon as it is known.

    The first column is the one behind the shortest prompt: there a longer prompt's own token stands.

    Args:
        model: the model.
        tokens: see `generate`, as for what is not said here.
        max_new_tokens: how many columns there are behind the longest prompt at the most.
        lengths: how long each prompt is.
        sampling: how a token is chosen.
        stop_tokens: what ends a text.
        generator: where chance comes from.
        state: a memory of what precedes the prompts, such as a text to translate; by default there is none.
    """
    check_writes(model)
    shortest = _shortest(tokens, lengths, max_new_tokens)
    longest = tokens.shape[1]
    state = model.new_state(longest + max_new_tokens) if state is None else state
    stops = torch.tensor(several(stop_tokens), dtype=torch.long, device=tokens.device)
    ended = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    unread, token, seen = tokens[:, :shortest], tokens[:, 0], None
    for position in range(shortest, longest + max_new_tokens):
        with evaluating(model), fast_single_row(unread, next(model.parameters(), None)):
            logits, state = model.step(unread, state)
        if sampling.repetition_penalty != 1:
            seen = torch.zeros_like(logits, dtype=torch.bool) if seen is None else seen
            seen.scatter_(1, unread, True)
        token = torch.where(ended, token, sampling.choose(logits, generator, seen))
        ended = ended | torch.isin(token, stops) if len(stops) else ended
        if lengths is not None and position < longest:
            reading = position < lengths.to(tokens.device)
            token, ended = torch.where(reading, tokens[:, position], token), ended & ~reading
        yield token
        if len(stops) and ended.all():
            return
        unread = token[:, None]


def generate(  # noqa: PLR0913 - the options that users know by these names
    model: Decoder,
    tokens: Tensor,
    max_new_tokens: int,
    *,
    lengths: Tensor | None = None,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    stop_tokens: Sequence[int] = (),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue texts.

    Dropout is off while this runs, also for a model in train mode. The whole text, prompt and continuation,
    must fit in the model's context: nothing is forgotten silently. To write on, prompt with the last tokens.

    Args:
        model: the model.
        tokens: prompts, (batch, seq) int64, at least one token each.
        max_new_tokens: how many tokens to add to the longest prompt at the most; all texts grow to one length.
        lengths: (batch,) int64, where the prompts differ in length; what stands behind a prompt is not read.
        temperature: 0 takes the likeliest token every time; 1 draws from the model's own distribution.
        top_k: draw from the k likeliest only.
        top_p: draw from the fewest that together have this probability.
        min_p: draw only from those at least this many times as likely as the likeliest.
        repetition_penalty: above 1, tokens that the text already has become less likely.
        stop_tokens: a text ends with any of them; shorter texts of a batch are filled up with it.
        generator: for draws that can be repeated, a torch.Generator on the model's device.

    Returns:
        Prompts with their continuations, (batch, seq + at most max_new_tokens) int64.

    Raises:
        ValueError: a prompt is empty, an option is out of range, the text would outgrow the model's context, or the
            model writes no text.
    """
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    shortest = _shortest(tokens, lengths, max_new_tokens)
    new = stream(
        model, tokens, max_new_tokens,
        lengths=lengths, sampling=sampling, stop_tokens=stop_tokens, generator=generator,
    )  # fmt: skip
    return torch.cat([tokens[:, :shortest], *(token[:, None] for token in new)], dim=1)


def several(stop_tokens: Sequence[int]) -> list[int]:
    """The tokens that end a text.

    Raises:
        ValueError: it is a single number.
    """
    if isinstance(stop_tokens, int):
        raise ValueError(f"stop_tokens {stop_tokens} is a single number; give a sequence, [{stop_tokens}]")
    return list(stop_tokens)


def check_writes(model: Any) -> None:
    """Refuse a model whose steps predict something else than tokens.

    Raises:
        ValueError: its config says that it classifies, or that it predicts numbers.
    """
    config = getattr(model, "config", None)
    for name in ("num_classes", "out_features"):
        if (outputs := getattr(config, name, None)) is not None:
            raise ValueError(
                f"{type(model).__name__} with {name} {outputs} predicts no tokens, so it writes no text; take one "
                f"with {name} None"
            )


def _shortest(tokens: Tensor, lengths: Tensor | None, max_new_tokens: int) -> int:
    """How long the shortest prompt is, if everything is as it should be."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens {max_new_tokens} is negative; give 0 or more")
    check_tokens(tokens, "prompts")
    if not len(tokens):
        raise ValueError(f"prompts of shape {tuple(tokens.shape)} have no row; give one at least")
    if lengths is None:
        return tokens.shape[1]
    if not isinstance(lengths, Tensor) or lengths.is_floating_point():
        raise ValueError(f"lengths {lengths} are no int64 tensor; make it one by torch.tensor, of whole numbers")
    if lengths.shape != tokens.shape[:1]:
        raise ValueError(f"lengths must be (batch,) = ({len(tokens)},), got shape {tuple(lengths.shape)}")
    least, most = int(lengths.min()), int(lengths.max())
    if least < 1 or most != tokens.shape[1]:
        raise ValueError(
            f"lengths from {least} to {most} do not fit prompts of shape {tuple(tokens.shape)}: each has at least 1 "
            f"token, and the longest fills its row"
        )
    return least


@contextmanager
def evaluating(model: Decoder) -> Iterator[None]:
    """Eval mode, and back to exactly the modes that the submodules had."""
    training = [module for module in model.modules() if module.training] if model.training else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
