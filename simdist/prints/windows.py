"""Whether one print is a part of another: the cut-out, the framed, the resized and the turned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from simdist.prints.prints import SIDE

# Windows are compared at so many pixels a side at first, and at so many in the end.
_COARSE, _FINE = 10, 16
# Sides of windows, of a picture's: from 1 down by steps, and as far apart.
_STEP, _LEAST = 0.06, 0.34
# How much more a window may be squeezed one way than the other.
_SQUEEZED = 1.6
# What agrees less at first is not looked at more closely.
_PROMISING = 0.82
# A window that is nearly blank counts as having this share of its picture's contrast.
_CONTRAST = 0.25


@dataclass(frozen=True)
class Match:
    """How well a window of one picture agrees with all of another.

    Attributes:
        agreement: their correlation, -1 to 1.
        area: of the window, as a share of its picture.
    """

    agreement: float
    area: float


class Windows:
    """All windows of one picture, to look for others in.

    >>> Windows(large).find(parts)
    [Match(agreement=0.98, area=0.49)]
    """

    def __init__(self, picture: NDArray[np.float32]) -> None:
        """Make them small: (SIDE, SIDE) float32, as `pictures` returns it."""
        self._picture = np.ascontiguousarray(picture - picture.mean())
        self._spread = float(self._picture.std())
        ways, bounds, pairs = _ways()
        down = (ways.reshape(-1, SIDE) @ self._picture).reshape(-1, SIDE)
        both = (down @ ways.reshape(-1, SIDE).T).reshape(len(ways), _COARSE, len(ways), _COARSE)
        windows = both.transpose(0, 2, 1, 3)[pairs[:, 0], pairs[:, 1]].reshape(len(pairs), -1)
        windows -= windows.mean(axis=1, keepdims=True)
        least = _CONTRAST * self._spread * _COARSE
        windows /= np.maximum(np.linalg.norm(windows, axis=1, keepdims=True), max(least, 1e-6))
        self._windows = windows
        self._bounds, self._pairs = bounds, pairs

    def find(self, sought: NDArray[np.float32]) -> list[Match]:
        """Where other pictures, (n, SIDE, SIDE), are seen in this one, as well as each may be."""
        from simdist.prints.window_loops import settle

        agreements = self._windows @ _templates(sought, _COARSE).T
        places = agreements.argmax(axis=0)
        fine = _templates(sought, _FINE).reshape(len(sought), _FINE, _FINE)
        found = []
        for number, place in enumerate(places.tolist()):
            (top, height), (left, width) = self._bounds[self._pairs[place]].tolist()
            best = float(agreements[place, number])
            if best >= _PROMISING:
                window = (top, height, left, width)
                best, window = settle(self._picture, self._spread, window, fine[number], _STEP / 2)
                height, width = window[1], window[3]
            found.append(Match(best, height * width))
        return found


def whole_agreements(one: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) how much pictures agree with others as they are: each (n, SIDE, SIDE)."""
    agreements: NDArray[np.float32] = np.einsum(
        "nk,nk->n", _templates(one, _FINE), _templates(others, _FINE)
    )
    return agreements


def details(shown: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, SIDE, SIDE) pictures -> (n, k) where they become darker and brighter, of length 1.

    Things of one shape on plain ground agree as wholes; their products here, pixel by pixel, do so
    only if they are the same.
    """
    across = np.diff(shown, axis=2).reshape(len(shown), -1)
    down = np.diff(shown, axis=1).reshape(len(shown), -1)
    both = np.concatenate([across, down], axis=1)
    both /= np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)
    return both


def turned(shown: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """(n, SIDE, SIDE) pictures: as they are, by quarter turns, and their mirror images so."""
    for side in (shown, shown[:, :, ::-1]):
        for quarter in range(4):
            yield np.ascontiguousarray(np.rot90(side, quarter, axes=(1, 2)))


def _templates(shown: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """(n, SIDE, SIDE) -> (n, side * side), of mean zero and length 1."""
    way = _averages(0.0, 1.0, side)
    small = np.asarray(way @ shown @ way.T, np.float32).reshape(len(shown), -1)
    small -= small.mean(axis=1, keepdims=True)
    small /= np.maximum(np.linalg.norm(small, axis=1, keepdims=True), 1e-6)
    return small


@cache
def _ways() -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.int64]]:
    """How one side of a window is made small, where it starts and how long it is, and which two
    make a window.
    """
    bounds: list[Sequence[float]] = []
    length = 1.0
    while length >= _LEAST:
        gaps = round((1 - length) / _STEP)
        bounds += [(start, length) for start in np.linspace(0, 1 - length, gaps + 1).tolist()]
        length -= _STEP
    sides = np.array(bounds)
    ways = np.stack([_averages(start, length, _COARSE) for start, length in sides.tolist()])
    squeezed = np.abs(np.log(sides[:, None, 1] / sides[None, :, 1]))
    return ways, sides, np.argwhere(squeezed <= np.log(_SQUEEZED) + 1e-6)


@cache
def _averages(start: float, length: float, count: int) -> NDArray[np.float32]:
    """(count, SIDE) the means of equal parts of a stretch of a side."""
    edges = (start + length * np.arange(count + 1) / count) * SIDE
    pixels = np.arange(SIDE)
    shares = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    shares = shares.clip(0)
    averages: NDArray[np.float32] = (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)
    return averages
