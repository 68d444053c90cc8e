"""The memory of a query worker: buckets of one partition, with their vectors, in arrays.

The rows of a bucket form a chain, which the compiled loops follow: a bucket can grow, and be
dropped for another, without anything being moved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.vectors.codec import Codec
from simdist.vectors.codes import Codes

if TYPE_CHECKING:
    from simdist.search.chain_loops import Chains, Tails

# What a row takes beside its values: its number, its length, and where the next one is.
BESIDE = 12
# Of all rows, what is made free at once when none is: looking for the oldest is not for every one.
_EVICTED = 16
# Slots for buckets to begin with.
_SLOTS = 1024
_MOST = np.iinfo(np.int32).max
# See `append_tails`.
_FREED, _UNUSED, _FREE, _COUNT = range(4)


class KeptBuckets:
    """Buckets by their places, see `bucket_loops.BUCKET`.

    Attributes:
        table: (slots,) `bucket_loops.BUCKET`.
        rows: theirs.
        clock: the number of the last query. What it has used is not dropped before the next one.
    """

    def __init__(self, codec: Codec | Codes, memory: int) -> None:
        """None yet.

        Args:
            codec: of what is kept, stored vectors or codes.
            memory: bytes that they may take; only what is filled is touched.
        """
        from simdist.search.bucket_loops import BUCKET
        from simdist.search.chain_loops import ROW, Chains

        row_bytes = codec.values * codec.dtype.itemsize + BESIDE
        limit = min(max(1, memory // row_bytes), _MOST)
        self.table = np.zeros(_SLOTS, BUCKET)
        self.rows = Chains(
            np.zeros(limit, np.int32),
            np.empty(limit, ROW),
            np.empty((limit, codec.values), codec.dtype),
            _bits(codec),
        )
        self.clock = 0
        self._limit = limit
        self._stock = np.array([-1, 0, limit, 0], np.int64)
        # The last query that has used all that was here.
        self._full_at = -1

    def use(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which of these buckets must be read, and from where on, as the next query begins.

        Returns:
            (n,) int64, how much of each is known, and as of which epoch it is complete; -1 for one
            that is not here.
        """
        from simdist.search.bucket_loops import use_buckets

        self.clock += 1
        known, epochs = np.empty(len(places), np.int64), np.empty(len(places), np.int64)
        use_buckets(self.table, places, self.clock, known, epochs)
        return known, epochs

    def chains(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Of those of these buckets that are here, where the first rows are, and how many."""
        from simdist.search.bucket_loops import find_buckets

        slots = find_buckets(self.table, places)
        found = self.table[slots[slots >= 0]]
        return np.ascontiguousarray(found["first"]), np.ascontiguousarray(found["size"])

    def append(self, tails: Tails) -> list[int]:
        """Add what was read of buckets; returns for which of them there is no room, or a gap."""
        from simdist.search.chain_loops import DONE, NO_ROOM, append_tails

        # For arrays that may be written the loops would be compiled anew: most that come may not.
        tails = tails._replace(
            rows=_frozen(tails.rows),
            inverse_lengths=_frozen(tails.inverse_lengths),
            vectors=_frozen(tails.vectors),
        )
        passed: list[int] = []
        i = 0
        while True:
            i, why = append_tails(self.table, self.rows, self._stock, tails, i, self.clock)
            if why == DONE:
                return passed
            size = int(tails.ends[i] - (tails.ends[i - 1] if i else 0))
            if why != NO_ROOM or not self._make_room(size):
                passed.append(i)
                i += 1

    def _make_room(self, needed: int) -> bool:
        """Have so many free rows, and a place for another bucket, by dropping the oldest."""
        limit, count, free = self._limit, int(self._stock[_COUNT]), int(self._stock[_FREE])
        entries = self.table[self.table["place"] > 0]
        if needed <= free and count < limit:
            self._put(entries, 2 * len(self.table))
            return True
        if needed > limit or self._full_at == self.clock:
            return False
        is_old = entries["used"] < self.clock
        if not is_old.any():
            self._full_at = self.clock
            return False
        old = entries[is_old]
        old = old[np.argsort(old["used"])]
        # Rows that are free, and buckets that stay, once so many are dropped.
        then = free + np.cumsum(old["size"])
        stay = len(entries) - np.arange(1, len(old) + 1)
        share = max(1, limit // _EVICTED)
        enough = np.flatnonzero((then >= max(needed, share)) & (stay <= limit - share))
        dropped = int(enough[0]) + 1 if len(enough) else len(old)
        self._give_back(old[:dropped])
        self._put(np.concatenate([entries[~is_old], old[dropped:]]), len(self.table))
        self._stock[_FREE] = then[dropped - 1]
        return needed <= int(then[dropped - 1])

    def _put(self, entries: NDArray[np.void], slots: int) -> None:
        """Have a table of these buckets only."""
        from simdist.search.bucket_loops import put_buckets

        table = np.zeros(slots, self.table.dtype)
        put_buckets(table, entries)
        self.table, self._stock[_COUNT] = table, len(entries)

    def _give_back(self, buckets: NDArray[np.void]) -> None:
        """Chain the rows of buckets to those that are free."""
        full = buckets[buckets["size"] > 0]
        if len(full):
            last = full["last"].astype(np.int64)
            self.rows.leaps[last] = np.append(full["first"][1:], self._stock[_FREED]) - last - 1
            self._stock[_FREED] = full["first"][0]


def as_chain(rows: NDArray[np.uint32], packed: NDArray[np.uint8], codec: Codec | Codes) -> Chains:
    """(n,) rows and (n, width) stored vectors, or codes, as one chain from the first on."""
    from simdist.search.chain_loops import ROW, Chains

    values, inverse_lengths = codec.unpack(packed)
    numbered = np.empty(len(rows), ROW)
    numbered["row"], numbered["inverse_length"] = rows, inverse_lengths
    leaps = np.zeros(len(rows), np.int32)
    return Chains(leaps, numbered, np.ascontiguousarray(values), _bits(codec))


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """The same, never to be written."""
    view = array.view()
    view.setflags(write=False)
    return view


def _bits(codec: Codec | Codes) -> int:
    return codec.bits if isinstance(codec, Codes) else 0
