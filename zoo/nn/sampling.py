"""How the next token is chosen from its logits."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

COLDEST = 1e-30
"""Below it logits, divided by the temperature, would overflow; at it the likeliest token has all the probability."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How a token is chosen; the steps are taken in the order of the fields, the penalty being first."""

    temperature: float = 0.0
    """Logits are divided by it; 0 always takes the likeliest token."""
    top_k: int | None = None
    """Only the k likeliest tokens are drawn from."""
    top_p: float | None = None
    """Only the fewest likeliest tokens whose probabilities add up to p are drawn from, after top_k.

    Source: Holtzman et al., 2020, "The curious case of neural text degeneration", section 3.1."""
    min_p: float | None = None
    """Only tokens at least this many times as likely as the likeliest one are drawn from.

    Source: Nguyen et al., 2025, "Turning up the heat: min-p sampling for creative and coherent LLM outputs"."""
    repetition_penalty: float = 1.0
    """Tokens that the text has already become less likely: positive logits are divided by it, negative ones multiplied.

    Source: Keskar et al., 2019, "CTRL", section 4.1, which recommends 1.2."""

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn from, and what would silently do nothing."""
        if not 0 <= self.temperature < math.inf:
            raise ValueError(
                f"temperature {self.temperature} is not in [0, inf); 0 takes the likeliest token, 1 samples"
            )
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k {self.top_k} leaves no token; give at least 1")
        for name in ("top_p", "min_p"):
            value = getattr(self, name)
            if value is not None and not 0 < value <= 1:
                raise ValueError(f"{name} {value} is not in (0, 1]")
        if self.temperature == 0 and any(value is not None for value in (self.top_k, self.top_p, self.min_p)):
            raise ValueError("top_k, top_p and min_p do nothing at temperature 0; give a temperature such as 1.0")
        if not 0 < self.repetition_penalty < math.inf:
            raise ValueError(f"repetition_penalty {self.repetition_penalty} is not in (0, inf); 1 penalises nothing")

    def choose(self, logits: Tensor, generator: torch.Generator | None = None, seen: Tensor | None = None) -> Tensor:
        """Choose one token per row.

        Args:
            logits: (batch, vocab).
            generator: where chance comes from; torch's global one when not given.
            seen: (batch, vocab) bool, the tokens that the penalty falls on; none when not given.

        Returns:
            (batch,) int64.
        """
        if seen is not None:
            penalised = torch.where(logits > 0, logits / self.repetition_penalty, logits * self.repetition_penalty)
            logits = torch.where(seen, penalised, logits)
        if self.temperature == 0:
            return logits.argmax(-1)
        scores, order = logits.float() / max(self.temperature, COLDEST), None
        if self.top_k is not None or self.top_p is not None:
            scores, order = scores.topk(min(self.top_k or scores.shape[-1], scores.shape[-1]))
        probabilities = scores.softmax(-1)
        if self.top_p is not None:
            likelier = probabilities.cumsum(-1) - probabilities
            probabilities = probabilities.masked_fill(likelier >= self.top_p, 0)
        if self.min_p is not None:
            least = self.min_p * probabilities.amax(-1, keepdim=True)
            probabilities = probabilities.masked_fill(probabilities < least, 0)
        choice = torch.multinomial(probabilities, 1, generator=generator)
        return (choice if order is None else order.gather(-1, choice)).squeeze(-1)
