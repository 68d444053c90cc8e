"""The search in one partition, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError
from simdist.index.buckets import OutdatedError
from simdist.index.partition import Partition
from simdist.index.tuning import ProbeChooser
from simdist.index.where import Where
from simdist.search.cache import BucketCache
from simdist.search.filtering import Filters
from simdist.search.gathering import counts_above, rank_passing
from simdist.search.pages import Hits
from simdist.search.question import Hit
from simdist.search.records import Records
from simdist.search.refining import Found, Refiner, candidates_for

if TYPE_CHECKING:
    from simdist.search.chain_loops import Chains
    from simdist.search.query_loops import Batch

    _Rank = Callable[[NDArray[np.float32]], Batch | Found]

# Buckets looked up in each table: with k-means buckets, recall@10 is about .95 (docs/families.md).
PROBES = 32
# Of what a searcher may keep, the shares for records, and for vectors where buckets have codes.
_RECORDS_SHARE, _VECTORS_SHARE = 16, 8
_HIT = partial(tuple.__new__, Hit)
# Rows that are scored at least for each hit that is asked for: with fewer, many hits would be no
# better than any others.
_SCORED_EACH = 4


class Wish(NamedTuple):
    """What is to be found for a query.

    Attributes:
        n: how many.
        probes: buckets to look into in each table, and no others.
        recall: by which their number is chosen in its place; with neither it is `PROBES`. Then
            there may be more, so that n are found where there are n.
        where: which images.
        floor: the lowest score that is asked for: not n are, but all that are as high, up to n.
    """

    n: int
    probes: int | None
    recall: float | None
    where: Where | None
    floor: float | None = None


class PartitionSearcher:
    """The search in one partition, and what is kept of it."""

    def __init__(
        self, partition: Partition, chooser: ProbeChooser, *, memory: int, max_staleness: float
    ) -> None:
        self._partition = partition
        self._chooser = chooser
        self._memory = memory
        self._max_staleness = max_staleness
        self._records = Records(partition, memory=memory // _RECORDS_SHARE)
        self._cache: BucketCache | None = None
        self._filters: Filters | None = None
        # Where buckets have codes.
        self._refiner: Refiner | None = None
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

    def search(self, queries: NDArray[np.float32], wish: Wish) -> list[Hits]:
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
        if self._filters is None:
            self._filters = Filters(self._partition, memory=self._memory)
        self._filters.prepare(fields)

    def _forget(self) -> None:
        """Nothing that was read holds any more: the rows may be those of other images."""
        self._cache = None
        self._filters = None
        self._records.forget()
        self._refiner = None
        self._partition.families.forget()

    def _synced(self) -> BucketCache:
        """The cache, as new as it must be."""
        now = time.monotonic()
        if self._cache is None:
            # The rest of the memory is for its values.
            memory = self._memory - self._memory // _RECORDS_SHARE
            generation = self._partition.families.now().generation
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

    def _search(self, cache: BucketCache, queries: NDArray[np.float32], wish: Wish) -> list[Hits]:
        probes = self._probes(cache, wish)
        most = probes if wish.probes else cache.size
        rank: _Rank = partial(self._rank, cache, wish=wish, probes=probes, most=most)
        best = rank(queries)
        return [self._hits(cache, queries, rank, best, i) for i in range(len(queries))]

    def _filtered(
        self, cache: BucketCache, queries: NDArray[np.float32], wish: Wish, where: Where
    ) -> list[Hits]:
        """`_search` among the rows that pass a filter.

        Where that is quickest all are scored. Else as many of them are as would be of all rows, or
        more where they lie far from the query: the recipe of ParlayIVF (big-ann-benchmarks, NeurIPS
        2023).
        """
        if self._filters is None:
            self._filters = Filters(self._partition, memory=self._memory)
        while True:
            passing = self._filters.passing(where, cache)
            moment = cache.moment
            probes = self._probes(cache, wish)
            chained = partial(passing.chained, self._partition, moment)
            wanted = passing.wanted(probes, cache.size)
            buckets = wanted * cache.size / max(1, passing.count)
            if passing.are_few(wanted, buckets, cache.size):
                rank: _Rank = partial(self._rank_all, cache, n=wish.n, chain=chained())
            else:
                look = partial(rank_passing, cache, passing=passing, probes=probes, chained=chained)
                rank = partial(self._rank_passing, cache, wish=wish, look=look)
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
        wish: Wish,
        probes: int,
        most: int,
    ) -> Batch | Found:
        find = partial(self._look, cache, queries, wish=wish, probes=probes, most=most)
        return self._sure(cache, wish.n, find)

    def _look(
        self,
        cache: BucketCache,
        queries: NDArray[np.float32],
        taken: int,
        *,
        wish: Wish,
        probes: int,
        most: int,
    ) -> Batch:
        """Look into so many buckets, or into more, until enough is found for each query.

        With a floor, until as many buckets again bring no better hit.
        """
        floor, before = wish.floor, None
        if floor is not None and probes < most:
            probes = max(1, probes // 2)
        while True:
            best, scored, least = cache.rank(queries, taken, probes)
            self.rows_read += scored
            if probes >= most:
                return best
            if floor is None:
                if least >= wish.n and scored >= _SCORED_EACH * wish.n * len(queries):
                    return best
            else:
                high = counts_above(best, floor)
                if high == before or min(high) >= wish.n:
                    return best
                before = high
            probes = min(most, 2 * probes)

    def _sure(self, cache: BucketCache, n: int, find: Callable[[int], Batch]) -> Batch | Found:
        """The n best of what is found; of codes, of as many candidates as it takes."""
        if cache.codes is None:
            return find(n)
        taken = candidates_for(n, cache.codes)
        while (best := self._refined(cache, find(taken), n)) is None:
            taken *= 2
        return best

    def _refined(self, cache: BucketCache, candidates: Batch, n: int) -> Found | None:
        """The n best of candidates whose scores are estimates; None if there are too few."""
        if self._refiner is None:
            memory = self._memory // _VECTORS_SHARE
            self._refiner = Refiner(self._partition.codec, memory=memory)
        refiner = self._refiner
        if missing := refiner.missing(candidates):
            gone = self._records.read(missing, moment=cache.moment, on_vector=refiner.keep)
            cache.bury(gone)
        return refiner.best(candidates, n)

    def _rank_passing(
        self,
        cache: BucketCache,
        queries: NDArray[np.float32],
        *,
        wish: Wish,
        look: Callable[..., tuple[Batch, int]],
    ) -> Batch | Found:
        def find(taken: int) -> Batch:
            least = _SCORED_EACH * wish.n
            best, scored = look(queries, n=taken, least=least, floor=wish.floor)
            self.rows_read += scored
            return best

        return self._sure(cache, wish.n, find)

    def _rank_all(
        self,
        cache: BucketCache,
        queries: NDArray[np.float32],
        *,
        n: int,
        chain: Chains,
    ) -> Batch:
        best, scored = cache.rank_all(queries, n, chain)
        self.rows_read += scored
        return best

    def _hits(
        self,
        cache: BucketCache,
        queries: NDArray[np.float32],
        rank: _Rank,
        best: Batch | Found,
        i: int,
    ) -> Hits:
        """What is found for the i-th query; `rank` finds it once more."""
        found = int(best.found[i])
        rows, scores = best.rows[i, :found].tolist(), best.scores[i, :found].tolist()
        if not rows:
            return Hits()
        try:
            records = self._records.of(rows)
        except KeyError:
            if self._know(cache, rows):
                return self._hits(cache, queries, rank, best, i)
            # One has been deleted meanwhile.
            only = queries[i : i + 1]
            return self._hits(cache, only, rank, rank(only), 0)
        uris, labels, metadata = zip(*records, strict=True)
        # As `Hit._make` does it, without a call in Python for each.
        hits = map(_HIT, zip(uris, scores, labels, metadata, strict=True))
        first = self._partition.number << 32
        return Hits(hits, [first + row for row in rows])

    def _know(self, cache: BucketCache, rows: Sequence[int]) -> bool:
        """Have the records of these rows; False if one has been deleted meanwhile."""
        gone = self._records.read(rows, moment=cache.moment)
        cache.bury(gone)
        return not len(gone)
