"""Stochastic depth (Huang et al., 2016), https://arxiv.org/abs/1603.09382: whole branches are left out at random."""

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """While training, each sample's branch is zero with probability `p`, and otherwise scaled by 1 / (1 - p).

    It stands at the end of a branch whose result is added to a shortcut. In eval mode it is the identity.
    """

    def __init__(self, p: float) -> None:
        """Keep the probability of leaving the branch out."""
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(batch, ...) -> the same shape."""
        if not self.training or self.p == 0:
            return x
        keep = torch.full((x.shape[0],) + (1,) * (x.ndim - 1), 1 - self.p, dtype=x.dtype, device=x.device)
        return x * keep.bernoulli() / (1 - self.p)

    def extra_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


def rates(drop_path: float, depth: int) -> list[float]:
    """The linear rule of section 4 of the paper: from 0 at the first block to `drop_path` at the last."""
    return [drop_path * i / max(1, depth - 1) for i in range(depth)]
