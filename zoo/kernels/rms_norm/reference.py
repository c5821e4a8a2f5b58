"""The definition of the root-mean-square norm."""

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """PyTorch's own, which keeps the mean square of half precision in float32."""
    return F.rms_norm(x, (x.shape[-1],), weight, eps)
