"""The second look of a search among codes: what may be among the best is scored exactly.

Codes only estimate scores. So more rows are taken than are asked for, their vectors are fetched
(and kept, the last that were needed), and they are ranked by these. How wrong estimates are is seen
from the same rows: where others could belong to the best by such an error, more are taken.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.codec import Codec
from simdist.vectors.codes import Codes

if TYPE_CHECKING:
    from simdist.search.query_loops import Batch

# Rows taken for each that is asked for, and beside: by the bits of their codes. Among 25,000
# photographs all of the ten best are among so many of 4 and 2 bits, and .999 of them of 1 bit.
_TAKEN = {4: (2, 10), 2: (3, 20), 1: (8, 20)}
# Others are left out unless so many times the mean error of these would put them among the best.
_SURE = 4.0
# Of all vectors, what is forgotten at once when there are too many; what one takes beside it.
_FORGOTTEN, _BESIDE = 16, 120


class Found(NamedTuple):
    """What is found for q queries.

    Attributes:
        rows, scores: (q, n) uint32 and float32, by falling score, then by row.
        found: (q,) int64, how many.
    """

    rows: NDArray[np.uint32]
    scores: NDArray[np.float32]
    found: NDArray[np.int64]


class Refiner:
    """Ranks candidates by their vectors, and keeps these."""

    def __init__(self, codec: Codec, *, memory: int) -> None:
        """None is kept yet.

        Args:
            memory: bytes that vectors may take, roughly.
        """
        self._codec = codec
        self._most = max(1, memory // (codec.width + _BESIDE))
        self._kept: dict[int, bytes] = {}

    def __contains__(self, row: int) -> bool:
        """Whether its vector is here."""
        return row in self._kept

    def keep(self, row: int, vector: bytes) -> None:
        """Have a stored vector."""
        self._kept[row] = vector

    def make_room(self) -> None:
        """Forget the oldest if there are too many: not one that has been kept since."""
        if (more := len(self._kept) - self._most) > 0:
            for row in list(islice(self._kept, more + self._most // _FORGOTTEN)):
                del self._kept[row]

    def best(self, candidates: Batch, n: int, *, all_of_them: int) -> Found | None:
        """The n best of each query's candidates; None where others may be among the best.

        Args:
            candidates: rows whose vectors are here, or that are gone; their scores are estimates.
            all_of_them: so many candidates are not all that there were.
        """
        count = len(candidates.found)
        best = Found(
            np.empty((count, n), np.uint32), np.empty((count, n), np.float32), np.zeros(count, int)
        )
        for i, taken in enumerate(candidates.found.tolist()):
            rows = candidates.rows[i, :taken]
            here = [j for j, row in enumerate(rows.tolist()) if row in self._kept]
            rows, estimates = rows[here], candidates.scores[i, :taken][here]
            scores = self._scores(candidates.exact[i], rows)
            order = np.lexsort((rows, -scores))[:n]
            if taken == all_of_them:
                error = _SURE * float(np.sqrt(np.mean((scores - estimates) ** 2)))
                last = candidates.scores[i, taken - 1]
                if len(order) < n or last + error >= scores[order[-1]]:
                    return None
            best.found[i] = len(order)
            best.rows[i, : len(order)], best.scores[i, : len(order)] = rows[order], scores[order]
        return best

    def _scores(self, query: NDArray[np.float32], rows: NDArray[np.uint32]) -> NDArray[np.float32]:
        from simdist.search.page_loops import score_rows

        packed = self._codec.matrix(b"".join(map(self._kept.__getitem__, rows.tolist())))
        values, inverse_lengths = self._codec.unpack(packed)
        return score_rows(query, np.ascontiguousarray(values), inverse_lengths)


def candidates_for(n: int, codes: Codes) -> int:
    """How many rows to take at first, for the n best."""
    times, more = _TAKEN[codes.bits]
    return times * n + more
