"""Generation, one token after the other, for every model that predicts the next one.

A model takes part by two methods (`Decoder`): `new_state` makes the memory of an empty text, `step` reads
tokens into it and predicts what follows. What the memory is stays the model's own affair: key-value caches
for attention, a hidden state for a recurrence. A model class gets its verbs by two lines in its body,
`generate = generate` and `stream = stream`.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Decoder(Protocol):
    """What generation needs of a model."""

    training: bool

    def modules(self) -> Iterator[nn.Module]:
        """As every nn.Module has it."""
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
            state: from `new_state` or the previous step; it may be changed in place.

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
            ValueError: the cache is full.
        """
        start, end = self.length, self.length + key.shape[-2]
        if end > self.capacity:
            raise ValueError(f"{end} tokens do not fit in a state made for {self.capacity}; give new_state more")
        if self._buffers is None:
            self._buffers = _room(key, self.capacity), _room(value, self.capacity)
        keys, values = self._buffers
        keys[..., start:end, :], values[..., start:end, :] = key, value
        self.length = end
        return keys[..., :end, :], values[..., :end, :]


def _room(like: Tensor, positions: int) -> Tensor:
    return like.new_empty(*like.shape[:-2], positions, like.shape[-1])


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen from its logits."""

    temperature: float = 0.0
    """Logits are divided by it; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Only the k likeliest tokens are drawn from."""
    top_p: float | None = None
    """Only the fewest likeliest tokens whose probabilities add up to p are drawn from, after top_k.

    Source: Holtzman et al., 2020, "The curious case of neural text degeneration", section 3.1."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from, and what would silently do nothing."""
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature {self.temperature} is not in [0, inf); 0 takes the likeliest token, 1 samples"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} leaves no token; give at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p {self.top_p} is not in (0, 1]")
        if self.temperature == 0 and (self.top_k is not None or self.top_p is not None):
            raise ValueError("top_k and top_p do nothing at temperature 0; give a temperature such as 1.0")

    def choose(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Choose one token per row.

        Args:
            logits: (batch, vocab).
            generator: where chance comes from; torch's global one when not given.

        Returns:
            (batch,) int64.
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        scores, order = logits.float() / self.temperature, None
        if self.top_k is not None or self.top_p is not None:
            scores, order = scores.topk(min(self.top_k or scores.shape[-1], scores.shape[-1]))
        probabilities = scores.softmax(-1)
        if self.top_p is not None:
            likelier = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(likelier >= self.top_p, 0)
        choice = torch.multinomial(probabilities, 1, generator=generator)
        return (choice if order is None else order.gather(-1, choice)).squeeze(-1)


@torch.no_grad()
def stream(
    model: Decoder,
    tokens: Tensor,
    max_new_tokens: int,
    *,
    sampling: Sampling = Sampling(),
    stop_token: int | None = None,
    generator: torch.Generator | None = None,
) -> Iterator[Tensor]:
    """Continue texts, giving each new token, (batch,) int64, as soon as it is known; see `generate`."""
    state = model.new_state(tokens.shape[1] + max_new_tokens)
    running = torch.ones(tokens.shape[0], dtype=torch.bool, device=tokens.device)
    for _ in range(max_new_tokens):
        with _evaluating(model):
            logits, state = model.step(tokens, state)
        token = sampling.choose(logits, generator)
        if stop_token is not None:
            token = token.where(running, stop_token)
            running = running & (token != stop_token)
        yield token
        if stop_token is not None and not running.any():
            return
        tokens = token[:, None]


def generate(
    model: Decoder,
    tokens: Tensor,
    max_new_tokens: int,
    *,
    temperature: float = 0.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop_token: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Continue texts.

    Dropout is off while this runs, also for a model in train mode. The whole text, prompt and continuation,
    must fit in the model's context: nothing is forgotten silently. To write on, prompt with the last tokens.

    Args:
        model: the model.
        tokens: prompts of the same length, (batch, seq) int64, at least one token each.
        max_new_tokens: how many tokens to add at the most.
        temperature: 0 takes the likeliest token every time; 1 draws from the model's own distribution.
        top_k: draw from the k likeliest only.
        top_p: draw from the fewest that together have this probability.
        stop_token: a text ends with it; shorter texts of a batch are filled up with it.
        generator: for draws that can be repeated, a torch.Generator on the model's device.

    Returns:
        Prompts with their continuations, (batch, seq + at most max_new_tokens) int64.

    Raises:
        ValueError: a prompt is empty, an option is out of range, or the text would outgrow the model's context.
    """
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens {max_new_tokens} is negative; give 0 or more")
    if tokens.ndim != 2 or tokens.shape[1] == 0:
        raise ValueError(f"a prompt is (batch, seq) with seq at least 1, got shape {tuple(tokens.shape)}")
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    new = stream(model, tokens, max_new_tokens, sampling=sampling, stop_token=stop_token, generator=generator)
    return torch.cat([tokens, *(token[:, None] for token in new)], dim=1)


@contextmanager
def _evaluating(model: Decoder) -> Iterator[None]:
    """Eval mode, and back to exactly the modes that the submodules had."""
    training = [module for module in model.modules() if module.training] if model.training else []
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
