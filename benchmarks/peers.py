"""How fast our networks are beside the peers': medians of interleaved pairs, beside a control of ours against itself.

Both have the same weights. A round times ours, theirs and a second copy of ours, in turn, so that whatever else the
machine does hits all alike; a ratio is the median over the rounds. What the control differs from 1 is noise.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

import zoo
from zoo.convert import foreign_tensors

CASES: Mapping[str, tuple[str, str, tuple[int, ...], Mapping[str, Any]]] = {
    # our preset: the library, its name, the shape of an image, and what its network needs
    "alexnet": ("torchvision", "alexnet", (224, 224), {}),
    "vgg11_bn": ("torchvision", "vgg11_bn", (112, 112), {}),
    "squeezenet1_1": ("torchvision", "squeezenet1_1", (224, 224), {}),
    "googlenet": ("torchvision", "googlenet", (160, 160), {"aux_logits": False, "init_weights": False}),
    "inception_v3": ("torchvision", "inception_v3", (160, 160), {"aux_logits": False, "init_weights": False}),
    "resnet18": ("torchvision", "resnet18", (160, 160), {}),
    "densenet121": ("torchvision", "densenet121", (128, 128), {}),
    "efficientnet_b0": ("torchvision", "efficientnet_b0", (160, 160), {}),
    "convnext_tiny": ("torchvision", "convnext_tiny", (128, 128), {}),
    "vit_b_32": ("torchvision", "vit_b_32", (224, 224), {}),
    "r3d_18": ("torchvision", "r3d_18", (4, 64, 64), {}),
    "mc3_18": ("torchvision", "mc3_18", (4, 64, 64), {}),
    "r2plus1d_18": ("torchvision", "r2plus1d_18", (4, 64, 64), {}),
    "resnet50": ("timm", "resnet50", (128, 128), {}),
    "seresnet50": ("timm", "seresnet50", (128, 128), {}),
    "vgg11": ("timm", "vgg11", (112, 112), {"drop_rate": 0.5}),
    "densenet121 ": ("timm", "densenet121", (128, 128), {}),
    "inception_v3 ": ("timm", "inception_v3", (160, 160), {}),
    "efficientnet_b0 ": ("timm", "efficientnet_b0", (160, 160), {}),
    "tf_efficientnet_b0": ("timm", "tf_efficientnet_b0", (160, 160), {}),
    "convnext_tiny ": ("timm", "convnext_tiny", (128, 128), {}),
    "vit_ti_16": ("timm", "vit_tiny_patch16_224", (224, 224), {}),
}
"""A space after a preset stands for its second peer."""
BATCH = 4


@dataclass(frozen=True)
class Row:
    """One comparison; ratios are ours over theirs, so below 1 ours is faster."""

    preset: str
    peer: str
    mode: str
    ratio: float
    control: float
    ours: float
    """In `unit`."""
    rounds: int
    unit: str = "ms"


def compare(library: str, pattern: str, seconds: float) -> Iterator[Row]:
    """Both modes of every case of a library.

    Args:
        library: `torchvision` or `timm`.
        pattern: only presets that contain it.
        seconds: how long each comparison may take.
    """
    for case, (source, name, shape, options) in CASES.items():
        preset = case.strip()
        if source != library or pattern not in preset:
            continue
        ours, again = zoo.create(preset), zoo.create(preset)
        theirs = _peer(source, name, options)
        again.load_state_dict(ours.state_dict())
        theirs.load_state_dict(foreign_tensors(ours, source))
        image = torch.randn(BATCH, 3, *shape)
        for mode, step in (("inference", _infer), ("training", _train)):
            models = [model.train(mode == "training") for model in (ours, theirs, again)]
            yield timed(preset, f"{source}/{name}", mode, [_bound(step, model, image) for model in models], seconds)


def _peer(source: str, name: str, options: Mapping[str, Any]) -> nn.Module:
    if source == "torchvision":
        from torchvision.models import get_model

        return get_model(name, **options)
    import timm

    return timm.create_model(name, **options)


def _bound(
    step: Callable[[nn.Module, torch.Tensor], None], model: nn.Module, image: torch.Tensor
) -> Callable[[], None]:
    return lambda: step(model, image)


@torch.no_grad()
def _infer(model: nn.Module, image: torch.Tensor) -> None:
    model(image)


def _train(model: nn.Module, image: torch.Tensor) -> None:
    """Forward, backward and plain SGD with a rate of zero, which keeps the weights equal."""
    model(image).square().mean().backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0 * parameter.grad
            parameter.grad = None


def timed(preset: str, peer: str, mode: str, steps: list[Callable[[], None]], seconds: float, least: int = 6) -> Row:
    """The row of steps that are ours, theirs and ours again."""
    times = times_of(steps, seconds, least)
    return Row(
        preset=preset,
        peer=peer,
        mode=mode,
        ratio=round(statistics.median(a / b for a, b, _ in times), 4),
        control=round(statistics.median(a / c for a, _, c in times), 3),
        ours=round(1000 * statistics.median(a for a, _, _ in times), 1),
        rounds=len(times),
    )


def times_of(steps: list[Callable[[], None]], seconds: float, least: int = 6) -> list[tuple[float, ...]]:
    """Seconds of each step, round by round, after a first one that does not count; the order changes."""
    rounds: list[tuple[float, ...]] = []
    end = time.monotonic() + seconds
    while len(rounds) < least or (time.monotonic() < end and len(rounds) < 60):
        taken = [0.0] * len(steps)
        for position in range(len(steps)):
            index = (position + len(rounds)) % len(steps)
            start = time.perf_counter()
            steps[index]()
            taken[index] = time.perf_counter() - start
        rounds.append(tuple(taken))
    return rounds[1:]


def save(rows: list[Row], path: Path) -> None:
    """The rows and what they were measured on, as JSON."""
    machine = {
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    path.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in rows]}, indent=1) + "\n")
