"""The definition of the gated linear unit with the SiLU."""

import torch.nn.functional as F
from torch import Tensor


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """Two of PyTorch's own operations."""
    return F.silu(gate) * up
