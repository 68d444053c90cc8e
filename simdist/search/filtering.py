"""The rows of a partition that pass a filter, as a searcher needs them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.index.partition import Partition
from simdist.index.where import Where
from simdist.search.cache import BucketCache
from simdist.search.columns import Columns
from simdist.vectors.codec import Codec

if TYPE_CHECKING:
    from simdist.search.chain_loops import Chains

# Of what a searcher may keep, the share for copies of rows that pass, beside the buckets.
_COPIES_SHARE = 8
# What it takes to score a row; to rank a bucket and look into it; and to see that a row does not
# pass. In ns.
_ROW_NS, _BUCKET_NS, _BIT_NS = 30.0, 300.0, 3.0
# In the same buckets, the rows that hold as large a share of the nearest grow so with the images
# (docs/decisions.md).
_GROWTH = 0.5
# So many are scored in little more than the time of a search, and none is missed.
_FEW = 4096
# Filters whose rows are kept, those that were used last.
_KEPT = 16
# Rows that one round trip reads.
_ROWS = 512


class Passing:
    """The rows that pass one filter.

    Attributes:
        count: how many; 0 for none.
        excluded: (n,) uint8, a bit for each row that does not, or is deleted.
        known: how many rows were looked at: later ones may pass, too.
    """

    def __init__(self, where: Where, *, room: int) -> None:
        """Nothing is known yet.

        Args:
            room: bytes that copies of the rows may take.
        """
        self._where = where
        self._room = room
        self._moment: bytes | None = None
        self._holds = np.zeros(0, np.bool_)
        self._rows = np.zeros(0, np.uint32)
        self._packed: list[NDArray[np.uint8]] = []
        self._chain: Chains | None = None
        self._barren, self._barren_at = np.zeros(0, np.uint8), -1
        self.known = self.count = self._chained = 0
        self._width = 1
        self.excluded = np.zeros(0, np.uint8)

    def renew(self, columns: Columns, partition: Partition, cache: BucketCache) -> None:
        """Look at the rows that are new."""
        if self._moment == cache.moment:
            return
        end, self._width = partition.state().rows, partition.codec.width
        if end > self.known:
            more = columns.passing(self._where.node, self.known, end)
            self._holds = np.concatenate([self._holds, more])
            self.known = end
        self.excluded = cache.excluded(~self._holds)
        alive = np.unpackbits(~self.excluded, count=self.known, bitorder="little")
        self.count = int(alive.sum())
        self._moment = cache.moment

    def barren(self, cache: BucketCache) -> NDArray[np.uint8]:
        """(buckets,) uint8, to note in which of all tables no row passes, as long as nothing
        changes.
        """
        if self._barren_at != cache.epoch:
            self._barren, self._barren_at = np.zeros(cache.count, np.uint8), cache.epoch
        return self._barren

    def wanted(self, probes: int, size: int) -> float:
        """How many rows that pass are to be scored.

        Args:
            probes: buckets that a query would look into if all rows passed.
            size: buckets that there are.
        """
        share = self.count / max(1, self.known)
        return float(share**_GROWTH * probes * self.known / size)

    def are_few(self, rows: float, buckets: float, size: int) -> bool:
        """Whether to score all is quicker than to look for so many of the rows.

        Args:
            buckets: how many of them the rows lie in.
            size: buckets that there are.
        """
        if self.count > self._room // self._width:
            return False
        looking = min(buckets, size) * (_BUCKET_NS + self.known / size * _BIT_NS)
        return self.count <= _FEW or self.count * _ROW_NS <= looking + rows * _ROW_NS

    def chained(self, partition: Partition, moment: bytes) -> Chains:
        """All rows that pass, with their vectors, as one chain."""
        from simdist.search.kept import as_chain

        # Those that have died since are left out by their bits.
        if self._chain is not None and self._chained == self.known:
            return self._chain
        alive = np.unpackbits(~self.excluded, count=self.known, bitorder="little")
        rows = np.flatnonzero(alive).astype(np.uint32)
        first = self._rows[-1] + 1 if len(self._rows) else 0
        new = rows[rows >= first]
        if len(new) or self._chain is None:
            kept = [self._packed[0]] if self._packed else []
            for start in range(0, len(new), _ROWS):
                some = new[start : start + _ROWS]
                kept.append(_vectors(partition, some, moment))
            packed = np.concatenate(kept) if kept else _none(partition.codec)
            self._rows, self._packed = np.concatenate([self._rows, new]), [packed]
            self._chain = as_chain(self._rows, packed, partition.codec)
        self._chained = self.known
        return self._chain

    @property
    def copied(self) -> int:
        """Bytes of vectors that are kept beside the buckets."""
        return len(self._rows) * self._width

    def drop_copies(self) -> None:
        """Keep no vectors."""
        self._rows, self._packed, self._chain = np.zeros(0, np.uint32), [], None


class Filters:
    """What is known of one partition's rows, for filters."""

    def __init__(self, partition: Partition, *, memory: int) -> None:
        """None is known yet.

        Args:
            memory: bytes that the searcher may keep, of which it takes a share.
        """
        self._partition = partition
        self._columns = Columns(partition)
        self._kept: dict[str, Passing] = {}
        self._memory = memory // _COPIES_SHARE

    def prepare(self, fields: Iterable[str]) -> None:
        """Read fields that filters will ask for."""
        self._columns.prepare(fields, self._partition.state().rows)

    def passing(self, where: Where, cache: BucketCache) -> Passing:
        """The rows that pass a filter, as of what the cache has read last."""
        found = self._kept.pop(where.text, None) or Passing(where, room=self._memory // 2)
        if len(self._kept) == _KEPT:
            del self._kept[next(iter(self._kept))]
        copied = sum(one.copied for one in self._kept.values())
        for one in self._kept.values():
            if copied + found.copied <= self._memory // 2:
                break
            copied -= one.copied
            one.drop_copies()
        # The one that was used last is the last.
        self._kept[where.text] = found
        found.renew(self._columns, self._partition, cache)
        return found


def _vectors(partition: Partition, rows: NDArray[np.uint32], moment: bytes) -> NDArray[np.uint8]:
    """(n, width) stored vectors; zeros, which are like nothing, for what is deleted by now."""
    gone = np.zeros(partition.codec.width, np.uint8)
    found = partition.rows(rows, moment=moment)
    return np.stack([gone if pair is None else pair[0] for pair in found])


def _none(codec: Codec) -> NDArray[np.uint8]:
    return np.zeros((0, codec.width), np.uint8)
