"""Every kernel compiled for GPUs that need not be here: no spilled registers, wide loads, little shared memory.

`make test-kernels` runs this file in a process without Triton's interpreter. It records what the operations launch
for their cases, forward and backward, and compiles just that: with the types, the block sizes and the divisibilities
that a GPU would see.
"""

import itertools
import math
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from kernel_runs import BRAIN, MIXED, SINGLE, arguments, cases, tensors, typed

from zoo import kernels
from zoo.kernels.op import HAS_TRITON, INTERPRETED

SHARED = {80: 163 * 1024, 90: 227 * 1024}
"""The bytes of shared memory that a program can have, by architecture."""

WIDE = r"ld\.global\S*\.(v4\.[bf]32|v2\.[bf]64)|cp\.async\.c.\.shared\.global .*, 0x10"
NARROW = r"ld\.global\S*\.b(8|16)\b"
"""Loads in PTX: of 128 bits, into registers or on the way through shared memory, and of single short numbers."""

pytestmark = [
    pytest.mark.skipif(not HAS_TRITON, reason="triton is not installed, so there are no kernels to compile"),
    pytest.mark.skipif(INTERPRETED, reason="TRITON_INTERPRET is set, and what is interpreted is not compiled"),
]


class Launch(NamedTuple):
    """A kernel with all that decides how it is compiled."""

    name: str
    kernel: Any
    signature: dict[str, str]
    constants: dict[str, Any]
    aligned: tuple[int, ...]
    """Positions of the arguments that are multiples of 16."""
    options: dict[str, Any]
    row: int
    """The last axis of the first tensor."""

    def kind(self, op) -> str:
        """What tells it from others; all programs of a single warp are alike, whatever their size."""
        constants = self.constants if self.options["num_warps"] > 1 else [*self.constants]
        return str((op, self.kernel.__name__, self.signature, constants, self.aligned, self.options))

    @property
    def wide(self) -> bool:
        """Whether rows are multiples of 16 numbers and there are eight for every thread."""
        tile = math.prod(value for value in self.constants.values() if type(value) is int)
        return self.row % 16 == 0 and tile >= 256 * self.options["num_warps"]


def launch(name, kernel, args, options):
    """What Triton makes of a launch: the integer 1 becomes a constant, and multiples of 16 are known as such."""
    from triton.runtime.jit import mangle_type

    values = dict(zip(kernel.arg_names, args, strict=False))
    values |= {key: options.pop(key) for key in kernel.arg_names if key in options}
    signature, constants, aligned = {}, {}, []
    for at, parameter in enumerate(kernel.params):
        value = values[parameter.name]
        constant = parameter.is_constexpr or value is None or (type(value) is int and value == 1)
        signature[parameter.name] = "constexpr" if constant else mangle_type(value)
        if constant:
            constants[parameter.name] = value
        elif (isinstance(value, torch.Tensor) and value.data_ptr() % 16 == 0) or (
            type(value) is int and value % 16 == 0
        ):
            aligned.append(at)
    row = next(value.shape[-1] for value in values.values() if isinstance(value, torch.Tensor))
    return Launch(name, kernel, signature, constants, tuple(aligned), options, row)


def drive(op, args):
    """Run the operation's kernels forward and backward, as far as their launches."""
    args[0].requires_grad_()
    reached = [out for out in tensors(op.fused(*args)) if out.requires_grad]
    torch.autograd.grad(reached, args[0], [torch.empty_like(out) for out in reached])


def launches():
    """All launches of all cases, each once."""
    if not HAS_TRITON or INTERPRETED:
        return []
    from triton.runtime import JITFunction

    found: dict[str, Launch] = {}

    def record(kernel, *args, grid, warmup, **options):
        made = launch(f"{op.name}-{case.name}-{dtypes}-{kernel.__name__.strip('_')}", kernel, args, options)
        if math.prod(grid):
            found.setdefault(made.kind(op.name), made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JITFunction, "run", record)
        for op in (op for op in kernels.ops() if op.fused):
            for case, dtypes in itertools.product(cases(op), (SINGLE, BRAIN, MIXED)):
                drive(op, typed(arguments(op, case), dtypes))
    return list(found.values())


def tool(name) -> Path:
    """One of NVIDIA's programs, which Triton's wheels bring."""
    import triton

    path = Path(triton.__file__).parent / "backends/nvidia/bin" / name
    if not path.exists():
        pytest.skip(f"this triton brings no {name}, so kernels are not compiled and looked at")
    return path


def compiled(launch, arch):
    """Triton's result for an architecture of NVIDIA's."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    tool("ptxas")
    attributes = {(at,): [["tt.divisibility", 16]] for at in launch.aligned}
    source = ASTSource(launch.kernel, launch.signature, launch.constants, attributes)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options=launch.options)


def stack(binary, folder) -> int:
    """Bytes of a thread's numbers that found no register."""
    (folder / "kernel.cubin").write_bytes(binary)
    words = [tool("cuobjdump"), "--dump-resource-usage", folder / "kernel.cubin"]
    text = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", text)[1])


@pytest.mark.parametrize("arch", SHARED)
@pytest.mark.parametrize("launch", [pytest.param(launch, id=launch.name) for launch in launches()])
def test_a_kernel_fits_the_gpu_and_reads_wide(launch, arch, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = compiled(launch, arch)
    assert kernel.metadata.shared <= SHARED[arch]
    if launch.wide:
        wide, narrow = (len(re.findall(load, kernel.asm["ptx"])) for load in (WIDE, NARROW))
        assert wide >= max(narrow, 1), f"{wide} loads of 128 bits and {narrow} of single numbers"
    assert stack(kernel.asm["cubin"], tmp_path) == 0, "a program holds more than its registers; give it more warps"
