"""Text from a language model, as it is written."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from zoo.nn import generate, seq2seq
from zoo.nn.sampling import Sampling
from zoo.tokenizer import ByteTokenizer, decode_stream, tokenizer

MOST = 256
"""Tokens that are written when the caller does not say how many."""


def reads_source(config: Any) -> bool:
    """Whether a model with this config is an encoder-decoder: it does not go on with a text, but answers it."""
    return hasattr(config, "start_token")


def usual(config: Any) -> Sampling:
    """How tokens are chosen when the caller does not say.

    A text can go on in many ways, and the likeliest is soon a loop, so continuations are drawn, a little more surely
    than the model says. What belongs to a source, as its translation, is meant to be the likeliest text.
    """
    return Sampling(temperature=0.0 if reads_source(config) else 0.8)


def check_writes(model: nn.Module) -> None:
    """Refuse a model that writes no text, whether it has weights or not.

    Raises:
        ValueError: it has not the verbs of generation, or predicts something else than tokens.
    """
    if not hasattr(model, "new_state") or not hasattr(model, "step"):
        raise ValueError(
            f"{type(model).__name__} generates no text; take a language model, such as those of "
            f"`zoo list --task text-generation`"
        )
    generate.check_writes(model)


def complete(
    model: nn.Module,
    prompt: str,
    max_new_tokens: int | None = None,
    *,
    sampling: Sampling | None = None,
    num_beams: int = 1,
    seed: int = 0,
) -> Iterator[str]:
    """Continue a text, or with an encoder-decoder write the one that belongs to it, piece by piece as it is known.

    The prompt itself is not repeated.

    Args:
        model: a language model whose weights came with a tokenizer, or one that reads bytes.
        prompt: what to continue or to answer, not empty.
        max_new_tokens: how many tokens to write at the most; by default 256, or what fits in the model's context.
        sampling: how a token is chosen; by default as `usual` says.
        num_beams: of an encoder-decoder, more than 1 search for the text that is likeliest as a whole.
        seed: the same seed draws the same text.

    Raises:
        ValueError: the model generates no text or has no tokenizer, the prompt is empty or has words that the weights
            do not know, prompt and continuation do not fit in the model's context, or beams are asked for that the
            model does not have or that shall draw.
    """
    check_writes(model)
    config: Any = model.config
    answers = reads_source(config)
    if num_beams != 1 and not answers:
        raise ValueError(
            f"{type(model).__name__} continues texts, and only encoder-decoders search with beams; leave the "
            f"{num_beams} beams out, or take one of `zoo list --task text2text-generation`"
        )
    reader = tokenizer(model)
    if not prompt:
        raise ValueError("the prompt is empty; give at least one character to begin with")
    read, _ = reader.encode(prompt)
    known = getattr(config, "vocab_size", None)
    if known is not None and max(read, default=0) >= known:  # tokenizers may list more, as long as no text has them
        raise ValueError(
            f"the prompt has token {max(read)}, and the vocabulary of this {type(model).__name__} ends at {known - 1}: "
            f"its tokenizer has words that the weights do not; leave them out of the prompt"
        )
    if answers and isinstance(reader, ByteTokenizer):
        read.append(config.stop_token)  # as a tokenizer.json of T5 does, and `span_corruption`
    wanted = MOST if max_new_tokens is None else max_new_tokens
    if (longest := getattr(config, "max_seq_len", None)) is not None:  # recurrences read on for ever
        room = longest - (0 if answers else len(read))
        wanted = min(MOST, max(1, room)) if max_new_tokens is None else max_new_tokens
        if wanted > room:
            raise ValueError(
                f"the prompt's {len(read)} tokens leave room for {max(0, room)} more in a context of {longest}, "
                f"not for {max_new_tokens or 'one'}; shorten the prompt or ask for fewer"
            )
    if wanted < 0:
        raise ValueError(f"max_new_tokens {wanted} is negative; give 0 or more")
    tokens = torch.tensor([read], device=next(model.parameters()).device)
    stops = (config.stop_token,) if answers else reader.stop_tokens
    steps = _tokens(model, tokens, wanted, sampling or usual(config), num_beams, stops, seed)
    return decode_stream(reader, (token for token in map(int, steps) if token not in stops))


def _tokens(
    model: Any, tokens: Tensor, length: int, sampling: Sampling, num_beams: int, stops: tuple[int, ...], seed: int
) -> Iterator[Tensor]:
    """One token after the other, (1,) or 0-D each; options that do not go together are refused at once."""
    if num_beams != 1:
        return iter(seq2seq.generate(model, tokens, length, num_beams=num_beams, **asdict(sampling))[0])
    write = seq2seq.stream if reads_source(model.config) else generate.stream
    random = torch.Generator(tokens.device).manual_seed(seed)
    return write(model, tokens, length, sampling=sampling, stop_tokens=stops, generator=random)
