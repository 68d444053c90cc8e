"""The memory of a query worker: buckets of one partition, with their vectors, in arrays.

Vectors lie in pages of a few rows, a bucket's pages form a chain, and the compiled loops follow it:
a bucket can grow, and be dropped for another, without anything being moved.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.index.buckets import BucketTail
from simdist.vectors.codec import Codec
from simdist.vectors.codes import Codes

if TYPE_CHECKING:
    from simdist.search.page_loops import Pages

# Rows of a page, of vectors and of codes; what a page has no row for yet is memory for nothing.
PAGE_ROWS, CODES_PAGE_ROWS = 8, 2
# Of all pages, what is made free at once when none is: looking for the oldest is not for every one.
_EVICTED = 16
# Slots for buckets to begin with.
_SLOTS = 1024


class KeptBuckets:
    """Buckets by their places, see `bucket_loops.BUCKET`.

    Attributes:
        table: (slots,) `bucket_loops.BUCKET`.
        pages: their rows.
        single: the same memory, each row a page by itself.
        clock: the number of the last query. What it has used is not dropped before the next one.
    """

    def __init__(self, codec: Codec | Codes, memory: int) -> None:
        """None yet.

        Args:
            codec: of what is kept, stored vectors or codes.
            memory: bytes that they may take; only what is filled is touched.
        """
        from simdist.search.bucket_loops import BUCKET
        from simdist.search.page_loops import Pages

        self._page_rows = page_rows = _page_rows(codec)
        page_bytes = page_rows * (codec.values * codec.dtype.itemsize + 8) + 4
        limit = max(1, memory // page_bytes)
        self.table = np.zeros(_SLOTS, BUCKET)
        self.pages = Pages(
            np.empty(limit, np.int32),
            np.empty((limit, page_rows), np.uint32),
            np.empty((limit, page_rows, codec.values), codec.dtype),
            np.empty((limit, page_rows), np.float32),
            codec.bits if isinstance(codec, Codes) else 0,
        )
        pages, room = self.pages, limit * page_rows
        # What follows is never asked for: a page of one row has none behind it.
        self.single = pages._replace(
            following=np.zeros(room, np.int32),
            rows=pages.rows.reshape(room, 1),
            values=pages.values.reshape(room, 1, -1),
            inverse_lengths=pages.inverse_lengths.reshape(room, 1),
        )
        self.clock = 0
        self._limit = limit
        self._count = 0
        self._free = limit
        # The first of the pages that were given back, a chain; the first that was never used.
        self._stock = np.array([-1, 0], np.int64)
        # The last query that has used all that was here.
        self._full_at = -1

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
            bucket = self.table[slot]
            known, size = int(bucket["known"]), int(bucket["size"])
            # Not to be dropped for its own rows.
            bucket["used"] = self.clock
        if known != tail.start:
            return False
        room = self._page_rows
        needed = -(-(size + len(tail.rows)) // room) - -(-size // room)
        if not self._make_room(needed):
            return False
        slot = self._slot(place)
        if len(tail.rows):
            here = self.table[slot : slot + 1]
            append_rows(here, self.pages, self._stock, *_frozen(tail))
            self._free -= needed
        bucket = self.table[slot]
        bucket["known"], bucket["epoch"] = tail.known, epoch
        return True

    def _slot(self, place: int) -> int:
        """Where a bucket is; it is put in if it is not here."""
        from simdist.search.bucket_loops import find_bucket

        slot = int(find_bucket(self.table, place))
        if slot >= 0:
            return slot
        if 2 * self._count >= len(self.table):
            self._put(self.table[self.table["place"] > 0], 2 * len(self.table))
            return self._slot(place)
        slot += len(self.table)
        self.table[slot] = (place + 1, -1, self.clock, -1, -1, 0, 0)
        self._count += 1
        return slot

    def _put(self, entries: NDArray[np.void], slots: int) -> None:
        """Have a table of these buckets only."""
        from simdist.search.bucket_loops import put_buckets

        table = np.zeros(slots, self.table.dtype)
        put_buckets(table, entries)
        self.table, self._count = table, len(entries)

    def _make_room(self, needed: int) -> bool:
        """Have so many free pages, and a place for another bucket, by dropping the oldest."""
        limit = self._limit
        if needed <= self._free and self._count < limit:
            return True
        if needed > limit or self._full_at == self.clock:
            return False
        entries = self.table[self.table["place"] > 0]
        is_old = entries["used"] < self.clock
        if not is_old.any():
            self._full_at = self.clock
            return False
        old = entries[is_old]
        old = old[np.argsort(old["used"])]
        # Pages that are free, and buckets that stay, once so many are dropped.
        free = self._free + np.cumsum(-(-old["size"] // self._page_rows))
        stay = len(entries) - np.arange(1, len(old) + 1)
        share = max(1, limit // _EVICTED)
        enough = np.flatnonzero((free >= max(needed, share)) & (stay <= limit - share))
        count = int(enough[0]) + 1 if len(enough) else len(old)
        self._give_back(old[:count])
        self._put(np.concatenate([entries[~is_old], old[count:]]), len(self.table))
        self._free = int(free[count - 1])
        return needed <= self._free

    def _give_back(self, buckets: NDArray[np.void]) -> None:
        """Chain the pages of buckets to those that are free."""
        full = buckets[buckets["size"] > 0]
        if len(full):
            self.pages.following[full["last"]] = [*full["first"][1:], self._stock[0]]
            self._stock[0] = full["first"][0]


def as_pages(tails: Sequence[BucketTail], codec: Codec | Codes) -> Pages:
    """The rows of tails, as `rows_as_pages`."""
    rows = np.concatenate([tail.rows for tail in tails])
    return rows_as_pages(rows, np.concatenate([tail.vectors for tail in tails]), codec)


def rows_as_pages(
    rows: NDArray[np.uint32], packed: NDArray[np.uint8], codec: Codec | Codes
) -> Pages:
    """(n,) rows and (n, width) stored vectors, or codes, as a chain of pages from the first on."""
    from simdist.search.page_loops import Pages

    values, inverse_lengths = codec.unpack(packed)
    room = _page_rows(codec)
    more = -len(rows) % room
    return Pages(
        np.arange(1, (len(rows) + more) // room + 1, dtype=np.int32),
        np.pad(rows, (0, more)).reshape(-1, room),
        np.pad(values, ((0, more), (0, 0))).reshape(-1, room, values.shape[1]),
        np.pad(inverse_lengths, (0, more)).reshape(-1, room),
        codec.bits if isinstance(codec, Codes) else 0,
    )


def _page_rows(codec: Codec | Codes) -> int:
    return CODES_PAGE_ROWS if isinstance(codec, Codes) else PAGE_ROWS


def _frozen(tail: BucketTail) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Its arrays, never to be written, as most are: for others the loops would be compiled anew."""
    rows, vectors = tail.rows.view(), tail.vectors.view()
    rows.setflags(write=False)
    vectors.setflags(write=False)
    return rows, vectors
