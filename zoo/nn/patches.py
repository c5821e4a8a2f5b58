"""Images as rows of patches: cut apart, put together again, and the embeddings of where each patch lies."""

import torch
import torch.nn.functional as F
from torch import Tensor

LONGEST_WAVE = 10_000
"""Of the positions' sinusoids, in multiples of 2 pi patches."""


def to_patches(image: Tensor, size: int) -> Tensor:
    """Cut an image into patches, row by row.

    Args:
        image: (batch, channels, height, width), both sides multiples of `size`.
        size: height and width of a patch.

    Returns:
        (batch, patches, size * size * channels): the numbers of a patch in the order of rows, columns, channels.
    """
    batch, channels, height, width = image.shape
    cut = image.reshape(batch, channels, height // size, size, width // size, size)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, size * size * channels)


def to_image(patches: Tensor, size: int, grid: tuple[int, int]) -> Tensor:
    """Put the patches of an image together again.

    Args:
        patches: (batch, rows * columns, size * size * channels), as `to_patches` gives them.
        size: height and width of a patch.
        grid: how many rows and columns of patches there are.

    Returns:
        (batch, channels, rows * size, columns * size).
    """
    rows, columns = grid
    cut = patches.reshape(patches.shape[0], rows, columns, size, size, -1).permute(0, 5, 1, 3, 2, 4)
    return cut.reshape(patches.shape[0], -1, rows * size, columns * size)


def sinusoids(dim: int, side: int) -> Tensor:
    """Embeddings of the patches of a square, which nobody learns: sines and cosines of the column, then of the row.

    Args:
        dim: their width, a multiple of 4.
        side: rows and columns of patches.

    Returns:
        (side * side, dim) float32, on the CPU.
    """
    pair = torch.arange(dim // 4, dtype=torch.float64, device="cpu")
    frequency = float(LONGEST_WAVE) ** -(pair / (dim // 4))
    angle = torch.arange(side, dtype=torch.float64, device="cpu")[:, None] * frequency
    place = torch.cat([angle.sin(), angle.cos()], dim=1)  # (side, dim / 2)
    column, row = place.repeat(side, 1), place.repeat_interleave(side, 0)
    return torch.cat([column, row], dim=1).float()


def resample(positions: Tensor, grid: tuple[int, int] | torch.Size) -> Tensor:
    """Position embeddings of a square grid, interpolated to another grid.

    Args:
        positions: (1, prefix + side * side, dim), where the prefix is less than a row of patches.
        grid: rows and columns that are wanted.

    Returns:
        (1, prefix + rows * columns, dim).

    Source: ViT (Dosovitskiy et al., 2020), section 3.2.
    """
    side = int(positions.shape[1] ** 0.5)
    prefix = positions.shape[1] - side**2
    if (side, side) == tuple(grid):
        return positions
    old = positions[:, prefix:].mT.unflatten(-1, (side, side)).float()  # (1, dim, side, side)
    new = F.interpolate(old, size=tuple(grid), mode="bicubic", antialias=True).to(positions.dtype)
    return torch.cat([positions[:, :prefix], new.flatten(2).mT], dim=1)
