"""The images of a partition by their rows, which lie in blocks of 64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.store import Store, layout
from simdist.store.damage import damaged
from simdist.vectors.codec import Codec, alive, wholes

# Blocks that one round trip reads.
_BLOCKS = 32


@dataclass(frozen=True)
class Block:
    """Some images that lie side by side.

    Attributes:
        rows: (n,) int64.
        vectors: (n, dim) float32, turned (`Codec.turned`), of length 1.
        records: what else is stored of each.
    """

    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    records: Sequence[layout.Record]


@dataclass(frozen=True)
class Blocks:
    """Reads vectors and records that lie side by side, some thousand a round trip."""

    store: Store
    keys: layout.Keys
    codec: Codec

    def vectors(
        self, first: int, end: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The vectors of all images with rows from `first` on, before `end`, in batches.

        Yields:
            (n,) rows and their (n, dim) float32 vectors, as in `Block`.
        """
        for start, stop, blocks in _batches(first, end):
            found = self.store.call_many([("GET", self.keys.vectors(block)) for block in blocks])
            packed = self._of_rows(found, start, stop)
            rows = np.flatnonzero(alive(packed))
            yield start + rows, self._restored(packed, rows)

    def records(
        self, first: int, end: int
    ) -> Iterator[tuple[NDArray[np.int64], list[layout.Record]]]:
        """The records of all images with rows from `first` on, before `end`, in batches.

        Yields:
            (n,) rows and their records.
        """
        for start, stop, blocks in _batches(first, end):
            found = self.store.call_many([("GET", self.keys.records(block)) for block in blocks])
            records = self._records(found, start, stop)
            rows = np.flatnonzero([bool(record) for record in records])
            yield start + rows, [layout.unpack_record(records[row]) for row in rows.tolist()]

    def images(self, first: int, end: int) -> Iterator[Block]:
        """All images with rows from `first` on, before `end`, in batches."""
        for rows, packed, records in self.packed(first, end):
            unpacked = [layout.unpack_record(record) for record in records]
            yield Block(rows, self.codec.restore(packed), unpacked)

    def packed(
        self, first: int, end: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.uint8], list[bytes]]]:
        """As `images`: rows, stored vectors, (n, width) bytes, and packed records."""
        for start, stop, blocks in _batches(first, end):
            keys = [self.keys.vectors(block) for block in blocks]
            keys += [self.keys.records(block) for block in blocks]
            found = self.store.call_many([("GET", key) for key in keys])
            packed = self._of_rows(found[: len(blocks)], start, stop)
            records = self._records(found[len(blocks) :], start, stop)
            # An image that was deleted between the two has one of them only.
            rows = np.flatnonzero(alive(packed) & [bool(record) for record in records])
            yield start + rows, self._chosen(packed, rows), [records[row] for row in rows.tolist()]

    def _of_rows(self, blocks: Sequence[bytes | None], start: int, stop: int) -> NDArray[np.uint8]:
        """The stored vectors of rows from `start` to `stop` out of their blocks."""
        # A block whose rows are all dead is gone.
        gone = bytes(layout.BLOCK * self.codec.width)
        for number, block in enumerate(blocks, start // layout.BLOCK):
            if block and len(block) != len(gone):
                raise damaged(self.keys.vectors(number), "it is cut")
        packed = self.codec.matrix(b"".join(block or gone for block in blocks))
        return packed[start % layout.BLOCK :][: stop - start]

    def _records(self, blocks: Sequence[bytes | None], start: int, stop: int) -> list[bytes]:
        """The packed records of rows from `start` to `stop`; empty where dead."""
        packed: list[bytes] = []
        for number, block in enumerate(blocks, start // layout.BLOCK):
            try:
                packed += layout.unpack_records(block or b"")
            except StoreError as error:
                raise damaged(self.keys.records(number), "it is cut") from error
        return packed[start % layout.BLOCK :][: stop - start]

    def _restored(self, packed: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return self.codec.restore(self._chosen(packed, rows))

    def _chosen(self, packed: NDArray[np.uint8], rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        if len(rows) == len(packed):
            return packed
        return self.codec.matrix(wholes(packed)[rows].tobytes())


def _batches(first: int, end: int) -> Iterator[tuple[int, int, range]]:
    """Rows in batches of `_BLOCKS` blocks: from, up to, and the numbers of their blocks."""
    for start in range(first, end, _BLOCKS * layout.BLOCK):
        stop = min(start + _BLOCKS * layout.BLOCK, end)
        yield start, stop, range(start // layout.BLOCK, -(-stop // layout.BLOCK))
