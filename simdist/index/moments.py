"""All images of a partition as of one moment, read while others write.

Rows are only ever added, or die. So whoever has read all rows that there are, and then learns how
many there are by now and which have died, has read what was there at that moment; if there are more
rows by then, they are read first. Writers commit at most some hundred times a second, and reading
what one of them has added takes a round trip or two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.index.buckets import OutdatedError
from simdist.index.current import read_entries
from simdist.index.partition import Partition
from simdist.store import layout

# Hashes of URIs that one round trip reads, at the most, and about how many entries: some megabytes.
_HASHES, _ENTRIES = 1 << 12, 1 << 17
# Where so many times the rows have been read before, the others are looked up one by one: it would
# never end beside somebody who writes faster than all of them are gone through.
_FEW = 8


@dataclass(frozen=True)
class Part:
    """Some images that lie side by side, as they are stored.

    Attributes:
        end: all rows before it have been read.
        rows: (n,) int64.
        packed: (n, width) uint8, their vectors.
        records: what else is stored of each.
        fingerprints: (n, 8) uint8, digests.
    """

    end: int
    rows: NDArray[np.int64]
    packed: NDArray[np.uint8]
    records: list[bytes]
    fingerprints: NDArray[np.uint8]


@dataclass(frozen=True)
class Moment:
    """What a partition was at one moment.

    Attributes:
        epoch: changes until then.
        alive: (rows,) bool, which of its rows were images.
    """

    epoch: int
    alive: NDArray[np.bool_]


class Passage:
    """Goes through a partition once; what it has yielded holds at `moment`, less what died since.

    Attributes:
        first: rows before it had been read already.
        moment: of which all is, once everything has been yielded.
    """

    def __init__(self, partition: Partition, *, first: int = 0) -> None:
        """Nothing is read yet.

        Args:
            first: rows before it have been read already.
        """
        self._partition = partition
        self.first = first
        self.moment = Moment(0, np.zeros(0, np.bool_))

    def parts(self) -> Iterator[Part]:
        """All images with rows from `first` on, those that are added meanwhile too.

        Raises:
            StoreError: Redis has lost changes, or what is stored is damaged.
            CollectionError: the collection is gone, or was made anew.
        """
        partition, start = self._partition, self.first
        # From now on it is noticed if Redis loses something.
        partition.history.check()
        if not partition.is_fitted():
            return
        while True:
            moment, end = self._now()
            if end <= start:
                self.moment = moment
                return
            read, few = start, _FEW * (end - start) < end
            # Before the rows: whatever is read has been there.
            fingerprints = None if few else self._fingerprints(end)
            for rows, packed, records in partition.blocks.packed(start, end):
                # Of blocks whose images have all gone nothing is left.
                read = int(rows[-1]) + 1 if len(rows) else read
                of_rows = self._of(rows, records) if fingerprints is None else fingerprints[rows]
                yield Part(read, rows, packed, records, of_rows)
            start = end

    def _now(self) -> tuple[Moment, int]:
        """This moment, and how many rows there are."""
        partition = self._partition
        while True:
            partition.history.check()
            try:
                reading = partition.read(partition.families.now().generation)
            except OutdatedError:
                # Other tables have been taken into use.
                continue
            alive = np.ones(reading.known_rows, np.bool_)
            alive[reading.dead] = False
            return Moment(layout.epoch_of(reading.moment), alive), reading.known_rows

    def _fingerprints(self, end: int) -> NDArray[np.uint8]:
        """(end, 8) digests of fingerprints by rows; zeros where a row is dead."""
        partition, count = self._partition, 1 << self._partition.uri_bits
        found = np.zeros((end, layout.FINGERPRINT), np.uint8)
        step = min(_HASHES, max(1, _ENTRIES * count // max(1, end)))
        for first in range(0, count, step):
            hashes = range(first, min(first + step, count))
            keys = [partition.keys.uris(number) for number in hashes]
            answers = partition.store.call_many([("HGETALL", key) for key in keys])
            rows, fingerprints = _unpacked(keys[0], [e for some in answers for e in some.values()])
            there = rows < end
            found[rows[there]] = fingerprints[there]
        return found

    def _of(self, rows: NDArray[np.int64], records: list[bytes]) -> NDArray[np.uint8]:
        """(n, 8) digests of the fingerprints of a few images; zeros where a row is dead by now."""
        digests = layout.uri_digests(map(layout.unpack_uri, records))
        entries = read_entries(self._partition, digests)
        there = [i for i, entry in enumerate(entries) if entry]
        packed = [entry for entry in entries if entry]
        now, fingerprints = _unpacked(self._partition.keys.uris(0), packed)
        same = now == rows[there]
        found = np.zeros((len(rows), layout.FINGERPRINT), np.uint8)
        found[np.array(there, np.intp)[same]] = fingerprints[same]
        return found


def _unpacked(key: str, entries: list[bytes]) -> tuple[NDArray[np.uint32], NDArray[np.uint8]]:
    """Rows, and digests of fingerprints, of entries of hashes of URIs."""
    try:
        packed = np.frombuffer(b"".join(entries), np.uint8).reshape(-1, 4 + layout.FINGERPRINT)
    except ValueError as error:
        raise StoreError(f"{key} is damaged: an entry has an odd length") from error
    rows = np.ascontiguousarray(packed[:, :4]).view(layout.ROW_DTYPE).ravel()
    return rows, packed[:, 4:]
