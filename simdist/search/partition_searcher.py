"""The search in one partition, and what is kept of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError
from simdist.index.buckets import OutdatedError
from simdist.index.partition import Partition
from simdist.index.tuning import ProbeChooser
from simdist.index.where import Where
from simdist.search.cache import BucketCache
from simdist.search.filtering import Filters
from simdist.search.question import Hit
from simdist.settings import MAX_RESULTS
from simdist.store import layout

if TYPE_CHECKING:
    from simdist.search.page_loops import Pages
    from simdist.search.query_loops import Batch

# Buckets looked up in each table: with k-means buckets, recall@10 is about .95 (docs/families.md).
PROBES = 32
# Of what a searcher may keep, the share for records (URIs, labels): some hundred bytes each.
_RECORDS_SHARE = 16
_RECORD_BYTES = 512
_HIT = partial(tuple.__new__, Hit)
# Of all records, what is forgotten at once when there are too many.
_FORGOTTEN = 16


class Wish(NamedTuple):
    """What is to be found for a query.

    Attributes:
        n: how many.
        probes: buckets to look into in each table, and no others.
        recall: by which their number is chosen in its place; with neither it is `PROBES`. Then
            there may be more, so that n are found where there are n.
        where: which images.
    """

    n: int
    probes: int | None
    recall: float | None
    where: Where | None


class PartitionSearcher:
    """The search in one partition, and what is kept of it."""

    def __init__(
        self, partition: Partition, chooser: ProbeChooser, *, memory: int, max_staleness: float
    ) -> None:
        self._partition = partition
        self._chooser = chooser
        self._memory = memory
        self._max_staleness = max_staleness
        self._max_records = max(MAX_RESULTS, memory // _RECORDS_SHARE // _RECORD_BYTES)
        # Row -> URI, label, metadata.
        self._records: dict[int, tuple[str, str | None, Mapping[str, Any]]] = {}
        self._cache: BucketCache | None = None
        self._filters: Filters | None = None
        self._checked_at = 0.0
        self.rows_read = 0
        self.cache_misses = 0

    def is_fitted(self) -> bool:
        """Whether there is anything to search in."""
        try:
            return (self._cache and self._synced()) is not None or self._partition.is_fitted()
        except OutdatedError:
            self._forget()
            return self._partition.is_fitted()

    def search(self, queries: NDArray[np.float32], wish: Wish) -> list[list[Hit]]:
        """For each query what is wished for."""
        while True:
            try:
                cache = self._synced()
                before = cache.readings
                if wish.where is None:
                    found = self._search(cache, queries, wish)
                else:
                    found = self._filtered(cache, queries, wish, wish.where)
            except OutdatedError:
                self._forget()
            else:
                self.cache_misses += cache.readings - before
                return found

    def prepare(self, fields: Iterable[str]) -> None:
        """Read fields that filters will ask for, some seconds for a million images."""
        self._filters = self._filters or Filters(self._partition)
        self._filters.prepare(fields)

    def _forget(self) -> None:
        """Nothing that was read holds any more: the rows may be those of other images."""
        self._cache = None
        self._filters = None
        self._records.clear()
        self._partition.forget()

    def _synced(self) -> BucketCache:
        """The cache, as new as it must be."""
        now = time.monotonic()
        if self._cache is None:
            # The rest of the memory is for its values.
            memory = self._memory - self._memory // _RECORDS_SHARE
            generation = self._partition.hashing().generation
            self._cache = BucketCache(self._partition, generation=generation, memory=memory)
        elif now - self._checked_at < self._max_staleness:
            return self._cache
        self._cache.sync()
        self._checked_at = now
        return self._cache

    def _probes(self, cache: BucketCache, wish: Wish) -> int:
        """The number of probes; if these tables turn out to be replaced, it is chosen anew."""
        if wish.recall is None:
            return wish.probes or PROBES
        try:
            return self._chooser.probes(wish.recall, self._partition, cache.generation)
        except CollectionError:
            cache.sync()
            raise

    def _search(
        self, cache: BucketCache, queries: NDArray[np.float32], wish: Wish
    ) -> list[list[Hit]]:
        probes = self._probes(cache, wish)
        most = probes if wish.probes else cache.size
        rank = partial(self._rank, cache, n=wish.n, probes=probes, most=most, enough=wish.n)
        best = rank(queries)
        return [self._hits(cache, queries, rank, best, i) for i in range(len(queries))]

    def _filtered(
        self, cache: BucketCache, queries: NDArray[np.float32], wish: Wish, where: Where
    ) -> list[list[Hit]]:
        """`_search` among the rows that pass a filter.

        Where that is quickest all are scored. Else as many of them are as would be of all rows, and
        so as many more buckets are looked into as there are fewer of them: the recipe of ParlayIVF
        (big-ann-benchmarks, NeurIPS 2023).
        """
        if self._filters is None:
            self._filters = Filters(self._partition)
        while True:
            passing = self._filters.passing(where, cache)
            moment = cache.moment
            probes = self._probes(cache, wish)
            if passing.are_few(probes, cache.size):
                pages, count = passing.pages(self._partition, moment)
                rank = partial(self._rank_all, cache, n=wish.n, pages=pages, count=count)
            else:
                more = passing.known / max(1, passing.count)
                rank = partial(
                    self._rank,
                    cache,
                    n=wish.n,
                    probes=min(cache.size, math.ceil(more * probes)),
                    most=cache.size,
                    enough=wish.n,
                    excluded=passing.excluded,
                )
            best = rank(queries)
            hits = [self._hits(cache, queries, rank, best, i) for i in range(len(queries))]
            # Rows that came, or died, while buckets were read have not been looked at.
            if cache.moment == moment:
                return hits

    def _rank(
        self,
        cache: BucketCache,
        queries: NDArray[np.float32],
        *,
        n: int,
        probes: int,
        most: int,
        enough: int,
        excluded: NDArray[np.uint8] | None = None,
    ) -> Batch:
        """Look into so many buckets, or into more, until enough is found for each query."""
        while True:
            best, scored, least = cache.rank(queries, n, probes, excluded)
            self.rows_read += scored
            if least >= enough or probes >= most:
                return best
            probes = min(most, 2 * probes)

    def _rank_all(
        self,
        cache: BucketCache,
        queries: NDArray[np.float32],
        *,
        n: int,
        pages: Pages,
        count: int,
    ) -> Batch:
        best, scored = cache.rank_all(queries, n, pages, count)
        self.rows_read += scored
        return best

    def _hits(
        self,
        cache: BucketCache,
        queries: NDArray[np.float32],
        rank: Callable[[NDArray[np.float32]], Batch],
        best: Batch,
        i: int,
    ) -> list[Hit]:
        """What is found for the i-th query; `rank` finds it once more."""
        found = int(best.found[i])
        rows, scores = best.rows[i, :found].tolist(), best.scores[i, :found].tolist()
        if not rows:
            return []
        try:
            records = [self._records[row] for row in rows]
        except KeyError:
            if self._know(cache, rows):
                return self._hits(cache, queries, rank, best, i)
            # One has been deleted meanwhile.
            only = queries[i : i + 1]
            return self._hits(cache, only, rank, rank(only), 0)
        uris, labels, metadata = zip(*records, strict=True)
        # As `Hit._make` does it, without a call in Python for each.
        return list(map(_HIT, zip(uris, scores, labels, metadata, strict=True)))

    def _know(self, cache: BucketCache, rows: Sequence[int]) -> bool:
        """Have the records of these rows; False if one has been deleted meanwhile."""
        if len(self._records) + len(rows) > self._max_records:
            # The oldest go, and some at once: not all, or every query would wait for its own anew.
            oldest = islice(self._records, max(len(rows), self._max_records // _FORGOTTEN))
            for row in list(oldest):
                del self._records[row]
        missing = [row for row in rows if row not in self._records]
        stored = self._partition.rows(np.array(missing, np.uint32), moment=cache.moment)
        gone = [row for row, pair in zip(missing, stored, strict=True) if pair is None]
        for row, pair in zip(missing, stored, strict=True):
            if pair is not None:
                record = layout.unpack_record(pair[1])
                self._records[row] = record.uri, record.label, record.metadata
        cache.bury(np.array(gone, np.uint32))
        return not gone
