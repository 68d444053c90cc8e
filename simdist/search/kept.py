"""The memory of a query worker: buckets of one partition, with their vectors, in arrays.

Vectors lie in pages of a few rows, a bucket's pages form a chain, and the compiled loops follow it:
a bucket can grow, and be dropped for another, without anything being moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.index.buckets import BucketTail
from simdist.vectors.codec import Codec

if TYPE_CHECKING:
    from simdist.search.page_loops import Pages

PAGE_ROWS = 8
# Of all pages, what is made free at once when none is: looking for the oldest is not for every one.
_EVICTED = 16
# Slots for buckets to begin with.
_SLOTS = 1024


class KeptBuckets:
    """Buckets by their places, see `bucket_loops.BUCKET`.

    Attributes:
        table: (slots,) `bucket_loops.BUCKET`.
        pages: their rows.
        clock: the number of the last query. What it has used is not dropped before the next one.
    """

    def __init__(self, codec: Codec, memory: int) -> None:
        """None yet.

        Args:
            memory: bytes that they may take; only what is filled is touched.
        """
        from simdist.search.bucket_loops import BUCKET
        from simdist.search.page_loops import Pages

        page_bytes = PAGE_ROWS * (codec.dim * codec.dtype.itemsize + 8) + 4
        limit = max(1, memory // page_bytes)
        self.table = np.zeros(_SLOTS, BUCKET)
        self.pages = Pages(
            np.empty(limit, np.int32),
            np.empty((limit, PAGE_ROWS), np.uint32),
            np.empty((limit, PAGE_ROWS, codec.dim), codec.dtype),
            np.empty((limit, PAGE_ROWS), np.float32),
        )
        self.clock = 0
        self._count = 0
        self._limit = limit
        # Pages that were given back, and how many have never been used.
        self._free = np.zeros(0, np.int32)
        self._unused = limit

    def use(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of these buckets must be read, and from where on, as the next query begins.

        Returns:
            (n,) int64, how much of each is known, and as of which epoch it is complete; -1 for one
            that is not here.
        """
        from simdist.search.bucket_loops import find_buckets

        self.clock += 1
        slots = find_buckets(self.table, places)
        there = slots >= 0
        known, epochs = np.zeros(len(places), np.int64), np.full(len(places), -1)
        known[there] = self.table["known"][slots[there]]
        epochs[there] = self.table["epoch"][slots[there]]
        self.table["used"][slots[there]] = self.clock
        return known, epochs

    def chains(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Of those of these buckets that are here, the first pages, and how many rows they have."""
        from simdist.search.bucket_loops import find_buckets

        slots = find_buckets(self.table, places)
        found = self.table[slots[slots >= 0]]
        return np.ascontiguousarray(found["first"]), np.ascontiguousarray(found["size"])

    def append(self, place: int, tail: BucketTail, *, epoch: int) -> bool:
        """Add what was read of a bucket; False if there is no room, or a gap before it.

        Args:
            epoch: as of which the bucket is complete with it; -1 if it is not.
        """
        from simdist.search.bucket_loops import find_bucket
        from simdist.search.page_loops import append_rows

        slot, known, size = find_bucket(self.table, place), 0, 0
        if slot >= 0:
            # Not to be dropped for its own rows.
            self.table["used"][slot] = self.clock
            known, size = self.table[["known", "size"]][slot].tolist()
        if known != tail.start:
            return False
        needed = -(-(size + len(tail.rows)) // PAGE_ROWS) - -(-size // PAGE_ROWS)
        if not self._make_room(needed):
            return False
        bucket = self._bucket(place)
        append_rows(bucket, self.pages, self._take_pages(needed), *_frozen(tail))
        bucket["known"], bucket["epoch"], bucket["used"] = tail.known, epoch, self.clock
        return True

    def _bucket(self, place: int) -> NDArray[np.void]:
        """(1,) a bucket, a view; it is put in if it is not here."""
        from simdist.search.bucket_loops import find_bucket

        slot = find_bucket(self.table, place)
        if slot < 0:
            if 2 * self._count >= len(self.table):
                self._put(self._entries(), 2 * len(self.table))
                return self._bucket(place)
            slot += len(self.table)
            self.table[slot] = (place + 1, -1, self.clock, -1, -1, 0, 0)
            self._count += 1
        return self.table[slot : slot + 1]

    def _entries(self) -> NDArray[np.void]:
        return self.table[self.table["place"] > 0]

    def _put(self, entries: NDArray[np.void], slots: int) -> None:
        """Have a table of these buckets only."""
        from simdist.search.bucket_loops import put_buckets

        table = np.zeros(slots, self.table.dtype)
        put_buckets(table, entries)
        self.table, self._count = table, len(entries)

    def _take_pages(self, count: int) -> NDArray[np.int32]:
        given_back = self._free[len(self._free) - min(count, len(self._free)) :]
        self._free = self._free[: len(self._free) - len(given_back)]
        first = self._limit - self._unused
        self._unused -= count - len(given_back)
        new = np.arange(first, self._limit - self._unused, dtype=np.int32)
        return np.concatenate([given_back, new])

    def _make_room(self, needed: int) -> bool:
        """Have so many free pages, and a place for another bucket, by dropping the oldest."""
        from simdist.search.page_loops import list_pages

        free, limit = len(self._free) + self._unused, self._limit
        if needed <= free and self._count < limit:
            return True
        entries = np.sort(self._entries(), order="used")
        # Pages that are free, and buckets that stay, once so many are dropped.
        counts = -(-entries["size"].astype(np.int64) // PAGE_ROWS)
        pages = free + np.concatenate([[0], np.cumsum(counts)])
        stay = len(entries) - np.arange(len(pages))
        share = max(1, limit // _EVICTED)
        enough = np.flatnonzero((pages >= max(needed, share)) & (stay <= limit - share))
        dropped = enough[0] if len(enough) else len(entries)
        dropped = min(dropped, int(np.searchsorted(entries["used"], self.clock)))
        given_back = np.empty(pages[dropped] - free, np.int32)
        heads = np.ascontiguousarray(entries["first"][:dropped])
        list_pages(heads, counts[:dropped], self.pages.following, given_back)
        self._free = np.concatenate([self._free, given_back])
        self._put(entries[dropped:], len(self.table))
        return needed <= len(self._free) + self._unused


def as_pages(tail: BucketTail, codec: Codec) -> Pages:
    """A tail as a chain of pages from the first on, a row each."""
    from simdist.search.page_loops import Pages

    values, inverse_lengths = codec.unpack(tail.vectors)
    return Pages(
        np.arange(1, len(values) + 1, dtype=np.int32),
        np.array(tail.rows[:, None]),
        np.array(values)[:, None],
        inverse_lengths[:, None],
    )


def _frozen(tail: BucketTail) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Its arrays, never to be written, as most are: for others the loops would be compiled anew."""
    rows, vectors = tail.rows.view(), tail.vectors.view()
    rows.setflags(write=False)
    vectors.setflags(write=False)
    return rows, vectors
