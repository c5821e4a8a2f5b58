"""The definition of the rotary position embedding."""

import torch
from torch import Tensor


def rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """The rotation, in float32 at least: in half precision the products would be rounded before they are added."""
    dtype = torch.promote_types(torch.promote_types(x.dtype, cos.dtype), torch.float32)
    first, second = x.to(dtype).chunk(2, -1)
    cos, sin = cos.to(dtype), sin.to(dtype)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(x.dtype)
