"""Tensors in safetensors files, known by name, shape and dtype before a byte of them is read.

A file is 8 bytes (the header's length, little-endian), a JSON header, and the tensors' bytes. The header is
checked here, within bounds that no real model meets, because it comes from strangers.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from zoo.storage import DamagedFile, as_disk_error

MAX_HEADER = 16 * 2**20
"""Bytes; the largest published models stay below 4 MiB per file."""
MAX_DIMS = 16
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "C64": torch.complex64,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "U64": torch.uint64, "U32": torch.uint32, "U16": torch.uint16, "BOOL": torch.bool,
}  # fmt: skip


class Lazy(Protocol):
    """A tensor that is known by shape and dtype before it is read; `Stored` is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Its dtype."""
        ...

    def read(self) -> Tensor:
        """Its value, in memory of its own."""
        ...


@dataclass(frozen=True)
class Later:
    """A tensor that is made when it is read, from others or from nothing."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]


@dataclass(frozen=True)
class Stored:
    """A tensor that lies in a file."""

    file: Path
    start: int
    """Its first byte in the file."""
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self) -> Tensor:
        """The tensor, in memory of its own: a mapped one would end the process if the file were cut short."""
        tensor = torch.empty(self.shape, dtype=self.dtype)
        bytes_ = tensor.reshape(-1).view(torch.uint8).numpy().data
        with self.file.open("rb") as file:
            file.seek(self.start)
            if file.readinto(bytes_) != len(bytes_):
                raise _damaged(self.file, "it ends within a tensor")
        return tensor


def read_header(path: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file by name.

    Raises:
        OSError: the file cannot be opened.
        DamagedFile: it is no complete safetensors file.
    """
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(0)
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise _damaged(path, f"a header of {length} bytes does not fit into {size} bytes")
        text = file.read(length)
    try:
        header = json.loads(text, object_pairs_hook=_without_repetition)
        if not isinstance(header, dict):
            raise ValueError("its header is no JSON object")
        header.pop("__metadata__", None)
        stored, end = {}, 0
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            stored[name] = Stored(path, 8 + length + end, *_shape_and_dtype(name, entry, end))
            end = entry["data_offsets"][1]
    except ValueError as error:  # JSON's and the decoder's own among them
        raise _damaged(path, str(error)) from None
    except (TypeError, KeyError, RecursionError):
        raise _damaged(path, "its header has parts that no tensor has") from None
    if end != size - 8 - length:
        raise _damaged(path, f"its tensors take {end} bytes, but {size - 8 - length} follow the header")
    return stored


def _shape_and_dtype(name: str, entry: Mapping[str, Any], start: int) -> tuple[tuple[int, ...], torch.dtype]:
    """One line of a header; the bytes it speaks of must begin at `start`."""
    shape, dtype, place = entry["shape"], DTYPES[entry["dtype"]], entry["data_offsets"]
    if len(shape) > MAX_DIMS or any(type(number) is not int or number < 0 for number in (*shape, *place)):
        raise ValueError(f"{name!r} has an impossible shape or place")
    if place != [start, start + math.prod(shape) * dtype.itemsize]:
        raise ValueError(f"{name!r} does not lie where its shape and its neighbours say")
    return tuple(shape), dtype


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _damaged(path: Path, why: str) -> DamagedFile:
    return DamagedFile(f"{path}: no complete safetensors file: {why}; use another copy")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file of tensors from any device.

    Raises:
        OSError: the disk is full or not writable.
    """
    path.touch()
    mode = path.stat().st_mode
    try:
        save_file(_without_shared_memory(tensors), path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise as_disk_error(error, path) from None
    path.chmod(mode)  # safetensors gives 0600, whatever the umask


def _without_shared_memory(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors on the CPU that lie whole and alone in their memory, as the format wants them."""
    alone: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        here = tensor.detach().cpu().contiguous()
        memory = here.untyped_storage()
        alone[name] = here.clone() if memory.nbytes() != here.nbytes or memory.data_ptr() in seen else here
        seen.add(memory.data_ptr())
    return alone
