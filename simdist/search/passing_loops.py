"""The compiled loop that looks for rows that pass a filter in buckets. It holds no lock.

This module imports numba, which is heavy: import it within the functions that need it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.search.bucket_loops import find_bucket
from simdist.vectors.compiled import compiled

ENOUGH, MISSED, FULL = 0, 1, 2


@compiled()
def gather(  # noqa: PLR0917
    places: NDArray[np.int64],
    at: int,
    wanted: int,
    buckets: Any,
    leaps: NDArray[np.int32],
    rows: Any,
    excluded: NDArray[np.uint8],
    barren: NDArray[np.uint8],
    epoch: int,
    clock: int,
    found: NDArray[np.int32],
) -> tuple[int, int, int]:
    """Look for rows that pass in one bucket after the other, until so many are found.

    Args:
        places: (n,) buckets, the most probable first.
        at: the first of them to look into.
        wanted: how many rows.
        buckets: (slots,) `bucket_loops.BUCKET`.
        leaps, rows: as `chain_loops.Chains` has them.
        excluded: a bit for each row that does not pass.
        barren: a byte for each place, set where none does; updated.
        epoch: as of which buckets must be complete.
        clock: they have been used by now.
        found: (m,) filled with where the rows are.

    Returns:
        The first place that was not looked into; how many rows were found; and why it is over:
        ENOUGH are found, or there are no more; that place is MISSED here; or `found` is too FULL
        for it.
    """
    count = 0
    while at < len(places) and count < wanted:
        place = places[at]
        if not barren[place]:
            slot = find_bucket(buckets, place)
            if slot < 0 or buckets[slot].epoch < epoch:
                return at, count, MISSED
            here, left = np.int64(buckets[slot].first), buckets[slot].size
            if count + left > len(found):
                return at, count, FULL
            buckets[slot].used = clock
            before = count
            for _ in range(left):
                row = rows[here].row
                byte = row >> 3
                out = byte < excluded.shape[0] and (excluded[byte] >> (row & 7)) & 1
                if not out:
                    found[count] = here
                    count += 1
                here += 1 + leaps[here]
            if count == before:
                barren[place] = 1
        at += 1
    return at, count, ENOUGH
