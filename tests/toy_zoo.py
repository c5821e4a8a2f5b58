"""A small architecture with everything that saving and loading must get right, and a zoo that it comes and goes in."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.registry import ARCHITECTURES, Architecture
from zoo.storage import describe_file


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    width: int = 4
    depth: int = 2
    in_channels: int = 3
    num_classes: int = 5
    tied: bool = True
    positions: int = 7
    eps: float = 1e-5


class Toy(nn.Module):
    """A stem, blocks of which two may share a matrix, a frozen parameter, and buffers of both kinds."""

    table: Tensor

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(config.in_channels, config.width, 3, bias=False)
        self.norm = nn.BatchNorm2d(config.width, eps=config.eps)
        self.blocks = nn.ModuleList([nn.Linear(config.width, config.width) for _ in range(config.depth)])
        if config.tied:
            self.blocks[-1].weight = self.blocks[0].weight
        self.scale = nn.Parameter(torch.ones(()), requires_grad=False)
        self.register_buffer("table", torch.zeros(config.positions), persistent=False)
        self.head = nn.Linear(config.width, config.num_classes)

    def init_weights(self) -> None:
        nn.init.normal_(self.stem.weight)
        self.norm.reset_parameters()
        for layer in [*self.blocks, self.head]:
            nn.init.normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.ones_(self.scale)
        self.table.copy_(torch.arange(len(self.table)))

    def forward(self, image: Tensor) -> Tensor:
        x = self.norm(self.stem(image)).mean((2, 3)) + self.table.mean()
        for block in self.blocks:
            x = torch.tanh(block(x))
        return self.head(x * self.scale)


def architecture(name: str = "toy", **changes: Any) -> Architecture:
    """The toy's record, or one that differs."""
    fields = {
        "model": Toy,
        "config": ToyConfig,
        "task": "image-classification",
        "paper": "https://example.org/toy",
        "tiny": ToyConfig(),
        "presets": {f"{name}_wide": ToyConfig(width=8)},
        "params": {},
        "aliases": {},
    }
    return Architecture(name=name, **{**fields, **changes})


@contextlib.contextmanager
def registered(*records: Architecture) -> Iterator[None]:
    """The zoo with these architectures too, and afterwards without."""
    ARCHITECTURES.records()
    before = dict(ARCHITECTURES._owners)
    try:
        for record in records:
            ARCHITECTURES.register(record)
        yield
    finally:
        ARCHITECTURES._owners = before


def same_state(first: nn.Module, second: nn.Module) -> bool:
    """Whether two models have the same tensors, buffers that are never stored included."""
    pairs = zip(_everything(first).items(), _everything(second).items(), strict=True)
    return all(a == b and x.dtype == y.dtype and torch.equal(x, y) for (a, x), (b, y) in pairs)


def _everything(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters(remove_duplicate=False)), **dict(model.named_buffers())}


def sign(folder: Path) -> None:
    """Write a manifest that is right for whatever lies in the folder, as whoever forges a checkpoint would."""
    files = {path.name: describe_file(path) for path in folder.iterdir() if path.name != "zoo.json"}
    (folder / "zoo.json").write_text(json.dumps({"files": files}))


def edit_config(folder: Path, **changes: Any) -> None:
    """Change keys of config.json, or of its `config` by `config={...}`, and sign the folder again."""
    path = folder / "config.json"
    data = json.loads(path.read_text())
    data["config"] |= changes.pop("config", {})
    path.write_text(json.dumps(data | changes))
    sign(folder)
