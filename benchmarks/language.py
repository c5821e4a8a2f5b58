"""How fast our language models are beside transformers', with the same weights, in one process and in turn.

A training step is forward, cross-entropy and backward. The time of transformers' own scan of Mamba in plain PyTorch
grows with the square of the length, so ours is compared with a plain loop over time as well: the definition that
`zoo.kernels.use("reference")` runs.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from benchmarks.peers import Row, timed

SIZES: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    # ours: the peer's family and its config
    "mamba": ("Mamba", {"vocab_size": 1000, "hidden_size": 256, "num_hidden_layers": 4, "state_size": 16}),
    "mamba2": (
        "Mamba2",
        {"vocab_size": 1000, "hidden_size": 256, "num_hidden_layers": 4, "state_size": 128, "num_heads": 8,
         "head_dim": 64, "expand": 2, "n_groups": 1, "chunk_size": 256},
    ),
}  # fmt: skip
BATCH, SEQ = 2, 512
PROMPT, NEW = 64, 64
LEAST = 4
"""Rounds of each comparison: a training step of the peer takes many seconds."""


def compare(pattern: str, seconds: float) -> Iterator[Row]:
    """Every comparison in turn.

    Args:
        pattern: only models whose name contains it.
        seconds: how long each comparison may take, but for four rounds at the least.
    """
    for name in SIZES:
        if pattern in name:
            yield from _scans(name, seconds)
    if pattern in "gpt2":
        yield from _generation(seconds)


def _scans(name: str, seconds: float) -> Iterator[Row]:
    theirs, ours, again = _pair(*SIZES[name])
    tokens = torch.randint(1000, (BATCH, SEQ))
    for mode, step in (("inference", _read), ("training", _learn)):
        steps = [_bound(step, model, tokens) for model in (ours, theirs, again)]
        yield timed(name, f"transformers/{name}", mode, steps, seconds, LEAST)

        def looped(step: Callable[[nn.Module, Tensor], None] = step) -> None:
            with zoo.kernels.use("reference"):
                step(again, tokens)

        yield timed(name, "a loop over time", mode, [steps[0], looped, steps[0]], seconds, LEAST)


def _generation(seconds: float) -> Iterator[Row]:
    theirs, ours, again = _pair("GPT2", {})
    prompt = torch.randint(1000, (1, PROMPT))
    for dtype in (torch.float32, torch.bfloat16):
        for model in (theirs, ours, again):
            model.to(dtype)
        steps = [_bound(_write, model, prompt) for model in (ours, theirs, again)]
        mode = f"generation, {str(dtype).removeprefix('torch.')}"
        yield timed("gpt2", "transformers/gpt2", mode, steps, seconds, LEAST)


def _pair(family: str, options: Mapping[str, Any]) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The peer's network, ours with its weights, and ours again."""
    import transformers

    torch.manual_seed(0)
    config = getattr(transformers, f"{family}Config")(**options)
    theirs = getattr(transformers, f"{family}{'LMHeadModel' if family == 'GPT2' else 'ForCausalLM'}")(config)
    with tempfile.TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        return theirs.eval(), zoo.create(f"local-dir:{folder}").eval(), zoo.create(f"local-dir:{folder}").eval()


def _bound(step: Callable[[nn.Module, Tensor], None], model: nn.Module, tokens: Tensor) -> Callable[[], None]:
    return lambda: step(model, tokens)


@torch.no_grad()
def _read(model: nn.Module, tokens: Tensor) -> None:
    _logits(model, tokens)


def _learn(model: nn.Module, tokens: Tensor) -> None:
    logits = _logits(model, tokens)
    nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).backward()
    model.zero_grad()


def _logits(model: Any, tokens: Tensor) -> Tensor:
    return model(tokens) if hasattr(model, "provenance") else model(tokens, use_cache=False).logits


def _write(model: Any, prompt: Tensor) -> None:
    if hasattr(model, "provenance"):
        model.generate(prompt, NEW)
    else:
        model.generate(prompt, max_new_tokens=NEW, min_new_tokens=NEW, do_sample=False, pad_token_id=0)
