"""Images in the batches and in the order that suit the scripts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.hashing.family import Buckets
from simdist.sources.place import Place
from simdist.sources.reference import ImageRef
from simdist.store import layout
from simdist.store.scripts import Images, NewImages
from simdist.vectors.codec import wholes

# Images committed by one call of the script, if they go into one table: a stall of two or three
# milliseconds, of more if they replace others. Each further table takes half as long again.
COMMIT_BATCH = 512
_SHARE_OF_A_TABLE = 2


@dataclass(frozen=True)
class Batch:
    """Images that are to be committed.

    Attributes:
        packed: (n, width) uint8, their stored vectors (`Codec.pack`).
        digests: (n, 22) uint8 (`layout.digests`).
        records: their records (`layout.pack_records`).
        expected: (n,) uint32, rows of images that they are to replace: others are left; or None.
    """

    packed: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    records: Sequence[bytes]
    expected: NDArray[np.uint32] | None = None

    def __len__(self) -> int:
        """Images in it."""
        return len(self.records)

    @classmethod
    def pack(cls, packed: NDArray[np.uint8], refs: Sequence[ImageRef]) -> Batch:
        """Pack what belongs to stored vectors."""
        uris = [ref.uri.encode() for ref in refs]
        digests = layout.digests(uris, [ref.fingerprint for ref in refs])
        labels, metadata = [ref.label for ref in refs], [ref.metadata for ref in refs]
        places, looks = [Place.pack(ref) for ref in refs], [ref.look for ref in refs]
        return cls(packed, digests, layout.pack_records(uris, labels, metadata, places, looks))

    def commands(
        self, left: NDArray[np.intp], buckets: Buckets, *, uri_bits: int, row: int
    ) -> Iterator[Command]:
        """Divide images into those that one call of a script commits.

        In each call no URI comes twice, and an image that replaces another comes later; those of
        a bucket are side by side, for then it is written once.

        Args:
            left: indices of the images.
            buckets: (n, tables) of all images.
            row: that the first image gets if it is new.
        """
        order, bounds = self._parts(left, buckets)
        # For all calls at once: NumPy's overhead is as much as what it does for one.
        rows = row + np.arange(len(order))
        uris = self._uris(order, bounds, rows, uri_bits)
        columns, vectors = buckets[order], wholes(self.packed)
        runs = [_Runs.of(column, bounds, table) for table, column in enumerate(columns.T)]
        records = [self.records[i] for i in order.tolist()]
        lengths = _numbers([len(record) for record in records])
        for call, (start, end) in enumerate(pairwise(bounds.tolist())):
            here, first, last = slice(start, end), uris.bounds[call], uris.bounds[call + 1]
            yield Command(
                members=order[start:end],
                rows=_numbers(rows[here]),
                uris=uris.hashes[first:last],
                entries=uris.entries[here],
                positions=uris.positions[here],
                expected=uris.expected[here],
                buckets=columns[here],
                runs=[some.of_calls[some.bounds[call] : some.bounds[call + 1]] for some in runs],
                lengths=lengths[here],
                records=records[here],
                vectors=vectors[order[start:end]],
            )

    def _uris(
        self, order: NDArray[np.intp], bounds: NDArray[np.intp], rows: NDArray[Any], uri_bits: int
    ) -> _Uris:
        """For each call of the script the images by their `uris` hash."""
        call = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
        digests = self.digests[order]
        hashes = layout.uris_hashes(digests, uri_bits)
        by_hash = np.lexsort((hashes, call))
        hashes = hashes[by_hash]
        fields, fingerprints = np.hsplit(digests[by_hash, layout.PREFIX :], [layout.FIELD])
        changes = (np.diff(hashes, prepend=-1) != 0) | (np.diff(call, prepend=-1) != 0)
        firsts = np.flatnonzero(changes)
        counts = np.diff(firsts, append=len(order))
        numbers = _numbers(rows[by_hash])[:, None].view(np.uint8)
        expected = np.empty(0, layout.ROW_DTYPE) if self.expected is None else self.expected[order]
        return _Uris(
            _numbers(np.column_stack([hashes[firsts], counts])),
            np.searchsorted(firsts, bounds).tolist(),
            np.hstack([fields, numbers, fingerprints]),
            _numbers(by_hash - bounds[call] + 1),
            expected[by_hash] if self.expected is not None else expected,
        )

    def _parts(
        self, left: NDArray[np.intp], buckets: Buckets
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """The images in the order in which they are committed, and where the calls start."""
        tables = buckets.shape[1]
        size = COMMIT_BATCH * _SHARE_OF_A_TABLE // (_SHARE_OF_A_TABLE - 1 + tables)
        repeats = self._repeats()
        order = left[np.lexsort((buckets[left, 0], repeats[left]))]
        ends = np.flatnonzero(np.diff(repeats[order], append=-1)) + 1
        bounds = [0]
        for end in ends.tolist():
            bounds += [*range(bounds[-1] + size, end, size), end]
        return order, np.array(bounds)

    def _repeats(self) -> NDArray[np.intp]:
        """(n,) how many of the images before it have the same URI."""
        count = len(self.digests)
        # Equal digests start equally: mostly that is all there is to look at.
        starts = np.sort(np.ascontiguousarray(self.digests[:, :8]).view(np.uint64), axis=0)
        if (starts[1:] != starts[:-1]).all():
            return np.zeros(count, np.intp)
        uris = [digest.tobytes() for digest in self.digests[:, : layout.PREFIX + layout.FIELD]]
        met: Counter[bytes] = Counter()
        repeats = []
        for uri in uris:
            repeats.append(met[uri])
            met[uri] += 1
        return np.array(repeats)


@dataclass(frozen=True)
class Command:
    """What one call of a script commits, n images.

    Attributes:
        members: (n,) which images.
        rows: (n,) uint32, that they get if all are new, and nobody else writes.
        uris: (hashes, 2) uint32: a `uris` hash, and how many of the images belong into it.
        entries: (n, 23) uint8, in the order of the hashes: field, row, digest of the fingerprint.
        positions: (n,) uint32, which of the images each of these is, from 1 on.
        expected: (n,) uint32, in the same order, the row of the one to be replaced; or empty.
        buckets: (n, tables) uint32.
        runs: of each table (runs, 3) uint32: the table, a bucket, how many images follow in it.
        lengths: (n,) uint32, of records.
        records: n records.
        vectors: (n,) their stored vectors, each a whole.
    """

    members: NDArray[np.intp]
    rows: NDArray[np.uint32]
    uris: NDArray[np.uint32]
    entries: NDArray[np.uint8]
    positions: NDArray[np.uint32]
    expected: NDArray[np.uint32]
    buckets: Buckets
    runs: Sequence[NDArray[np.uint32]]
    lengths: NDArray[np.uint32]
    records: Sequence[bytes]
    vectors: NDArray[np.void]

    def new_images(self) -> NewImages:
        """What `scripts.insert` takes of them."""
        blocks = []
        for start, end in pairwise([0, *self._cuts(int(self.rows[0])), len(self.rows)]):
            here = slice(start, end)
            blocks += [self.vectors[here].tobytes(), self.lengths[here].tobytes()]
            blocks.append(b"".join(self.records[here]))
        return NewImages(
            hashes=self.uris.tobytes(),
            entries=self.entries.tobytes(),
            runs=np.concatenate(self.runs).tobytes(),
            rows=self.rows.tobytes(),
            blocks=blocks,
        )

    def images(self, row: int) -> Images:
        """What `scripts.commit` takes; it takes least time if the first gets this row."""
        row_end = layout.FIELD + layout.ROW_DTYPE.itemsize
        fields, _, fingerprints = np.hsplit(self.entries, [layout.FIELD, row_end])
        return Images(
            hashes=self.uris.tobytes(),
            fields=fields.tobytes(),
            fingerprints=fingerprints.tobytes(),
            positions=self.positions.tobytes(),
            expected=self.expected.tobytes(),
            buckets=self.buckets.T.tobytes(),
            lengths=self.lengths.tobytes(),
            records=b"".join(self.records),
            vectors=[piece.tobytes() for piece in np.split(self.vectors, self._cuts(row))],
        )

    def _cuts(self, row: int) -> range:
        """Where blocks end."""
        return range(layout.BLOCK - row % layout.BLOCK, len(self.vectors), layout.BLOCK)


@dataclass(frozen=True)
class _Uris:
    """What the scripts take of the URIs, for all calls.

    Attributes:
        hashes, entries, positions, expected: as in `Command`.
        bounds: where in `hashes` the calls start, and the end.
    """

    hashes: NDArray[np.uint32]
    bounds: list[int]
    entries: NDArray[np.uint8]
    positions: NDArray[np.uint32]
    expected: NDArray[np.uint32]


@dataclass(frozen=True)
class _Runs:
    """Images in a row that belong into the same bucket of a table, for all calls.

    Attributes:
        of_calls: as in `Command`.
        bounds: where the calls start, and the end.
    """

    of_calls: NDArray[np.uint32]
    bounds: list[int]

    @classmethod
    def of(cls, buckets: NDArray[np.uint32], bounds: NDArray[np.intp], table: int) -> _Runs:
        changes = np.diff(buckets, prepend=buckets[:1]) != 0
        changes[bounds[:-1]] = True
        firsts = np.flatnonzero(changes)
        counts = np.diff(firsts, append=len(buckets))
        runs = np.column_stack([np.full(len(firsts), table), buckets[firsts], counts])
        return cls(_numbers(runs), np.searchsorted(firsts, bounds).tolist())


def _numbers(values: ArrayLike) -> NDArray[np.uint32]:
    return np.asarray(values).astype(layout.ROW_DTYPE)
