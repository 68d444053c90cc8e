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
# Vectors that there is room for, at the least; what one takes beside its bytes.
_LEAST, _BESIDE = 4096, 120
# Of all vectors, what is forgotten at once when there is no room for others.
_FORGOTTEN = 16


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
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        # Touched only where it is filled.
        self._values = np.empty((0, codec.dim), np.int8)
        self._inverse_lengths = np.empty(0, np.float32)
        self._grow(max(_LEAST, memory // (codec.width + _BESIDE)))

    def missing(self, candidates: Batch) -> list[int]:
        """The rows whose vectors are not here, each once; there is room for them from now on."""
        found = zip(candidates.rows, candidates.found.tolist(), strict=True)
        rows = {row for some, count in found for row in some[:count].tolist()}
        missing = rows.difference(self._slots)
        if len(missing) > len(self._free):
            self._make_room(len(missing), rows)
        return sorted(missing)

    def _make_room(self, count: int, needed: set[int]) -> None:
        """Have room for so many more vectors, by forgetting the oldest that are not needed."""
        if len(needed) > len(self._values):
            self._grow(len(needed))
        others = (row for row in self._slots if row not in needed)
        more = count - len(self._free) + len(self._values) // _FORGOTTEN
        for row in list(islice(others, max(0, more))):
            self._free.append(self._slots.pop(row))

    def keep(self, row: int, packed: NDArray[np.uint8]) -> None:
        """Have the (width,) bytes of a stored vector; there is room for it."""
        slot = self._slots[row] = self._free.pop()
        self._values[slot], self._inverse_lengths[slot] = (
            part[0] for part in self._codec.unpack(packed[None])
        )

    def best(self, candidates: Batch, n: int) -> Found | None:
        """The n best of each query's candidates; None where others may be among the best.

        Args:
            candidates: rows whose vectors are here, or that are gone; their scores are estimates.
        """
        from simdist.search.refine_loops import UNSURE, Vectors, rank_candidates

        count, all_of_them = candidates.rows.shape
        rows, scores = np.empty((count, n), np.uint32), np.empty((count, n), np.float32)
        found, vectors = candidates.found.copy(), Vectors(self._values, self._inverse_lengths)
        for i, taken in enumerate(found.tolist()):
            some = candidates.rows[i, :taken]
            slots = np.array([self._slots.get(row, -1) for row in some.tolist()], np.int64)
            found[i] = rank_candidates(
                candidates.exact[i],
                some,
                candidates.scores[i, :taken],
                slots,
                vectors,
                rows[i],
                scores[i],
                taken < all_of_them,
            )
            if found[i] == UNSURE:
                return None
        return Found(rows, scores, found)

    def _grow(self, size: int) -> None:
        values, inverse_lengths = self._values, self._inverse_lengths
        self._values = np.empty((size, self._codec.dim), np.int8)
        self._inverse_lengths = np.empty(size, np.float32)
        self._values[: len(values)] = values
        self._inverse_lengths[: len(values)] = inverse_lengths
        self._free += range(len(values), size)


def candidates_for(n: int, codes: Codes) -> int:
    """How many rows to take at first, for the n best."""
    times, more = _TAKEN[codes.bits]
    return times * n + more
