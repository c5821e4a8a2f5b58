"""How good a model is on a split: every sample counted once, whatever the number of ranks."""

from collections.abc import Collection, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from zoo.training.data import Split
from zoo.training.data.loader import evaluation_batches, select
from zoo.training.distributed import World
from zoo.training.objectives import Context, Objective
from zoo.training.random import Rows, seed_torch

Totals = dict[str, tuple[Tensor, Tensor]]


@torch.no_grad()
def evaluate(
    objective: Objective,
    nets: Mapping[str, nn.Module],
    split: Split,
    keys: Collection[str],
    batch_size: int,
    world: World,
    seed: int = 0,
) -> dict[str, float]:
    """The objective's metrics over a whole split.

    Args:
        objective: what is measured.
        nets: the plain networks, not those wrapped for training; they are put in eval mode and back.
        split: which samples.
        keys: what of a batch the model or the objective read; the rest is dropped.
        batch_size: rows at once; it does not change the result beyond rounding.
        world: the ranks among which the samples are divided.
        seed: for objectives that draw noise or latents; the same seed draws the same.
    """
    modes = {module: module.training for net in nets.values() for module in net.modules()}
    for net in nets.values():
        net.eval()
    totals: Totals = {}
    try:
        for samples, batch in evaluation_batches(split, batch_size, world.rank, world.size):
            seed_torch(seed, "torch/evaluate", samples[0][1])
            ctx = Context(0, Rows(seed, "evaluate/", samples, world.device), training=False)
            for name, (total, count) in objective.evaluate(nets, select(batch, keys, world.device), ctx).items():
                _add(totals, name, total, count)
    finally:
        for module, training in modes.items():
            module.training = training
    return objective.summarize(_over_ranks(totals, world))


def _add(totals: Totals, name: str, total: Tensor | float, count: Tensor | float) -> None:
    sums = torch.as_tensor(total).double().cpu(), torch.as_tensor(count).double().cpu()
    totals[name] = (totals[name][0] + sums[0], totals[name][1] + sums[1]) if name in totals else sums


def _over_ranks(totals: Totals, world: World) -> Totals:
    """The totals of all ranks, added in the order of ranks; a rank without samples has none."""
    if world.size == 1:
        return totals
    gathered: list[Totals] = [{} for _ in range(world.size)]
    dist.all_gather_object(gathered, totals)
    combined: Totals = {}
    for part in gathered:
        for name, (total, count) in part.items():
            _add(combined, name, total, count)
    return combined
