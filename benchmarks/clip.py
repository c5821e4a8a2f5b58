"""How fast our CLIP is beside open_clip's, with the same weights, in one process and in turn.

A training step is both towers, the cross-entropy of pairs in both directions, and backward.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoo
from benchmarks.peers import Row, timed
from zoo.convert import foreign_tensors, peers

BATCH: Mapping[str, int] = {"clip_vit_b_32": 4, "clip_resnet50": 2}
"""Our preset -> pairs in a batch."""
LEAST = 8
"""Rounds of each comparison."""


def compare(pattern: str, seconds: float) -> Iterator[Row]:
    """Both modes of every preset, with images and texts.

    Args:
        pattern: only presets that contain it.
        seconds: how long each comparison may take, but for eight rounds at the least.
    """
    for preset, batch in BATCH.items():
        if pattern in preset:
            name = peers("clip", "open_clip")[preset]
            ours, again, theirs = zoo.create(preset), zoo.create(preset), _peer(name)
            again.load_state_dict(ours.state_dict())
            theirs.load_state_dict(foreign_tensors(ours, "open_clip"))
            pairs = zoo.create(preset, device="meta").example_inputs(batch)
            for mode, step in (("inference", _score), ("training", _learn)):
                models = [model.train(mode == "training") for model in (ours, theirs, again)]
                steps = [_bound(step, model, pairs) for model in models]
                yield timed(preset, f"open_clip/{name}", mode, steps, seconds, LEAST)


def _peer(name: str) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own imports
        import open_clip

        return open_clip.create_model(name, pretrained=None)


def _bound(
    step: Callable[[Any, Tensor, Tensor], None], model: nn.Module, pairs: dict[str, Tensor]
) -> Callable[[], None]:
    return lambda: step(model, pairs["image"], pairs["tokens"])


@torch.no_grad()
def _score(model: Any, image: Tensor, tokens: Tensor) -> None:
    _logits(model, image, tokens)


def _learn(model: Any, image: Tensor, tokens: Tensor) -> None:
    logits, target = _logits(model, image, tokens), torch.arange(len(image))
    (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)).backward()
    model.zero_grad()


def _logits(model: Any, image: Tensor, tokens: Tensor) -> Tensor:
    return model(image, tokens).logits_per_image if hasattr(model, "provenance") else model.get_logits(image, tokens)[0]
