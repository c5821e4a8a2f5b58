"""What a model of images and texts takes test images for: one of some classes, or what some text says."""

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.pipelines import zero_shot
from zoo.pipelines.zero_shot import prompts_of, tells_by_texts
from zoo.report import page, results
from zoo.report.page import Part, Section
from zoo.tokenizer import tokenizer
from zoo.training.data import Spec, Split

ASKED, SHOWN = 256, 12
"""So many test images look for their text among those of all of them, and so many of these are shown."""
LONGEST = 90
"""Letters of a text that are shown."""


def by_names(model: nn.Module, spec: Spec) -> nn.Module | None:
    """The model as a classifier of the data's classes; None where these have no texts that it knows."""
    known = tells_by_texts(model) and "target" in spec.keys and tuple(prompts_of(model)) == tuple(spec.labels)
    return zero_shot(model, spec.labels) if known and spec.labels else None


@torch.no_grad()
def likeliest(model: Any, test: Split, spec: Spec) -> Part:
    """Test images over the text that lies nearest to each, and over its own where that is another."""
    if not tells_by_texts(model):
        return Part(())
    rows = np.linspace(0, len(test) - 1, min(len(test), ASKED)).round().astype(int)
    batch = test.fetch(rows.tolist(), None)
    texts = batch["tokens"].unique(dim=0)
    output = model(image=batch["image"], tokens=texts)
    best = output.logits_per_image.argmax(-1)
    right = (texts[best] == batch["tokens"]).all(-1)
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), SHOWN)).round().astype(int).tolist()
    captions = []
    for i in chosen:
        own = None if right[i] else page.tag("span", f"its own: {_text(model, batch['tokens'][i], spec)}")
        nearest = page.tag("b", _text(model, texts[best[i]], spec), class_=None if right[i] else "wrong")
        captions.append(page.join([nearest, own]))
    count = f"{int(right.sum()):,} of {len(rows):,} test images"
    lead = f"Of {len(texts):,} texts, the nearest is the image's own for {count}."
    shown = results.images(batch["image"][chosen], spec)
    return Part((Section("Which text it finds for an image", page.gallery(shown, captions), lead),))


def _text(model: nn.Module, tokens: Tensor, spec: Spec) -> str:
    """A text as it can be shown, up to its end."""
    kept = tokens.tolist()
    kept = kept[: kept.index(spec.end_token)] if spec.end_token in kept else kept
    text = tokenizer(model).decode(kept)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
