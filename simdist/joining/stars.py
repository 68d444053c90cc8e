"""Groups as stars: each member is near its representative."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Star:
    """A representative, its members by their numbers, and which pair joins each to it."""

    centre: int
    members: tuple[int, ...]
    pairs: tuple[int, ...]


def stars(
    numbers: NDArray[np.int32],
    count: int,
    *,
    parts: NDArray[np.int32] | None = None,
    sizes: NDArray[np.int64] | None = None,
    apart: Collection[tuple[int, int]] = (),
) -> list[Star]:
    """Divide images into stars, greedily: whoever has most neighbours that are left comes first.

    Chains of neighbours do not grow together as in connected components, and no order of the
    pairs matters. As J. A. Aslam, E. Pelekhov, D. Rus, 'The star clustering algorithm', JGAA 8
    (2004).

    Args:
        numbers: (m, 2) pairs of neighbours, each once.
        count: of images.
        parts: numbers of images that are a part of another: of images with as many neighbours,
            those come later that are so more often,
        sizes: (count,) then the larger comes first, then the smaller number.
        apart: pairs, the smaller number first, that no star may have two members of.

    Returns:
        The stars, by their centres.
    """
    ones, others = numbers.T.ravel(), numbers[:, ::-1].T.ravel()
    order = np.lexsort((others, ones))
    neighbours, pair_of = others[order], (order % max(len(numbers), 1)).astype(np.int32)
    starts = np.searchsorted(ones[order], np.arange(count + 1)).tolist()
    del ones, others, order
    degrees = np.diff(starts)
    taken = np.zeros(count, np.bool_)
    found = []
    of_others = np.bincount([] if parts is None else parts, minlength=count)
    sizes = np.zeros(count, np.int64) if sizes is None else sizes
    for centre in np.lexsort((-sizes, of_others, -degrees)).tolist():
        if not degrees[centre]:
            break
        if taken[centre]:
            continue
        its = slice(starts[centre], starts[centre + 1])
        free = np.flatnonzero(~taken[neighbours[its]])
        left = neighbours[its][free].tolist(), pair_of[its][free].tolist()
        members: list[int] = []
        pairs: list[int] = []
        for member, pair in zip(*left, strict=True):
            if _fits(member, members, apart):
                members.append(member)
                pairs.append(pair)
        if members:
            taken[[centre, *members]] = True
            found.append(Star(centre, tuple(members), tuple(pairs)))
    return sorted(found, key=lambda star: star.centre)


def _fits(number: int, members: Sequence[int], apart: Collection[tuple[int, int]]) -> bool:
    if not apart:
        return True
    return not any((min(number, one), max(number, one)) in apart for one in members)
