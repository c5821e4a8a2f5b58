"""How fast our U-Net, DiT and first stage of latent diffusion are beside diffusers', with the same weights, in turn.

A training step is the denoising or the reconstruction error and its backward pass. What a step needs of memory beside
the weights is measured in a process of its own for each, three of them, as the highest resident size of one step.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import zoo
from benchmarks.peers import Row, timed


@dataclass(frozen=True)
class Case:
    """A network of diffusers, and what it looks at."""

    family: str
    options: Mapping[str, Any]
    image: tuple[int, ...]
    """(batch, channels, height, width)."""
    reads: tuple[str, ...] = ()
    """Of `timestep` and `class_labels`."""


CASES: Mapping[str, Case] = {
    "ddpm_cifar10_32": Case(
        "UNet2DModel",
        {
            "sample_size": 32, "in_channels": 3, "out_channels": 3, "block_out_channels": (128, 256, 256, 256),
            "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"), "attention_head_dim": None,
            "layers_per_block": 2, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1,
            "norm_eps": 1e-6,
        },
        (4, 3, 32, 32),
        ("timestep",),
    ),
    "dit_s_2": Case(
        "DiTTransformer2DModel",
        {
            "num_attention_heads": 6, "attention_head_dim": 64, "num_layers": 12, "in_channels": 4, "out_channels": 8,
            "sample_size": 32, "patch_size": 2,
        },
        (4, 4, 32, 32),
        ("timestep", "class_labels"),
    ),
    "sd_vae": Case(
        "AutoencoderKL",
        {
            "block_out_channels": (128, 256, 512, 512), "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4, "layers_per_block": 2, "latent_channels": 4,
        },
        (1, 3, 128, 128),
    ),
}  # fmt: skip
PROCESSES = 3
"""In which each memory is measured."""


def compare(pattern: str, seconds: float) -> Iterator[Row]:
    """Every comparison in turn.

    Args:
        pattern: only models whose name contains it.
        seconds: how long each comparison of time may take, but for six rounds at the least.
    """
    for name, case in CASES.items():
        if pattern in name:
            with tempfile.TemporaryDirectory() as folder:
                _peer(case).save_pretrained(folder)
                yield from _times(name, case, folder, seconds)
                yield from _memory(name, case, folder)


def _peer(case: Case) -> Any:
    import diffusers

    torch.manual_seed(0)
    model = getattr(diffusers, case.family)(**case.options)
    if case.family == "DiTTransformer2DModel":  # its blocks' embedders are copies in every released file
        for block in model.transformer_blocks:
            block.norm1.emb.load_state_dict(model.transformer_blocks[0].norm1.emb.state_dict())
    return model


def _times(name: str, case: Case, folder: str, seconds: float) -> Iterator[Row]:
    models = [_load(whose, case, folder) for whose in ("ours", "theirs", "ours")]
    for mode in ("inference", "training"):
        steps = [_step(mode, model, case) for model in models]
        yield timed(name, f"diffusers/{case.family}", mode, steps, seconds)


def _load(whose: str, case: Case, folder: str) -> Any:
    if whose == "ours":
        return zoo.create(f"local-dir:{folder}")
    import diffusers

    return getattr(diffusers, case.family).from_pretrained(folder)


def _step(mode: str, model: nn.Module, case: Case) -> Callable[[], None]:
    image = torch.randn(case.image, generator=torch.Generator().manual_seed(0))
    known = {"timestep": torch.full((len(image),), 500), "class_labels": torch.arange(len(image))}
    ask = _bound(model.train(mode == "training"), image, [known[name] for name in case.reads])
    if mode == "inference":
        return torch.no_grad()(ask)

    def learn() -> None:
        ask().square().mean().backward()
        for parameter in model.parameters():
            parameter.grad = None

    return learn


def _bound(model: Any, image: Tensor, known: list[Tensor]) -> Callable[[], Tensor]:
    """What the network gives for the image: the first output of either."""
    if hasattr(model, "provenance"):
        return lambda: model(image, *known)[0] if not known else model(image, *known)
    names = dict(zip(("timestep", "class_labels"), known, strict=False))
    return lambda: model(image, **names).sample


def _memory(name: str, case: Case, folder: str) -> Iterator[Row]:
    """What a step needs at most beside what is there before it."""
    for mode in ("inference", "training"):
        ours, theirs, again = (
            statistics.median(_peak(whose, name, mode, folder) for _ in range(PROCESSES))
            for whose in ("ours", "theirs", "ours")
        )
        yield Row(
            preset=name,
            peer=f"diffusers/{case.family}",
            mode=f"{mode}, peak memory",
            ratio=round(ours / theirs, 3),
            control=round(ours / again, 3),
            ours=round(ours, 1),
            rounds=PROCESSES,
            unit="MB",
        )


def _peak(whose: str, name: str, mode: str, folder: str) -> float:
    command = [sys.executable, "-m", "benchmarks.generative", whose, name, mode, folder]
    root = Path(__file__).parents[1]
    return json.loads(subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout)


def _measure(whose: str, name: str, mode: str, folder: str) -> float:
    """Megabytes by which two steps rise above what was there before the first."""
    case = CASES[name]
    model = _load(whose, case, folder)
    step = _step(mode, model, case)
    sum(float(parameter.sum()) for parameter in model.parameters())  # what was mapped is read from the disk now
    Path("/proc/self/clear_refs").write_text("5", "utf-8")  # the highest size is counted from here, not from loading
    before = _resident("VmRSS")
    for _ in range(2):
        step()
    return (_resident("VmHWM") - before) / 1024


def _resident(name: str) -> int:
    """Kilobytes, from Linux."""
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


if __name__ == "__main__":
    print(_measure(*sys.argv[1:]))  # noqa: T201 - the answer to the process that asked
