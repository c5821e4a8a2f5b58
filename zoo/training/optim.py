"""Optimizers from a config: who updates which parameter, at which rate, with which decay."""

import fnmatch
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import ConfigError
from zoo.training.run import Group, OptimizerConfig


@dataclass(frozen=True)
class NamedOptimizer:
    """An optimizer together with what it is of; its parameter groups carry `base_lr`."""

    network: str
    name: str
    optimizer: torch.optim.Optimizer
    parameters: Mapping[str, nn.Parameter]

    def set_rate(self, factor: float) -> None:
        """Give every group this share of its own learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor

    def state(self) -> dict[str, Tensor]:
        """What it has accumulated, as `parameter/key` -> tensor; rates and decays are the config's."""
        return {
            f"{name}/{key}": value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
            for name, parameter in self.parameters.items()
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave.

        Raises:
            ValueError: it belongs to other parameters.
        """
        self.optimizer.state.clear()
        for path, value in state.items():
            name, _, key = path.rpartition("/")
            if name not in self.parameters:
                raise ValueError(f"optimizer state for unknown parameter {name!r}; the checkpoint is another model's")
            self.optimizer.state[self.parameters[name]][key] = value


def matches(name: str, patterns: str | Iterable[str]) -> bool:
    """Whether a parameter's name fits one of the shell-style patterns."""
    return any(fnmatch.fnmatchcase(name, p) for p in ((patterns,) if isinstance(patterns, str) else patterns))


def build_optimizers(
    config: OptimizerConfig,
    network: str,
    parameters: Mapping[str, nn.Parameter],
    spared: Iterable[str] = (),
    towers: Iterable[str] = (),
) -> list[NamedOptimizer]:
    """The optimizers of one network: one for each algorithm that its groups name.

    Args:
        config: algorithm, rates, groups.
        network: the network's name.
        parameters: full parameter name -> parameter, in depth order; frozen ones are left out here.
        spared: names of parameters without weight decay, besides everything with fewer than two axes.
        towers: names of submodules that stand side by side, each with a depth of its own.

    Raises:
        ConfigError: a parameter is given to an algorithm that cannot take it.
    """
    depth, top = _depths(parameters, towers)
    buckets: dict[str, dict[tuple[tuple[str, Any], ...], list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, parameter in parameters.items():
        if not parameter.requires_grad:
            continue
        group = next((group for group in config.groups if matches(name, group.match)), Group(match="*"))
        algorithm = group.name or config.name
        if algorithm == "muon" and parameter.ndim != 2:
            raise ConfigError(
                f"optimizer: muon takes matrices, but {name} has shape {tuple(parameter.shape)}; "
                f"add a group such as {{match: {name}, name: adamw, lr: 1e-3}}"
            )
        options = _options(config, group, algorithm)
        options["base_lr"] = options["lr"] * config.layer_decay ** (top - depth[name])
        if parameter.ndim < 2 or matches(name, spared):
            options["weight_decay"] = 0.0
        buckets[algorithm][tuple(options.items())].append(name)
    return [
        NamedOptimizer(
            network,
            algorithm,
            _make(
                algorithm,
                [dict(options) | {"params": [parameters[n] for n in names]} for options, names in groups.items()],
            ),
            {name: parameters[name] for names in groups.values() for name in names},
        )
        for algorithm, groups in buckets.items()
    ]


def _options(config: OptimizerConfig, group: Group, algorithm: str) -> dict[str, Any]:
    def chosen(key: str) -> Any:
        value = getattr(group, key)
        return getattr(config, key) if value is None else value

    options = {"lr": chosen("lr"), "weight_decay": chosen("weight_decay")}
    if algorithm == "adamw":
        return options | {"betas": chosen("betas"), "eps": config.eps}
    return options | {"momentum": chosen("momentum"), "nesterov": config.nesterov or algorithm == "muon"}


def _make(algorithm: str, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if algorithm == "adamw":
        return torch.optim.AdamW(groups, fused=True)
    if algorithm == "sgd":
        return torch.optim.SGD(groups, fused=True)
    return torch.optim.Muon(groups)


def _depths(names: Iterable[str], towers: Iterable[str]) -> tuple[dict[str, int], int]:
    """How deep each parameter sits, and the depth of the head.

    Towers end at the same depth, where what belongs to none of them sits too, such as the scale of their product.
    """
    names = list(names)
    inside = [_depths_in_row(found) for tower in towers if (found := [n for n in names if n.startswith(f"{tower}.")])]
    if not inside:
        return _depths_in_row(names)
    top = max(own for _, own in inside)
    depth = {name: own + top - last for found, last in inside for name, own in found.items()}
    return {name: depth.get(name, top) for name in names}, top


def _depths_in_row(names: Iterable[str]) -> tuple[dict[str, int], int]:
    """How deep each parameter sits, counted in blocks from the input, and the depth of the head.

    Names are in depth order (DESIGN: `stem` or `embed`, then `blocks.i` or `stages.i.j`, then the rest), so
    what is no block shares the depth of the block before it; the head stands one above all.
    """
    depth, current, last = {}, 0, None
    for name in names:
        parts = name.split(".")
        where = next((i for i, part in enumerate(parts) if part in ("blocks", "stages")), None)
        block = None if where is None else tuple(parts[: where + (2 if parts[where] == "blocks" else 3)])
        if block is not None and block != last:
            current, last = current + 1, block
        depth[name] = current
    head = [name for name in depth if "head" in name.split(".")]
    depth.update(dict.fromkeys(head, current + 1))
    return depth, current + 1


def frozen_names(patterns: str | Iterable[str], names: Iterable[str]) -> list[str]:
    """Which parameters `trainer.freeze` names; the word `backbone` stands for all but the head.

    Raises:
        ConfigError: a pattern fits no parameter, or nothing would be left to train.
    """
    names = list(names)
    frozen: set[str] = set()
    for pattern in (patterns,) if isinstance(patterns, str) else patterns:
        if pattern == "backbone":
            found = [name for name in names if "head" not in name.split(".")]
        else:
            found = [name for name in names if matches(name, (pattern, f"{pattern}.*"))]
        if not found:
            raise ConfigError(f"trainer.freeze: no parameter matches {pattern!r}; names look like {names[0]!r}")
        frozen.update(found)
    if frozen and len(frozen) == len(names):
        raise ConfigError(f"trainer.freeze: {patterns!r} leaves nothing to train; freeze less")
    return [name for name in names if name in frozen]
