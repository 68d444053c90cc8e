"""What a query worker has of a partition: buckets, read when they are first probed, then kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.index.buckets import BucketTail, Place, Reading
from simdist.index.partition import Partition
from simdist.search.kept import KeptBuckets, as_pages
from simdist.store.layout import epoch_of
from simdist.vectors.checks import checked

if TYPE_CHECKING:
    from simdist.search.page_loops import Pages
    from simdist.search.query_loops import Best, View


class BucketCache:
    """Buckets of one generation of one partition's tables.

    Attributes:
        moment: of the last reading.
        readings: how often something had to be read from Redis.
    """

    def __init__(self, partition: Partition, *, generation: int, memory: int) -> None:
        """An empty cache.

        Args:
            generation: of the tables.
            memory: bytes that it may take, in which it touches only what it fills.
        """
        from simdist.search import query_loops

        self.generation = generation
        self.moment = b""
        self.readings = 0
        self._loops = query_loops
        self._turning = query_loops.Turning(*partition.codec.turning())
        self._partition = partition
        self._family = partition.family(generation)
        # By the number of probes; None where a compiled loop does not find them.
        self._rankings: dict[int, Any] = {}
        self._kept = KeptBuckets(partition.codec, memory)
        self._dead = np.zeros(0, np.uint8)
        self._dead_known = 0
        self._epoch = -1

    def sync(self) -> None:
        """Learn how many changes there are by now, and which rows have died; one round trip.

        Raises:
            OutdatedError: the tables have another generation.
        """
        self._read({})

    def rank(self, vectors: NDArray[np.float32], n: int, probes: int) -> tuple[Best, int]:
        """Score what is in the most probable buckets of each query.

        What is not here is read first, for all queries together as far as there is room for it.

        Args:
            vectors: (q, d) float32, the queries, q >= 1, of any length.
            n: how many are to be found for each.
            probes: buckets of each table.

        Returns:
            The best, and how many rows were scored.

        Raises:
            OutdatedError: the tables have another generation.
            VectorError: a query is not finite, or of length zero.
        """
        # In one piece and writable, as the loops are compiled for, whatever it came as.
        vectors = np.array(vectors, order="C")
        loops, count, probes = self._loops, len(vectors), min(probes, self._family.size)
        best = loops.Best(
            np.empty(vectors.shape, np.float32),
            np.empty((count, n), np.uint32),
            np.empty((count, n), np.float32),
            np.empty(count, np.int64),
        )
        if probes not in self._rankings:
            self._rankings[probes] = self._family.ranking(probes)
        ranking = self._rankings[probes]
        places: NDArray[Any]
        if ranking is not None:
            places = np.empty((count, probes), np.uint32)
            view = self._view()
            answer = loops.rank_vectors(vectors, self._turning, ranking, view, places, best)
        else:
            loops.turn(vectors, self._turning, best)
            places = self._places(best.turned, probes)
            answer = loops.rank_places(places, self._view(), best)
        scored, least = answer
        if least == loops.UNUSABLE:
            checked(vectors, dim=vectors.shape[1])
        if least < 0:
            scored += self._rank_missed(places, best)
        return best, scored

    def bury(self, rows: NDArray[np.uint32]) -> None:
        """Note that rows are deleted or replaced: they are not found any more."""
        if not len(rows):
            return
        size = int(rows.max()) // 8 + 1
        if size > len(self._dead):
            # Half as much again, so that one at a time does not cost a copy each.
            self._dead = np.concatenate(
                [self._dead, np.zeros(size * 3 // 2 - len(self._dead), np.uint8)]
            )
        np.bitwise_or.at(self._dead, rows >> 3, np.left_shift(1, rows & 7).astype(np.uint8))

    def _view(self) -> View:
        """What is here, as the next query begins."""
        kept = self._kept
        kept.clock += 1
        return self._loops.View(kept.table, kept.pages, self._dead, self._epoch, kept.clock)

    def _places(self, queries: NDArray[np.float32], probes: int) -> NDArray[np.int64]:
        """(q, tables * probes) the places of the most probable buckets, table by table."""
        numbers = self._family.probes(queries, probes).astype(np.int64)
        numbers += (np.arange(self._family.tables) * self._family.size)[:, None]
        return numbers.reshape(len(queries), -1)

    def _rank_missed(self, places: NDArray[Any], best: Best) -> int:
        """`rank` for the queries that have missed something; returns how many rows were scored."""
        missed = np.flatnonzero(best.found == self._loops.MISSED)
        if len(missed) > 1:
            self._refresh(places[missed].ravel(), lambda _: None)
        scored = 0
        for i in missed.tolist():
            passing: list[BucketTail] = []
            self._refresh(places[i], passing.append)
            best.found[i] = 0
            # What there is no room for is scored as it passes by.
            if passing:
                pages = as_pages(passing, self._partition.codec)
                chain = np.zeros(1, np.int32), np.array([len(pages.rows)], np.int32)
                scored += self._score(pages, *chain, best, i)
            chains = self._kept.chains(places[i].astype(np.int64))
            scored += self._score(self._kept.pages, *chains, best, i)
        return scored

    def _score(
        self,
        pages: Pages,
        heads: NDArray[np.int32],
        sizes: NDArray[np.int32],
        best: Best,
        i: int,
    ) -> int:
        """Score chains of pages for the i-th query, beside what it has found already."""
        from simdist.search.page_loops import rank_pages

        rows, scores = best.rows[i], best.scores[i]
        best.found[i] = rank_pages(
            best.turned[i], heads, sizes, pages, self._dead, best.found[i], rows, scores
        )
        return int(sizes.sum())

    def _read(self, wanted: Mapping[Place, int]) -> Reading:
        """Read buckets; what was read before is part of the partition's history still."""
        reading = self._partition.read(
            self.generation, wanted, dead_known=self._dead_known, moment=self.moment
        )
        self._dead_known += len(reading.dead)
        self.bury(reading.dead)
        self.moment, self._epoch = reading.moment, epoch_of(reading.moment)
        return reading

    def _refresh(self, places: NDArray[Any], overflow: Callable[[BucketTail], None]) -> None:
        """Read what these buckets lack; what there is no room for goes to `overflow`."""
        wanted = np.array(list(dict.fromkeys(places.tolist())), np.int64)
        known, epochs = self._kept.use(wanted)
        size = self._family.size
        missing: dict[Place, int] = {
            divmod(place, size): start
            for place, start, epoch in zip(
                wanted.tolist(), known.tolist(), epochs.tolist(), strict=True
            )
            if epoch < self._epoch or epoch < 0
        }
        self.readings += bool(missing)
        while missing:
            reading = self._read(missing)
            for tail in reading.tails:
                table, bucket = tail.place
                epoch = self._epoch if tail.complete else -1
                if not self._kept.append(table * size + bucket, tail, epoch=epoch):
                    overflow(tail)
                if tail.complete:
                    del missing[tail.place]
                else:
                    missing[tail.place] = tail.known
