"""What a query worker keeps of a partition: buckets with their vectors, in bounded memory.

Vectors lie in pages of a few rows, a bucket's pages form a chain, and the compiled loop follows it:
a bucket can grow, and be dropped for another, without anything being moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.index.buckets import BucketTail, Place, Reading
from simdist.index.partition import Partition
from simdist.store.layout import epoch_of
from simdist.vectors.codec import Codec

if TYPE_CHECKING:
    from simdist.search.page_loops import Pages

PAGE_ROWS = 8
# Of all pages, what is made free at once when none is: looking for the oldest is not for every one.
_EVICTED = 16


@dataclass(slots=True)
class _Bucket:
    """A cached bucket: its pages, the rows in them, how much of it is known, as of which epoch."""

    pages: list[int] = field(default_factory=list)
    size: int = 0
    known: int = 0
    epoch: int = -1
    used: int = 0


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
        from simdist.search.page_loops import Pages, append_rows, rank_pages

        codec = partition.codec
        page_bytes = PAGE_ROWS * (codec.dim * codec.dtype.itemsize + 8) + 8
        pages = max(1, memory // page_bytes)
        self.generation = generation
        self.moment = b""
        self.readings = 0
        self._partition = partition
        self._rank, self._append = rank_pages, append_rows
        self._pages = Pages(
            np.empty(pages, np.int32),
            np.empty(pages, np.int32),
            np.empty((pages, PAGE_ROWS), np.uint32),
            np.empty((pages, PAGE_ROWS, codec.dim), codec.dtype),
            np.empty((pages, PAGE_ROWS), np.float32),
        )
        self._count = pages
        # Pages that were given back, and how many have never been used.
        self._free: list[int] = []
        self._unused = pages
        self._buckets: dict[Place, _Bucket] = {}
        self._dead = np.zeros(0, np.uint8)
        self._dead_known = 0
        self._clock = 0
        self._epoch = -1

    def sync(self) -> None:
        """Learn how many changes there are by now, and which rows have died; one round trip.

        Raises:
            OutdatedError: the tables have another generation.
        """
        self._read({})

    def rank(
        self,
        query: NDArray[np.float32],
        places: Sequence[Place],
        best_rows: NDArray[np.uint32],
        best_scores: NDArray[np.float32],
    ) -> tuple[int, int]:
        """Score what is in buckets, and keep the best; what is not here is read first.

        Args:
            query: (d,) float32, of length 1.
            best_rows, best_scores: (n,) uint32 and float32, filled from the best down.

        Returns:
            How many were found, and how many rows were scored.

        Raises:
            OutdatedError: the tables have another generation.
        """
        found = scored = 0
        heads: list[int] = []
        size = self._use(places, heads)
        if size is None:
            # What there is no room for is scored as it passes by.
            passing: list[BucketTail] = []
            self._refresh(places, passing.append)
            for tail in passing:
                first, pages = _as_pages(tail, self._partition.codec)
                found = self._rank(query, first, pages, self._dead, found, best_rows, best_scores)
                scored += len(tail.rows)
            buckets = [self._buckets.get(place, _NOTHING) for place in places]
            heads = [bucket.pages[0] for bucket in buckets if bucket.pages]
            size = sum(bucket.size for bucket in buckets)
        first = np.array(heads, np.int32)
        found = self._rank(query, first, self._pages, self._dead, found, best_rows, best_scores)
        return found, scored + size

    def prefetch(self, places: Sequence[Place]) -> None:
        """Bring these buckets up to date, as far as there is room for them.

        Raises:
            OutdatedError: the tables have another generation.
        """
        self._refresh(places, lambda _: None)

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

    def _read(self, wanted: Mapping[Place, int]) -> Reading:
        """Read buckets; what was read before is part of the partition's history still."""
        reading = self._partition.read(
            self.generation, wanted, dead_known=self._dead_known, moment=self.moment
        )
        self._dead_known += len(reading.dead)
        self.bury(reading.dead)
        self.moment, self._epoch = reading.moment, epoch_of(reading.moment)
        return reading

    def _use(self, places: Sequence[Place], heads: list[int]) -> int | None:
        """Add these buckets' first pages to `heads`, and return how many rows they have.

        None if something must be read first. Most queries end here: one pass, nothing else.
        """
        self._clock = clock = self._clock + 1
        buckets, epoch, size = self._buckets, self._epoch, 0
        for place in places:
            bucket = buckets.get(place)
            if bucket is None or bucket.epoch < epoch:
                return None
            bucket.used = clock
            if bucket.size:
                heads.append(bucket.pages[0])
                size += bucket.size
        return size

    def _refresh(self, places: Sequence[Place], overflow: Callable[[BucketTail], None]) -> None:
        """Read what these buckets lack; what there is no room for goes to `overflow`."""
        self._clock += 1
        missing: dict[Place, int] = {}
        for place in places:
            bucket = self._buckets.get(place)
            if bucket is None:
                missing[place] = 0
            else:
                # From now on it is not dropped for another of them.
                bucket.used = self._clock
                if bucket.epoch < self._epoch:
                    missing[place] = bucket.known
        self.readings += bool(missing)
        while missing:
            reading = self._read(missing)
            for tail in reading.tails:
                if not self._keep(tail, epoch=self._epoch if tail.complete else -1):
                    overflow(tail)
                if tail.complete:
                    del missing[tail.place]
                else:
                    missing[tail.place] = tail.known

    def _keep(self, tail: BucketTail, *, epoch: int) -> bool:
        """Add a tail to its bucket; False if there is no room for it, or for what came before."""
        bucket = self._buckets.get(tail.place, _NOTHING)
        if bucket.known != tail.start:
            return False
        size = bucket.size + len(tail.rows)
        needed = -(-size // PAGE_ROWS) - len(bucket.pages)
        if not self._make_room(needed):
            return False
        if bucket is _NOTHING:
            bucket = self._buckets[tail.place] = _Bucket(used=self._clock)
        bucket.pages += self._take_pages(needed)
        chain = np.array(bucket.pages, np.int32)
        self._append(self._pages, chain, bucket.size, tail.rows, tail.vectors)
        bucket.size, bucket.known, bucket.epoch = size, tail.known, epoch
        return True

    def _take_pages(self, count: int) -> list[int]:
        taken = [self._free.pop() for _ in range(min(count, len(self._free)))]
        first = self._count - self._unused
        self._unused -= count - len(taken)
        return [*taken, *range(first, self._count - self._unused)]

    def _make_room(self, needed: int) -> bool:
        """Have so many free pages, and a place for another bucket, by dropping the oldest."""
        pages = self._count
        if needed <= len(self._free) + self._unused and len(self._buckets) < pages:
            return True
        wanted = max(needed, pages // _EVICTED)
        limit = pages - max(1, pages // _EVICTED)
        for place in sorted(self._buckets, key=lambda place: self._buckets[place].used):
            if len(self._free) + self._unused >= wanted and len(self._buckets) <= limit:
                break
            if self._buckets[place].used == self._clock:
                break
            self._free += self._buckets.pop(place).pages
        return needed <= len(self._free) + self._unused


_NOTHING = _Bucket()


def _as_pages(tail: BucketTail, codec: Codec) -> tuple[NDArray[np.int32], Pages]:
    """A tail as one chain of pages, and the first of them, if there is any."""
    from simdist.search.page_loops import Pages

    values, inverse_lengths = codec.unpack(tail.vectors)
    count = len(values)
    chain = np.where(np.arange(count) == count - 1, -1, np.arange(1, count + 1)).astype(np.int32)
    pages = Pages(
        chain,
        np.ones(count, np.int32),
        tail.rows[:, None],
        np.ascontiguousarray(values)[:, None],
        inverse_lengths[:, None],
    )
    return np.zeros(min(count, 1), np.int32), pages
