"""Text from a language model, as it is written."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from zoo.nn.generate import stream
from zoo.nn.sampling import Sampling
from zoo.tokenizer import Tokenizer, decode_stream, tokenizer

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
        model: a language model whose weights came with a tokenizer, or one that reads bytes.
        prompt: what to continue, not empty.
        max_new_tokens: how many tokens to add at the most; by default 256, or what fits in the model's context.
        sampling: how a token is chosen.
        seed: the same seed draws the same text.

    Raises:
        ValueError: the model generates no text or has no tokenizer, the prompt is empty, or prompt and continuation
            do not fit in the model's context.
    """
    config: Any = getattr(model, "config", None)
    if not hasattr(model, "new_state") or not hasattr(model, "step"):
        raise ValueError(
            f"{type(model).__name__} generates no text; take a language model, such as those of "
            f"`zoo list --task text-generation`"
        )
    reader = tokenizer(model)
    if not prompt:
        raise ValueError("the prompt is empty; give at least one character to continue")
    tokens, _ = reader.encode(prompt)
    wanted = MOST if max_new_tokens is None else max_new_tokens
    if (longest := getattr(config, "max_seq_len", None)) is not None:  # recurrences read on for ever
        room = longest - len(tokens)
        wanted = min(MOST, max(1, room)) if max_new_tokens is None else max_new_tokens
        if wanted > room:
            raise ValueError(
                f"the prompt's {len(tokens)} tokens leave room for {max(0, room)} more in a context of {longest}, "
                f"not for {max_new_tokens or 'one'}; shorten the prompt or ask for fewer"
            )
    if wanted < 0:
        raise ValueError(f"max_new_tokens {wanted} is negative; give 0 or more")
    device = next(model.parameters()).device
    return _pieces(model, reader, torch.tensor([tokens], device=device), wanted, sampling, seed)


def _pieces(
    model: nn.Module, reader: Tokenizer, tokens: Tensor, max_new_tokens: int, sampling: Sampling, seed: int
) -> Iterator[str]:
    random = torch.Generator(tokens.device).manual_seed(seed)
    steps: Iterator[Tensor] = stream(
        model,  # pyright: ignore[reportArgumentType] - `complete` has checked that it has the verbs
        tokens,
        max_new_tokens,
        sampling=sampling,
        stop_tokens=reader.stop_tokens,
        generator=random,
    )
    new = (int(token) for token in steps)
    return decode_stream(reader, (token for token in new if token not in reader.stop_tokens))
