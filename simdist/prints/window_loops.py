"""The compiled loops that look for one print within another; they import numba."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.compiled import compiled

Window = tuple[float, float, float, float]

# A window that is nearly blank agrees with anything: it counts as having this share at least of
# its picture's contrast.
_CONTRAST = 0.25
# The search ends with steps so short, of a picture's side.
_SHORTEST = 0.004
_LEAST_SIDE = 0.2


@compiled()
def agreement(
    picture: NDArray[np.float32], spread: float, window: Window, sought: NDArray[np.float32]
) -> float:
    """How much a window of a picture looks like another picture: their correlation, -1 to 1.

    Args:
        picture: (s, s), of mean zero.
        spread: its standard deviation.
        window: its upper edge, its height, its left edge, its width; the picture's side is 1.
        sought: (k, k), of mean zero and length 1.
    """
    top, height, left, width = window
    side, small = picture.shape[0], sought.shape[0]
    across = np.zeros((side, small))
    for i in range(small):
        start, end = (left + width * i / small) * side, (left + width * (i + 1) / small) * side
        for x in range(max(int(start), 0), min(int(np.ceil(end)), side)):
            share = (min(end, x + 1) - max(start, x)) / (end - start)
            for y in range(side):
                across[y, i] += share * picture[y, x]
    dot = total = squares = 0.0
    for i in range(small):
        start, end = (top + height * i / small) * side, (top + height * (i + 1) / small) * side
        for j in range(small):
            value = 0.0
            for y in range(max(int(start), 0), min(int(np.ceil(end)), side)):
                value += (min(end, y + 1) - max(start, y)) / (end - start) * across[y, j]
            dot += value * sought[i, j]
            total += value
            squares += value * value
    length = np.sqrt(max(squares - total * total / (small * small), 0.0))
    found: float = dot / max(length, _CONTRAST * spread * small, 1e-6)
    return found


@compiled()
def settle(
    picture: NDArray[np.float32],
    spread: float,
    window: Window,
    sought: NDArray[np.float32],
    step: float,
) -> tuple[float, Window]:
    """Move and stretch a window while the two agree better, by ever shorter steps."""
    best = agreement(picture, spread, window, sought)
    while step > _SHORTEST:
        moved = False
        for move in range(12):
            axis, sign = move // 2 % 2, 1.0 if move % 2 else -1.0
            way = move // 4
            by = step * sign
            # Moved; stretched at its far edge; stretched about its middle.
            start = by if way == 0 else 0.0 if way == 1 else -by / 2
            length = 0.0 if way == 0 else by
            top, height, left, width = window
            if axis == 0:
                top, height = top + start, height + length
            else:
                left, width = left + start, width + length
            if min(top, left) < 0 or min(height, width) < _LEAST_SIDE:
                continue
            if max(top + height, left + width) > 1:
                continue
            found = agreement(picture, spread, (top, height, left, width), sought)
            if found > best + 1e-5:
                best, window, moved = found, (top, height, left, width), True
        if not moved:
            step /= 2
    return best, window
