"""Large images from small maps, part by part: what a decoder computes at full resolution fits no memory otherwise.

A decoder of convolutions and group norms makes `factor` pixels of every position of a map. But for the norms a pixel
depends on few positions around its own, so overlapping tiles of the map can be decoded one after the other. The
norms want the moments of the whole image; these are found one norm after the other, for each hangs on those before it.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product
from typing import NamedTuple

import torch
from torch import Tensor, nn

Normalise = Callable[[nn.GroupNorm, Tensor], Tensor]
"""How a group norm is applied to what it is given: by itself, or with the moments of a larger image."""


def by_itself(norm: nn.GroupNorm, x: Tensor) -> Tensor:
    """With the moments of what it is given, as usual."""
    return norm(x)


class Tile(NamedTuple):
    """A part of one axis."""

    start: int
    stop: int
    core: tuple[int, int]
    """What of it belongs to this tile when every position is counted once."""

    def at(self, factor: int) -> slice:
        """Its place where every position has become `factor`."""
        return slice(self.start * factor, self.stop * factor)


Decode = Callable[[Tensor, Normalise], Tensor]
"""From a map, and how to normalise, to an image (batch, channels, factor * height, factor * width)."""


def decode_in_tiles(decode: Decode, x: Tensor, factor: int, *, tile: int, overlap: int, exact: bool) -> Tensor:
    """What `decode(x, by_itself)` gives, in parts; where tiles overlap, it passes linearly from one to the next.

    Args:
        decode: what makes an image of a map.
        x: (batch, channels, height, width).
        factor: pixels per position.
        tile: height and width of a tile, in positions.
        overlap: positions that neighbours have in common.
        exact: whether norms have the moments of the whole image. All tiles are then decoded as far as the first norm,
            as far as the second, and so on, which takes about half as many times as long as there are norms.

    Raises:
        ValueError: tile and overlap do not fit.
    """
    if tile < 1:
        raise ValueError(f"tile {tile} is below 1")
    if not 0 <= 2 * overlap <= tile:
        raise ValueError(f"overlap {overlap} is not in [0, {tile // 2}]; give at most half of tile {tile}")
    height, width = x.shape[-2:]
    if tile >= max(height, width):
        return decode(x, by_itself)
    parts = list(product(_tiles(height, tile, overlap), _tiles(width, tile, overlap)))
    moments = _Moments()
    while exact and moments.find(decode, x, parts):
        pass
    image = x.new_zeros(0)
    for row, column in parts:
        part = decode(x[..., row.at(1), column.at(1)], moments.apply)
        part = part * _ramp(row, height, overlap, factor, part)[:, None] * _ramp(column, width, overlap, factor, part)
        if not image.numel():
            image = part.new_zeros(*part.shape[:2], height * factor, width * factor)
        image[..., row.at(factor), column.at(factor)] += part
    return image


def _tiles(size: int, tile: int, overlap: int) -> list[Tile]:
    """Parts of `size` positions, each `tile` long but perhaps the last, cut in the middle of what they share."""
    starts = range(0, max(size - overlap, 1), tile - overlap)
    cuts = [0, *(start + overlap // 2 for start in starts[1:]), size]
    return [Tile(start, min(start + tile, size), core) for start, core in zip(starts, pairwise(cuts), strict=True)]


def _ramp(part: Tile, size: int, overlap: int, factor: int, like: Tensor) -> Tensor:
    """The weight of each pixel along one axis of a decoded tile; those of neighbours add up to 1."""
    shared = overlap * factor
    weight = like.new_ones((part.stop - part.start) * factor)
    rise = (torch.arange(shared, device=like.device, dtype=like.dtype) + 0.5) / max(shared, 1)
    if part.start > 0:
        weight[:shared] *= rise
    if part.stop < size:
        weight[len(weight) - shared :] *= 1 - rise
    return weight


class _Reached(Exception):
    """A tile came to a norm whose moments are not known yet."""

    def __init__(self, norm: nn.GroupNorm, sums: Tensor) -> None:
        """Carry the norm and its core's sum, sum of squares and count, (3, batch, groups)."""
        super().__init__()
        self.norm, self.sums = norm, sums


class _Moments:
    """The mean and variance of the whole image at each norm, (batch, groups), as far as they are known."""

    def __init__(self) -> None:
        """Know nothing."""
        self.known: dict[nn.GroupNorm, tuple[Tensor, Tensor]] = {}

    def find(self, decode: Decode, x: Tensor, parts: Sequence[tuple[Tile, Tile]]) -> bool:
        """Find those of the first norm that has none; False if all have."""
        reached: list[_Reached] = []
        for row, column in parts:
            try:
                decode(x[..., row.at(1), column.at(1)], partial(self._stop_at_unknown, row, column))
            except _Reached as norm:
                reached.append(norm)
            else:
                return False
        total, squares, count = torch.stack([part.sums for part in reached]).sum(0).unbind()
        mean = total / count
        self.known[reached[0].norm] = mean, squares / count - mean.square()
        return True

    def apply(self, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        """The norm with these moments, or by itself."""
        if norm not in self.known:
            return norm(x)
        mean, variance = (value.repeat_interleave(x.shape[1] // norm.num_groups, 1) for value in self.known[norm])
        gain = norm.weight / (variance + norm.eps).sqrt()  # (batch, channels)
        return x * gain.to(x.dtype)[..., None, None] + (norm.bias - mean * gain).to(x.dtype)[..., None, None]

    def _stop_at_unknown(self, row: Tile, column: Tile, norm: nn.GroupNorm, x: Tensor) -> Tensor:
        if norm in self.known:
            return self.apply(norm, x)
        scale = x.shape[-2] // (row.stop - row.start)
        down, across = (slice(*((end - part.start) * scale for end in part.core)) for part in (row, column))
        core = x[..., down, across].unflatten(1, (norm.num_groups, -1)).flatten(2).double()
        count = torch.full_like(core[..., 0], core.shape[-1])
        raise _Reached(norm, torch.stack([core.sum(-1), core.square().sum(-1), count]))
