"""The images of a partition by their rows, which lie in blocks of 60."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.index.moved import MovedFiles
from simdist.store import Store, layout
from simdist.store.damage import damaged
from simdist.vectors.codec import Codec, alive, wholes

# Blocks that one round trip reads.
_BLOCKS = 32
# How often a block is read that others are moving.
_TRIES = 5


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
    files: MovedFiles

    def vectors(
        self, first: int, end: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """The vectors of all images with rows from `first` on, before `end`, in batches.

        Yields:
            (n,) rows and their (n, dim) float32 vectors, as in `Block`.
        """
        for start, stop, blocks in _batches(first, end):
            found = self.store.call_many([("GET", self.keys.vectors(block)) for block in blocks])
            others = [n for n, one in zip(blocks, found, strict=True) if self._is_elsewhere(one)]
            for number, (vectors, _) in self._elsewhere(others).items():
                found[number - blocks.start] = vectors
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
        for rows, records in self.packed_records(first, end):
            yield rows, [layout.unpack_record(record) for record in records]

    def packed_records(
        self, first: int, end: int
    ) -> Iterator[tuple[NDArray[np.int64], list[bytes]]]:
        """As `records`: rows, and their packed records."""
        for start, stop, blocks in _batches(first, end):
            found = self.store.call_many([("GET", self.keys.records(block)) for block in blocks])
            others = [n for n, one in zip(blocks, found, strict=True) if not one]
            for number, (_, records_of) in self._elsewhere(others).items():
                found[number - blocks.start] = records_of
            records = self._records(found, start, stop)
            rows = np.flatnonzero([bool(record) for record in records])
            yield start + rows, [records[row] for row in rows.tolist()]

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
            found = self.stored(blocks)
            packed = self._of_rows([vectors for vectors, _ in found], start, stop)
            records = self._records([records for _, records in found], start, stop)
            # An image that was deleted between the two has one of them only.
            rows = np.flatnonzero(alive(packed) & [bool(record) for record in records])
            yield start + rows, self._chosen(packed, rows), [records[row] for row in rows.tolist()]

    def stored(self, blocks: Sequence[int]) -> list[tuple[bytes | None, bytes | None]]:
        """The vectors and the records of blocks, as they lie in Redis or would; None where gone.

        Raises:
            SourceError: a block is in a file that cannot be read.
        """
        found = self._pairs(blocks)
        others = {
            number: i
            for i, (number, (vectors, records)) in enumerate(zip(blocks, found, strict=True))
            if self._is_elsewhere(vectors) or (vectors and not records)
        }
        for number, pair in self._elsewhere(list(others)).items():
            found[others[number]] = pair
        return found

    def _pairs(self, blocks: Sequence[int]) -> list[tuple[bytes | None, bytes | None]]:
        keys = [(self.keys.vectors(number), self.keys.records(number)) for number in blocks]
        found = self.store.call_many([("GET", key) for pair in keys for key in pair])
        return list(zip(found[::2], found[1::2], strict=True))

    def _is_elsewhere(self, vectors: bytes | None) -> bool:
        """Whether a block has only codes of its vectors in Redis."""
        return vectors is not None and len(vectors) != layout.BLOCK * self.codec.width

    def _elsewhere(self, blocks: Sequence[int]) -> dict[int, tuple[bytes | None, bytes | None]]:
        """Those of these blocks that are in files; and those that have come back from there."""
        found: dict[int, tuple[bytes | None, bytes | None]] = {}
        for _ in range(_TRIES if blocks else 0):
            left = [number for number in blocks if number not in found]
            places = self.store.call_many([("GET", self.keys.moved(number)) for number in left])
            moved = {n: place for n, place in zip(left, places, strict=True) if place}
            found |= self.files.blocks(moved)
            left = [number for number in left if number not in moved]
            if left:
                pairs = zip(left, self._pairs(left), strict=True)
                found |= {n: pair for n, pair in pairs if not self._is_elsewhere(pair[0])}
            if len(found) == len(blocks):
                break
        return found

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
