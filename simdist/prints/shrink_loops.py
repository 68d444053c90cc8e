"""The loop that makes pictures small and grey; it imports numba: import it where it is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simdist.images.limits import Pixels
from simdist.vectors.compiled import compiled


@compiled()
def shrink(pixels: Pixels, side: int) -> NDArray[np.float32]:
    """(n, s, s, 3) uint8, RGB -> (n, side, side) float32 grey, each the mean of its area."""
    count, size = pixels.shape[0], pixels.shape[1]
    small = np.zeros((count, side, side), np.float32)
    scale = side / size
    wide = 3 * size
    # First downwards: bytes that lie side by side are added up at once.
    band = np.zeros((side, wide), np.float32)
    for number in range(count):
        band[:] = 0
        for y in range(size):
            row = pixels[number, y].reshape(wide)
            cell = min(int(y * scale), side - 1)
            share = _share(y * scale, cell, side, scale)
            _add(band[cell], row, np.float32(share))
            if share < scale:
                _add(band[cell + 1], row, np.float32(scale - share))
        for y in range(side):
            for x in range(size):
                grey = 0.299 * band[y, 3 * x] + 0.587 * band[y, 3 * x + 1]
                grey += 0.114 * band[y, 3 * x + 2]
                cell = min(int(x * scale), side - 1)
                share = _share(x * scale, cell, side, scale)
                small[number, y, cell] += grey * share
                if share < scale:
                    small[number, y, cell + 1] += grey * (scale - share)
    return small


@compiled()
def _add(total: NDArray[np.float32], row: NDArray[np.uint8], share: np.float32) -> None:
    for i in range(total.shape[0]):
        total[i] += share * np.float32(row[i])


@compiled()
def _share(start: float, cell: int, side: int, scale: float) -> float:
    """How much of a pixel lies in a cell, if a cell has length 1: all of it, or its first part."""
    inside = cell + 1 - start
    return scale if inside >= scale or cell == side - 1 else inside
