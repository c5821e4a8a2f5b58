"""Multi-head self-attention over tokens (Vaswani et al., 2017), https://arxiv.org/abs/1706.03762, section 3.2.2."""

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Every token looks at every other one."""

    def __init__(self, dim: int, num_heads: int) -> None:
        """Give every head a share of the width."""
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, seq, dim) -> the same shape."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = qkv.movedim(2, 0).transpose(-3, -2)  # each (batch, heads, seq, head_dim)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(-3, -2).flatten(-2))
