"""Room for queries, with the addresses of all arrays that a search among buckets needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.hashing import HashFamily
from simdist.search.kept import KeptBuckets

if TYPE_CHECKING:
    from simdist.hashing.ranking_loops import Ranking
    from simdist.search.query_loops import Batch, Kept, Turning


@dataclass(frozen=True)
class Prepared:
    """Room for queries, and where all arrays are that a search among buckets needs.

    Attributes:
        kept: what is searched in, and which rows are not to be found.
        batch: the room.
        headers: `query_loops.all_headers`.
        cells: how many of centroids are looked into; 0 if a compiled loop does not find probes.
        ranking: by which they are ranked. The headers are of no use without all these arrays.
    """

    kept: Kept
    batch: Batch
    headers: NDArray[np.int64]
    cells: int
    ranking: Ranking | None

    @classmethod
    def of(
        cls,
        asked: tuple[int, int, int],
        excluded: NDArray[np.uint8],
        *,
        family: HashFamily,
        turning: Turning,
        kept: KeptBuckets,
    ) -> Prepared:
        """Room for so many queries, results of each and probes, and all addresses of now."""
        from simdist.search import query_loops as loops

        count, n, probes = asked
        ranking, cells = family.ranking(probes) or (None, 0)
        batch = loops.Batch.empty(count, len(turning.factors), probes * family.tables, n)
        view = loops.Kept(kept.table, kept.rows, excluded)
        headers = loops.all_headers(batch, turning, view, ranking)
        return cls(view, batch, headers, cells, ranking)

    def is_for(self, excluded: NDArray[np.uint8], kept: KeptBuckets) -> bool:
        """Whether it leads where these are now."""
        return self.kept.dead is excluded and self.kept.buckets is kept.table
