"""The operations that models spend their time in, each with a plain definition and faster ways to the same result.

`zoo.kernels.use("reference")` chooses among them for a while, `zoo.kernels.status()` says what runs where.
"""

import importlib
import pkgutil

from zoo.kernels.add_rms_norm import add_rms_norm
from zoo.kernels.causal_conv1d import causal_conv1d
from zoo.kernels.op import Op, Status, status_of, use
from zoo.kernels.rms_norm import rms_norm
from zoo.kernels.rope import rope
from zoo.kernels.selective_scan import selective_scan
from zoo.kernels.ssd_scan import ssd_scan
from zoo.kernels.swiglu import swiglu

__all__ = [
    "add_rms_norm", "causal_conv1d", "ops", "rms_norm", "rope", "selective_scan", "ssd_scan", "status", "swiglu", "use",
]  # fmt: skip


def ops() -> list[Op]:
    """Every operation, in alphabetical order."""
    folders = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return [importlib.import_module(f"{__name__}.{name}").OP for name in folders]


def status() -> list[Status]:
    """What runs of each operation under `auto` on this machine, and why nothing is fused where it is not."""
    return [status_of(op) for op in ops()]
