"""One process or many: the few collectives that the trainer needs, on torch.distributed directly.

`torchrun` sets the environment; without it the world is one process and every function here is a no-op.
"""

import atexit
import contextlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from zoo.config import ConfigError


@dataclass(frozen=True)
class World:
    """Who takes part, and on which device this process computes."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, on every rank."""
        if self.size > 1:
            value = value.to(self.device) if dist.get_backend() == "nccl" else value
            dist.all_reduce(value)
        return value

    def gather(self, value: Tensor) -> Tensor:
        """The rows of all ranks, of which each has as many, in the order of ranks; without gradient."""
        if self.size == 1:
            return value.detach()
        parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, value.detach().contiguous())
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any rank, so that all decide alike."""
        return flag if self.size == 1 else bool(self.sum(torch.tensor(float(flag), device=self.device)) > 0)

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.size > 1:
            dist.barrier()

    def wrap(self, network: nn.Module) -> nn.Module:
        """A network whose backward averages gradients over the ranks."""
        if self.size == 1 or not any(parameter.requires_grad for parameter in network.parameters()):
            return network
        return DistributedDataParallel(network, device_ids=[self.device] if self.device.type == "cuda" else None)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network that `World.wrap` was given."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def choose_device(name: str) -> torch.device:
    """The device that a config names; `auto` is this process's accelerator, or the CPU without one.

    Raises:
        ConfigError: there is no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == "cuda" and device.index is None:
            device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"trainer.device: {name!r} is not usable here ({reason}); use auto or cpu") from None
    return device


@contextmanager
def world(device: str) -> Iterator[World]:
    """Join the other processes that torchrun started; once joined, they stay together until the process ends."""
    chosen, size = choose_device(device), int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 and not dist.is_initialized():
        yield World(0, 1, chosen)
        return
    if not dist.is_initialized():
        if chosen.type == "cuda":
            torch.cuda.set_device(chosen)
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    atexit.unregister(_leave)
    atexit.register(_leave)
    try:
        yield World(dist.get_rank(), dist.get_world_size(), chosen)
    except Exception:
        atexit.unregister(_leave)  # the peers may not come to the barrier; torchrun ends them
        raise


def _leave() -> None:
    """Part in order: gloo sometimes aborts a process whose peers are still talking, so all wait for each other."""
    if dist.is_initialized():
        with contextlib.suppress(RuntimeError):  # a peer that died has been reported by torchrun
            if dist.get_backend() == "gloo":
                dist.monitored_barrier(timeout=timedelta(seconds=30))
        dist.destroy_process_group()
