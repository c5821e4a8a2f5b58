"""Two tiny towers with the contract of CLIP, their data and their trainer, for tests of contrast."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import trainer

from zoo.training.data import Spec, Splits
from zoo.training.objectives.contrastive import Contrastive, ContrastiveConfig


class Output(NamedTuple):
    logits_per_image: Tensor
    logits_per_text: Tensor
    image_features: Tensor
    text_features: Tensor


class Towers(nn.Module):
    """Numbers for an image, or tokens where `reads`; and the mean of a text's tokens."""

    def __init__(self, norm=False, dropout=0.0, bias=False, reads=False, scale=10.0):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Embedding(9, 6) if reads else nn.Linear(5, 6)
        self.norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.Sequential(nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(dropout)))
        self.second = nn.Embedding(9, 6)
        self.proj = nn.Linear(6, 6)
        self.logit_scale = nn.Parameter(torch.tensor([math.log(scale)]))
        self.logit_bias = nn.Parameter(torch.tensor([-3.0])) if bias else None

    def encode_image(self, image):
        first = self.first(image)
        first = first.mean(1) if first.ndim == 3 else first
        return F.normalize(self.blocks(self.dropout(self.norm(first))), dim=-1)

    def encode_text(self, tokens):
        return F.normalize(self.proj(self.dropout(self.second(tokens).mean(1))), dim=-1)

    def constrain(self):
        with torch.no_grad():
            self.logit_scale.clamp_(max=math.log(100))

    def forward(self, image, tokens):
        first, second = self.encode_image(image), self.encode_text(tokens)
        logits = self.logit_scale.exp() * first @ second.T
        return Output(logits, logits.T, first, second)


@dataclass(frozen=True)
class Captioned:
    """Named tensors as a split."""

    tensors: dict[str, Tensor]

    def __len__(self):
        return len(self.tensors["tokens"])

    def fetch(self, indices, rngs):
        return {name: tensor[list(indices)] for name, tensor in self.tensors.items()}


def captioned(count, seed, texts=False):
    """Images of three classes, and texts whose tokens tell the class; or two texts."""
    random = torch.Generator().manual_seed(seed)
    target = torch.randint(3, (count,), generator=random)
    tokens = torch.randint(3, (count, 4), generator=random) + 3 * target[:, None]
    if texts:
        return Captioned({"tokens": tokens, "pair_tokens": (tokens + 1) % 9})
    image = torch.randn(count, 5, generator=random) + 2 * F.one_hot(target, 5)
    return Captioned({"image": image, "tokens": tokens, "target": target})


PROMPTS = (((0, 1), (2, 2), (1, 1)), ((3, 5),), ((6, 6), (7, 8)))
"""Texts that describe each class."""


def pictured(texts=False, prompts=False):
    """Data of pairs with a part to test on that no batch size divides."""
    keys = ("tokens", "pair_tokens") if texts else ("image", "tokens", "target")
    spec = Spec(keys=keys, prompts=PROMPTS if prompts else ())
    return Splits(spec=spec, train=captioned(48, 0, texts), test=captioned(31, 1, texts))


def contrast(model=None, data=None, loss="softmax", label_smoothing=0.0, **options):
    """A trainer of the towers."""
    data = pictured() if data is None else data
    model = Towers(bias=loss == "sigmoid") if model is None else model
    objective = Contrastive(ContrastiveConfig(loss=loss, label_smoothing=label_smoothing), data.spec)
    return trainer(model, data, objective, **options)
