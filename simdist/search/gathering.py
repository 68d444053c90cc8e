"""A search among the rows that pass a filter, in buckets: as many as it takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.search.cache import BucketCache
from simdist.search.filtering import Passing

if TYPE_CHECKING:
    from simdist.search.chain_loops import Chains
    from simdist.search.query_loops import Batch

# Where so many times as many buckets were needed as would be if rows passed anywhere, they pass
# far from the query, and the nearest of them are anywhere: until so many times as many rows
# bring nothing better, it goes on (docs/decisions.md).
_FAR, _ON = 1.5, 6
# Buckets are ranked a few at a time: so many times as many as are expected to be needed.
_AHEAD, _MORE = 1.2, 4
# Buckets that are read at once; and room for more rows than are wanted, those of the last bucket.
_READ, _ROOM = 256, 1024
# Of rows that are known to pass none is left out.
_NONE = np.zeros(0, np.uint8)


def rank_passing(
    cache: BucketCache,
    queries: NDArray[np.float32],
    *,
    passing: Passing,
    n: int,
    probes: int,
    least: int = 0,
    floor: float | None = None,
    chained: Callable[[], Chains],
) -> tuple[Batch, int]:
    """Score rows that pass until as many were scored as find the nearest of them.

    Args:
        n: how many are to be found.
        probes: buckets that a query would look into if all rows passed.
        least: rows that are scored at least, where there are so many.
        floor: with it, fewer may be found if no better ones are to be expected.
        chained: gives all rows that pass as one chain.

    Returns:
        What is found, and how many rows of the buckets that were looked into pass.
    """
    batch = cache.begin(queries, n)
    gatherings = [_Gathering(cache, batch, i, passing, chained) for i in range(len(queries))]
    for one in gatherings:
        one.run(probes, least=least, floor=floor)
    return batch, sum(one.seen for one in gatherings)


def counts_above(batch: Batch, floor: float) -> list[int]:
    """How many of each query's scores are not below the floor."""
    there = np.arange(batch.scores.shape[1]) < batch.found[:, None]
    return [int(n) for n in (there & (batch.scores >= floor)).sum(axis=1)]


class _Gathering:
    """The search for one query.

    Attributes:
        seen: how many rows that pass were scored.
    """

    def __init__(
        self,
        cache: BucketCache,
        batch: Batch,
        i: int,
        passing: Passing,
        chained: Callable[[], Chains],
    ) -> None:
        self.seen = 0
        self._chained = chained
        self._cache = cache
        self._batch = batch
        self._i = i
        self._passing = passing
        self._places = np.zeros(0, np.int64)
        self._rows = np.zeros(0, np.int32)
        self._at = self._looked_into = self._ranked = 0
        self._done: NDArray[np.bool_] | None = None

    def run(self, probes: int, *, least: int, floor: float | None) -> None:
        """Go on until enough was seen, and what comes next is not expected to be better."""
        cache, passing = self._cache, self._passing
        usual = max(1, math.ceil(passing.wanted(probes * cache.tables, cache.size)))
        # Buckets that have so many, if rows pass anywhere.
        expected = usual * cache.size / max(1, passing.count)
        self._rank_places(min(cache.size, math.ceil(_AHEAD * expected / cache.tables)))
        wanted = max(usual, least)
        if floor is not None:
            wanted = max(1, usual // 2)
        before = None
        while self._gather(wanted):
            best = self._best(floor)
            if best is None:
                wanted = 2 * self.seen
                continue
            is_far = self._looked_into > _FAR * expected * wanted / usual
            if before is None and not is_far and floor is None:
                return
            if before is not None and np.array_equal(best, before):
                return
            before, wanted = best, (_ON if is_far else 2) * self.seen

    def _score_all(self) -> None:
        """Score all rows that pass, in place of what was."""
        self._batch.found[self._i] = 0
        out = self._passing.excluded
        self.seen += self._cache.score_chain(self._chained(), self._batch, self._i, out)

    def _best(self, floor: float | None) -> NDArray[np.float32] | None:
        """The scores that matter; None if there are not enough."""
        found = int(self._batch.found[self._i])
        scores = self._batch.scores[self._i, :found].copy()
        if floor is not None:
            return scores[: int((scores >= floor).sum())]
        return None if found < self._batch.scores.shape[1] else scores

    def _rank_places(self, probes: int) -> None:
        """Have the places of so many buckets of each table, those that are done left out."""
        [places] = self._cache.places(self._batch.exact[self._i : self._i + 1], probes)
        if self._done is not None:
            places = places[~self._done[places]]
        self._places, self._at, self._ranked = places, 0, probes

    def _gather(self, wanted: int) -> bool:
        """Score further rows until so many were seen; False if there are no more."""
        while self.seen < wanted:
            if self._at == len(self._places) and not self._rank_more(wanted):
                return False
            self._step(wanted)
        return True

    def _rank_more(self, wanted: int) -> bool:
        """Have further places; False if there are none, or all that pass were scored instead."""
        cache, further = self._cache, wanted - self.seen
        if self._ranked == cache.size:
            return False
        # As many for a further row as for those so far.
        buckets = max(_MORE * self._ranked, self._looked_into * further / max(1, self.seen))
        if self._passing.are_few(further, buckets, cache.size):
            self._score_all()
            return False
        self._note(self._places)
        self._rank_places(min(cache.size, _MORE * self._ranked))
        return True

    def _note(self, places: NDArray[np.int64]) -> None:
        """These are done."""
        if self._done is None:
            self._done = np.zeros(self._cache.count, np.bool_)
        self._done[places] = True

    def _step(self, wanted: int) -> None:
        """Score what is here, up to the first bucket that is not; then read some."""
        from simdist.search.passing_loops import FULL, MISSED, gather

        cache, out, at = self._cache, self._passing.excluded, self._at
        kept = cache.kept
        if len(self._rows) < wanted - self.seen:
            self._rows = np.empty(wanted - self.seen + _ROOM, np.int32)
        self._at, count, why = gather(
            self._places,
            at,
            wanted - self.seen,
            kept.table,
            kept.rows.leaps,
            kept.rows.rows,
            out,
            self._passing.barren(cache),
            cache.epoch,
            kept.clock,
            self._rows,
        )
        if count:
            chains = self._rows[:count], np.ones(count, np.int32)
            cache.score(kept.rows, chains, self._batch, self._i, _NONE)
        self.seen += count
        self._looked_into += self._at - at
        if why == MISSED:
            self._read()
        elif why == FULL and not count:
            self._rows = np.empty(2 * len(self._rows), np.int32)

    def _read(self) -> None:
        """Read some buckets; what there is no room for is scored as it passes by."""
        cache, out = self._cache, self._passing.excluded
        passing = cache.load(self._places[self._at : self._at + _READ])
        if not passing:
            return
        for one in passing:
            cache.score_chain(one.rows, self._batch, self._i, out)
        large = np.unique([one.place for one in passing])
        cache.score(cache.kept.rows, cache.kept.chains(large), self._batch, self._i, out)
        self._looked_into += len(large)
        dead = np.unpackbits(out, bitorder="little").astype(np.bool_)
        rows = np.concatenate([one.rows.rows["row"] for one in passing])
        self.seen += len(rows) - int(dead[rows[rows < len(dead)]].sum())
        self._places = self._places[~np.isin(self._places, large)]
        self._note(large)
