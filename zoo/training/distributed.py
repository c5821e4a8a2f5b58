"""One process or many: the few collectives that the trainer needs, on torch.distributed directly.

`torchrun` sets the environment; without it the world is one process and every function here is a no-op.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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
    """Join the other processes that torchrun started, and leave them in order.

    The barrier before leaving is there because gloo sometimes aborts a process whose peers are still talking.
    """
    chosen, size = choose_device(device), int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or dist.is_initialized():
        joined = dist.is_initialized()
        yield World(dist.get_rank() if joined else 0, dist.get_world_size() if joined else 1, chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, chosen)
        dist.barrier()
    finally:
        dist.destroy_process_group()
