"""Averages over the steps between two log lines, right for any number of microbatches and ranks."""

import time
from collections.abc import Mapping

import torch
from torch import Tensor

from zoo.training.distributed import World
from zoo.training.update import Outcome

Sums = dict[str, tuple[Tensor, Tensor | int]]


class Window:
    """What the steps since the last log line did."""

    def __init__(self) -> None:
        """Begin empty."""
        self._clear()

    def _clear(self) -> None:
        self.terms: Sums = {}
        self.logs: Sums = {}
        self.norms: dict[str, Tensor] = {}
        self.steps, self.skipped = 0, 0
        self.begun = time.monotonic()

    def add(self, phase: str, outcome: Outcome) -> None:
        """Add an update; one that was skipped is only counted, for its numbers are not finite."""
        self.norms[phase] = outcome.grad_norm
        if not outcome.applied:
            self.skipped += 1
            return
        for mine, new in ((self.terms, outcome.terms), (self.logs, outcome.logs)):
            for name, (total, count) in new.items():
                before = mine.get(name, (0, 0))
                mine[name] = (before[0] + total, before[1] + count)

    def close(self, world: World, global_batch: int) -> dict[str, float]:
        """The means since the last call, over all ranks, and begin anew.

        Args:
            world: the ranks, all of which must call.
            global_batch: samples per step.

        Returns:
            `loss`, the sum of all terms; each term where there are several; the objective's logs; `grad_norm`
            of the last step (per phase where there are several); `skipped` steps; `samples_per_second`.
        """
        terms, logs = _means(self.terms, world), _means(self.logs, world)
        facts = {"loss": sum(terms.values()) if terms else float("nan")}
        facts |= terms if len(terms) > 1 else {}
        facts |= logs
        for phase, norm in self.norms.items():
            facts["grad_norm" if len(self.norms) == 1 else f"{phase}_grad_norm"] = float(norm)
        if self.skipped:
            facts["skipped"] = float(self.skipped)
        facts["samples_per_second"] = self.steps * global_batch / max(1e-9, time.monotonic() - self.begun)
        self._clear()
        return facts


def _means(sums: Mapping[str, tuple[Tensor, Tensor | int]], world: World) -> dict[str, float]:
    if not sums:
        return {}
    pairs = [[torch.as_tensor(x, dtype=torch.float64, device="cpu") for x in pair] for pair in sums.values()]
    totals = world.sum(torch.stack([torch.stack(pair) for pair in pairs]))
    return {name: float(total / max(1.0, float(count))) for name, (total, count) in zip(sums, totals, strict=True)}
