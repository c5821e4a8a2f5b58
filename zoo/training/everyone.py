"""The features of the whole global batch, for losses in which each sample is a rival of every other.

Such a loss is no sum over microbatches, so each of them must know the features of all: of the other ranks', and of
those that this rank has not come to. Gradients need no second exchange. A microbatch takes the gradient of the whole
batch's loss with respect to its own features alone, the others being constants, and adding that up over microbatches
and ranks, as is done with every gradient, is the chain rule.

With one microbatch a rank its features are gathered as they come. With several, a pass without gradients makes the
features of all first, with the same dropout; statistics of the batch are then put back.

Source: Gao et al., 2021, "Scaling deep contrastive learning batch size under memory limited setup" (GradCache),
section 3; https://arxiv.org/abs/2101.06983. There the gradient of each feature is kept, here it is computed again.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from zoo.training.distributed import World
from zoo.training.objectives import Context, Features


def gathering(ctx: Context, world: World) -> Context:
    """The context of a rank's only microbatch: its features meet those of the other ranks.

    Args:
        ctx: what the microbatch knows so far.
        world: the ranks, of which each has as many rows.
    """

    def everyone(features: Features) -> tuple[dict[str, Tensor], int]:
        rows = len(next(iter(features.values())))
        return {name: world.gather(feature) for name, feature in features.items()}, world.rank * rows

    return replace(ctx, everyone=everyone)


def knowing(contexts: Sequence[Context], parts: Sequence[Features], world: World) -> list[Context]:
    """The contexts of a rank's microbatches, in which the features of all microbatches of all ranks are known.

    Args:
        contexts: what each microbatch knows so far.
        parts: the features of each, of as many rows.
        world: the ranks.
    """
    rows = len(next(iter(parts[0].values())))
    gathered = [{name: world.gather(feature) for name, feature in part.items()} for part in parts]
    whole = {name: torch.cat([part[name] for part in gathered]) for name in parts[0]}  # in the order of the samples
    return [_known(ctx, whole, (part * world.size + world.rank) * rows) for part, ctx in enumerate(contexts)]


def _known(ctx: Context, whole: dict[str, Tensor], start: int) -> Context:
    return replace(ctx, everyone=lambda features: (whole, start))
