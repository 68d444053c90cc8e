"""The compiled loop by which candidates are ranked by their vectors.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.search.chain_loops import cosine, insert
from simdist.vectors.compiled import compiled

UNSURE = -1
# Others are left out unless so many times the mean error of these would put them among the best.
_SURE = np.float32(4)


class Vectors(NamedTuple):
    """Stored vectors, as they came.

    Attributes:
        values: (slots, d) int8.
        inverse_lengths: (slots,) float32.
    """

    values: NDArray[np.int8]
    inverse_lengths: NDArray[np.float32]


@compiled()
def rank_candidates(  # noqa: PLR0917
    query: NDArray[np.float32],
    rows: NDArray[np.uint32],
    estimates: NDArray[np.float32],
    slots: NDArray[np.int64],
    vectors: Vectors,
    best_rows: NDArray[np.uint32],
    best_scores: NDArray[np.float32],
    are_all: bool,
) -> int:
    """The best of candidates, in `best_rows` and `best_scores`; returns how many.

    Args:
        query: (d,) float32, of length 1.
        rows, estimates: (c,) uint32 and float32, by falling estimate.
        slots: (c,) int64, where their vectors are; -1 for an image that is gone.
        best_rows, best_scores: (n,) uint32 and float32, filled in.
        are_all: there are no others.

    Returns:
        `UNSURE` where others may be among the best.
    """
    found = there = 0
    error = np.float32(0)
    for i in range(len(rows)):
        slot = slots[i]
        if slot < 0:
            continue
        score = cosine(query, vectors.values[slot], vectors.inverse_lengths[slot])
        error += (score - estimates[i]) * (score - estimates[i])
        there += 1
        found = insert(rows[i], score, found, best_rows, best_scores)
    if not are_all:
        if found < len(best_rows):
            return UNSURE
        error = _SURE * np.sqrt(error / np.float32(there))
        if estimates[len(rows) - 1] + error >= best_scores[found - 1]:
            return UNSURE
    return found
