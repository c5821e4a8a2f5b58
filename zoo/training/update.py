"""One update of one phase: forward, backward, accumulation, clipping, and the guard against non-finite numbers."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from zoo.training.data.loader import Microbatch
from zoo.training.distributed import World, unwrapped
from zoo.training.everyone import gathering, knowing
from zoo.training.objectives import Context, Loss, Objective, Phase, rows
from zoo.training.optim import NamedOptimizer
from zoo.training.random import Rows, seed_torch
from zoo.training.run import TrainerConfig
from zoo.training.state import State


@dataclass(frozen=True)
class Outcome:
    """What an update did, for the log; sums and counts are this rank's."""

    terms: Mapping[str, tuple[Tensor, Tensor | int]]
    """Weighted sums and counts of the loss's terms."""
    logs: Mapping[str, tuple[Tensor, Tensor | int]]
    grad_norm: Tensor
    applied: bool


def update(
    state: State,
    objective: Objective,
    phase: Phase,
    microbatches: Sequence[Microbatch],
    config: TrainerConfig,
    world: World,
) -> Outcome:
    """Run one phase of one step.

    The gradient is that of sum_t weight_t * sum_t / count_t with sums and counts over all microbatches of all
    ranks, so how the global batch is cut up changes nothing.

    Raises:
        ValueError: the objective's counts are not what it announced; see Objective.counts.
    """
    terms: dict[str, tuple[Tensor, Tensor | int]] = {}
    logs: dict[str, tuple[Tensor, Tensor | int]] = {}
    with state.updating(phase.updates) as optimizers:
        nets = state.nets(phase.updates)
        contexts = [_context(state, config, phase, m, world) for m in microbatches]
        if len(microbatches) > 1:
            totals = _announced(objective, phase, microbatches, contexts, world)
            contexts = _embedded(state, objective, phase, microbatches, contexts, config, world)
        else:
            totals, contexts = None, [gathering(contexts[0], world)]
        for part, (microbatch, ctx) in enumerate(zip(microbatches, contexts, strict=True)):
            seed_torch(config.seed, f"torch/{phase.name}", state.step, part, world.rank)
            with ExitStack() as stack:
                if part < len(microbatches) - 1:
                    for net in nets.values():
                        if isinstance(net, DistributedDataParallel):
                            stack.enter_context(net.no_sync())
                with torch.autocast(world.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                    loss = objective.loss(phase, nets, microbatch.batch, ctx)
                known = _global_counts({n: t[1] for n, t in loss.terms.items()}, world) if totals is None else totals
                _normalised(loss, known, microbatch, phase).mul(world.size).backward()
            _add(terms, {name: (total * weight, count) for name, (total, count, weight) in loss.terms.items()})
            _add(logs, loss.logs)
        norm, applied = _apply(optimizers, config, world)
        if applied:
            _constrain(state.networks[name] for name in phase.updates)
        return Outcome(terms, logs, norm, applied)


def _context(state: State, config: TrainerConfig, phase: Phase, microbatch: Microbatch, world: World) -> Context:
    return Context(state.step, Rows(config.seed, f"{phase.name}/", microbatch.samples, world.device), training=True)


def _embedded(
    state: State,
    objective: Objective,
    phase: Phase,
    microbatches: Sequence[Microbatch],
    contexts: Sequence[Context],
    config: TrainerConfig,
    world: World,
) -> list[Context]:
    """Contexts that know the features of the whole global batch, where the objective embeds: see `everyone.py`.

    The pass leaves no trace: it calls the networks beneath those that average gradients, which count their calls.
    """
    nets = {name: unwrapped(net) for name, net in state.nets(phase.updates).items()}
    parts: list[dict[str, Tensor]] = []
    for part, (microbatch, ctx) in enumerate(zip(microbatches, contexts, strict=True)):
        seed_torch(config.seed, f"torch/{phase.name}", state.step, part, world.rank)
        with torch.no_grad(), torch.autocast(world.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            features = objective.embed(phase, nets, microbatch.batch, ctx)
        if not features:
            return list(contexts)
        parts.append(features)
    state.restore_buffers()  # which the trainer remembers before each update
    return knowing(contexts, parts, world)


def _announced(
    objective: Objective, phase: Phase, microbatches: Sequence[Microbatch], contexts: Sequence[Context], world: World
) -> dict[str, Tensor]:
    """The global count of each term before any forward pass; `*` stands for terms that count rows."""
    local: dict[str, Tensor | int] = {}
    for microbatch, ctx in zip(microbatches, contexts, strict=True):
        counts = {"*": rows(microbatch.batch), **objective.counts(phase, microbatch.batch, ctx)}
        local = {name: local.get(name, 0) + count for name, count in counts.items()}
    return _global_counts(local, world)


def _global_counts(counts: Mapping[str, Tensor | int], world: World) -> dict[str, Tensor]:
    stacked = torch.stack([torch.as_tensor(c, dtype=torch.float64, device="cpu") for c in counts.values()])
    return dict(zip(counts, world.sum(stacked), strict=True))


def _normalised(loss: Loss, totals: Mapping[str, Tensor], microbatch: Microbatch, phase: Phase) -> Tensor:
    """The weighted terms, each divided by its global count; a term that counts nothing anywhere adds nothing."""
    parts = []
    for name, (total, count, weight) in loss.terms.items():
        if name not in totals and int(count) != rows(microbatch.batch):
            raise ValueError(
                f"phase {phase.name}: term {name!r} counts {int(count)} for {rows(microbatch.batch)} rows; "
                "with accumulation its objective must say so beforehand, by counts()"
            )
        parts.append(total * (weight / max(1.0, float(totals.get(name, totals.get("*", 1))))))
    return torch.stack(parts).sum()


def _add(sums: dict[str, tuple[Tensor, Tensor | int]], new: Mapping[str, tuple[Tensor, Tensor | int]]) -> None:
    for name, (total, count) in new.items():
        before = sums.get(name, (0, 0))
        sums[name] = (before[0] + total.detach(), before[1] + count)


def _constrain(networks: Iterable[Any]) -> None:
    """Let the networks that limit a parameter do so, such as the scale of CLIP's logits."""
    for network in networks:
        if hasattr(network, "constrain"):
            network.constrain()


def _apply(optimizers: Sequence[NamedOptimizer], config: TrainerConfig, world: World) -> tuple[Tensor, bool]:
    """Clip, step unless a gradient is NaN or infinite, and return the gradient's norm and whether it stepped."""
    parameters = [p for named in optimizers for p in named.parameters.values() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if world.any(not bool(torch.isfinite(norm))):
        for named in optimizers:
            named.optimizer.zero_grad(set_to_none=True)
        return norm, False
    if config.clip_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, config.clip_norm, norm)
    for named in optimizers:
        named.optimizer.step()
    return norm, True
