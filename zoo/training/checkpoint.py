"""The state of a run on disk, which survives a kill at any moment and notices every flipped bit.

A checkpoint is a folder `step-00001234` with `state.safetensors` (all tensors, under flat names), `state.json`
(step, counters, config) and `MANIFEST.json` (sha256 of both). It is staged and renamed, so it is there whole or
not at all; the newest valid one is used, and what is damaged is named. No pickle is involved.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoo.storage import DamagedFile, as_disk_error, check_folder, remove_folder, remove_leftovers, staged_folder

MANIFEST = "MANIFEST.json"
FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})$")


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], keep: int
) -> Path:
    """Write the checkpoint of a step, then delete all but the newest `keep`.

    Args:
        folder: the run's `checkpoints` folder.
        step: how many steps are done.
        tensors: the state under flat names; tensors that share memory are stored once.
        facts: plain data to store beside it.
        keep: how many checkpoints stay, at least one.

    Raises:
        OSError: the disk is full or not writable; earlier checkpoints are untouched.
    """
    target = folder / f"step-{step:08d}"
    unique, aliases = _without_copies(tensors)
    with staged_folder(target, MANIFEST, {"format": FORMAT, "torch": torch.__version__}) as staging:
        path = staging / "state.safetensors"
        try:
            save_file(unique, path)
        except SafetensorError as error:
            raise as_disk_error(error, path) from None
        text = json.dumps({"step": step, "aliases": aliases, **facts})
        (staging / "state.json").write_text(text, encoding="utf-8")
    for old in checkpoints(folder)[keep:]:
        remove_folder(old)
    return target


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, newest first, whether valid or not."""
    found = [path for path in folder.iterdir() if _NAME.match(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: path.name, reverse=True)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and facts of one checkpoint, after comparing every byte with the manifest.

    Raises:
        DamagedFile: the checkpoint is not what was written.
    """
    check_folder(path, MANIFEST)
    facts = json.loads((path / "state.json").read_text(encoding="utf-8"))
    tensors = load_file(path / "state.safetensors")
    tensors.update({name: tensors[original] for name, original in facts["aliases"].items()})
    return tensors, facts


def newest_valid(folder: Path, damaged: list[str]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Load the newest checkpoint that is whole, or None.

    Args:
        folder: the run's `checkpoints` folder; what a crash left half-written in it is deleted.
        damaged: receives a line for each checkpoint that had to be skipped.
    """
    remove_leftovers(folder)
    for path in checkpoints(folder):
        try:
            return load_checkpoint(path)
        except DamagedFile as error:
            damaged.append(str(error))
    return None


def verify(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Each checkpoint of a run with what is wrong with it, None for nothing."""
    for path in checkpoints(folder):
        try:
            check_folder(path, MANIFEST)
        except DamagedFile as error:
            yield path, str(error)
        else:
            yield path, None


def _without_copies(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each distinct tensor once, and for the others the name it is stored under."""
    first: dict[tuple[int, torch.Size, tuple[int, ...], torch.dtype], str] = {}
    unique: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        if tensor.numel() and key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            unique[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return unique, aliases
