"""What a run holds and a checkpoint stores: networks, optimizers, the moving average, and the step."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from zoo.training.distributed import World
from zoo.training.ema import MovingAverage
from zoo.training.objectives import Objective
from zoo.training.optim import NamedOptimizer, build_optimizers, frozen_names
from zoo.training.run import RunConfig


class State:
    """All that changes while training."""

    def __init__(self, model: nn.Module, objective: Objective, config: RunConfig, world: World) -> None:
        """Put the model on the device and make what trains it.

        Raises:
            ConfigError: optimizer groups or frozen parameters do not fit the model.
        """
        self.model = model.to(world.device)
        self.extras = {name: extra.to(world.device) for name, extra in objective.build(model).items()}
        self.networks = {**objective.networks(model), **self.extras}
        self.step, self.skipped = 0, 0
        self.best: tuple[float, dict[str, Tensor]] | None = None
        frozen = set(frozen_names(config.trainer.freeze, self._names().values()))
        for parameter, name in self._names().items():
            parameter.requires_grad_(parameter.requires_grad and name not in frozen)
        self.trainable = {name: _trainable(network) for name, network in self.networks.items()}
        self.optimizers = self._optimizers(config)
        self.ema = None if config.trainer.ema is None else MovingAverage(model, config.trainer.ema)
        self.average = None if self.ema is None else {**objective.networks(self.ema.model), **self.extras}
        wrapped = {name: torch.compile(n) if config.trainer.compile else n for name, n in self.networks.items()}
        self.wrapped = {name: world.wrap(network) for name, network in wrapped.items()}  # pyright: ignore[reportArgumentType]
        self._buffers = [b for network in self.networks.values() for b in network.buffers()]
        self._saved_buffers = [buffer.clone() for buffer in self._buffers]

    def _names(self) -> dict[nn.Parameter, str]:
        """Every parameter's full name: as in the model, or prefixed by the network it belongs to outside of it."""
        names = {parameter: name for name, parameter in self.model.named_parameters()}
        for network, extra in self.extras.items():
            names |= {parameter: f"{network}.{name}" for name, parameter in extra.named_parameters()}
        return names

    def _optimizers(self, config: RunConfig) -> list[NamedOptimizer]:
        names = self._names()
        spared, towers = self._declared("no_weight_decay"), self._declared("towers")
        made = []
        for network, module in self.networks.items():
            parameters = {names[parameter]: parameter for parameter in module.parameters()}
            made += build_optimizers(config.optimizer, network, parameters, spared, towers)
        return made

    def _declared(self, attribute: str) -> list[str]:
        """The names that modules of the model give in a class attribute, in full."""
        return [
            f"{module_name}.{name}".removeprefix(".")
            for module_name, module in self.model.named_modules()
            for name in getattr(module, attribute, ())
        ]

    def nets(self, updated: tuple[str, ...]) -> dict[str, nn.Module]:
        """The networks as a phase calls them: wrapped where gradients are reduced, plain elsewhere."""
        return {name: self.wrapped[name] if name in updated else net for name, net in self.networks.items()}

    def evaluated(self) -> dict[str, nn.Module]:
        """The networks that evaluation uses: the moving average where there is one."""
        return self.networks if self.average is None else self.average

    def exported(self) -> nn.Module:
        """The model that the run delivers."""
        return self.model if self.ema is None else self.ema.model

    def train_mode(self) -> None:
        """Train mode, except for modules whose every parameter is frozen: their statistics stay as they are."""
        for network in self.networks.values():
            network.train()
            for module in network.modules():
                own = list(module.parameters(recurse=False))
                if own and not any(parameter.requires_grad for parameter in own):
                    module.eval()

    @contextmanager
    def updating(self, names: tuple[str, ...]) -> Iterator[list[NamedOptimizer]]:
        """Let gradients reach only these networks' parameters; gives their optimizers, with gradients cleared."""
        chosen = [optimizer for optimizer in self.optimizers if optimizer.network in names]
        others = [p for name, parameters in self.trainable.items() if name not in names for p in parameters]
        for parameter in others:
            parameter.requires_grad_(False)
        for optimizer in chosen:
            optimizer.optimizer.zero_grad(set_to_none=True)
        try:
            yield chosen
        finally:
            for parameter in others:
                parameter.requires_grad_(True)

    def remember_buffers(self) -> None:
        """Keep a copy of all statistics, in case the step turns out to be void."""
        if self._buffers:
            torch._foreach_copy_(self._saved_buffers, self._buffers)  # pyright: ignore[reportPrivateImportUsage]

    def restore_buffers(self) -> None:
        """Put the statistics back to the last `remember_buffers`."""
        if self._buffers:
            torch._foreach_copy_(self._buffers, self._saved_buffers)  # pyright: ignore[reportPrivateImportUsage]

    def keep_if_best(self, score: float) -> None:
        """Remember the exported weights if `score`, where larger is better, beats all before."""
        if not math.isnan(score) and (self.best is None or score > self.best[0]):
            self.best = (score, {name: tensor.clone() for name, tensor in self.exported().state_dict().items()})

    def tensors(self) -> dict[str, Tensor]:
        """The whole state under flat names."""
        parts: dict[str, Mapping[str, Tensor]] = {"model": self.model.state_dict()}
        parts |= {f"extra/{name}": extra.state_dict() for name, extra in self.extras.items()}
        parts |= {f"optimizer/{o.network}/{o.name}": o.state() for o in self.optimizers}
        if self.ema is not None:
            parts["ema"] = self.ema.model.state_dict()
        if self.best is not None:
            parts["best"] = self.best[1]
        return {f"{part}/{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}

    def facts(self) -> dict[str, Any]:
        """The numbers that go with the tensors."""
        return {"skipped": self.skipped, "best": None if self.best is None else self.best[0]}

    def load(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Put back what `tensors` and `facts` gave.

        Raises:
            RuntimeError, ValueError: they are another model's.
        """

        def part(prefix: str) -> dict[str, Tensor]:
            return {name[len(prefix) + 1 :]: t for name, t in tensors.items() if name.startswith(prefix + "/")}

        self.model.load_state_dict(part("model"))
        for name, extra in self.extras.items():
            extra.load_state_dict(part(f"extra/{name}"))
        for optimizer in self.optimizers:
            optimizer.load_state(part(f"optimizer/{optimizer.network}/{optimizer.name}"))
        if self.ema is not None:
            self.ema.model.load_state_dict(part("ema"))
        if facts["best"] is not None:
            self.best = (facts["best"], part("best"))
        self.step, self.skipped = facts["step"], facts["skipped"]


def _trainable(network: nn.Module) -> list[nn.Parameter]:
    return [parameter for parameter in network.parameters() if parameter.requires_grad]
