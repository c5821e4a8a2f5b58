"""Text from a language model, as it is written."""

import codecs
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.nn.generate import stream
from zoo.nn.sampling import Sampling

BYTES = 256
END = 0
"""The byte after which a text is over, as in the training data (`zoo/training/data/text.py`)."""
USUAL = Sampling(temperature=0.8)
MOST = 256
"""Tokens that are added when the caller does not say how many."""


def complete(
    model: nn.Module,
    prompt: str,
    max_new_tokens: int | None = None,
    *,
    sampling: Sampling = USUAL,
    seed: int = 0,
) -> Iterator[str]:
    """Continue a text, piece by piece as it is known; the prompt itself is not repeated.

    Args:
        model: one that predicts the next byte.
        prompt: what to continue, not empty.
        max_new_tokens: how many bytes to add at the most; by default 256, or what fits in the model's context.
        sampling: how a byte is chosen.
        seed: the same seed draws the same text.

    Raises:
        ValueError: the model generates no text or has tokens other than bytes, the prompt is empty, or prompt and
            continuation do not fit in the model's context.
    """
    config: Any = getattr(model, "config", None)
    who = type(model).__name__
    if not hasattr(model, "new_state") or not hasattr(model, "step"):
        raise ValueError(
            f"{who} generates no text; take a language model, such as those of `zoo list --task text-generation`"
        )
    if config.vocab_size != BYTES:
        raise ValueError(
            f"{who} has a vocabulary of {config.vocab_size} tokens and no tokenizer with it, so text cannot be read; "
            f"models with vocab_size {BYTES} read bytes"
        )
    if not prompt:
        raise ValueError("the prompt is empty; give at least one character to continue")
    tokens = torch.tensor([list(prompt.encode())], device=next(model.parameters()).device)
    room = config.max_seq_len - tokens.shape[1]
    wanted = min(MOST, max(1, room)) if max_new_tokens is None else max_new_tokens
    if not 0 <= wanted <= room:
        raise ValueError(
            f"the prompt's {tokens.shape[1]} bytes leave room for {max(0, room)} more in a context of "
            f"{config.max_seq_len}, not for {max_new_tokens or 'one'}; shorten the prompt or ask for fewer"
        )
    return _pieces(model, tokens, wanted, sampling, seed)


def _pieces(model: nn.Module, tokens: Tensor, max_new_tokens: int, sampling: Sampling, seed: int) -> Iterator[str]:
    random = torch.Generator(tokens.device).manual_seed(seed)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    steps: Iterator[Tensor] = stream(
        model,  # pyright: ignore[reportArgumentType] - `complete` has checked that it has the verbs
        tokens,
        max_new_tokens,
        sampling=sampling,
        stop_tokens=[END],
        generator=random,
    )
    for token in steps:
        if int(token) != END:
            yield decoder.decode(bytes([int(token)]))
    yield decoder.decode(b"", final=True)
