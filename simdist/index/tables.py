"""The hash tables of one partition in Redis, and the vectors and records that they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, StoreError
from simdist.hashing import HashFamily, dump_family, load_family
from simdist.index.buckets import Place, Reading, unpack_reading
from simdist.store import Store, layout
from simdist.store.connection import Argument
from simdist.vectors.rotation import rotated, unrotated

# Images deleted by one call of the script: a stall of a few milliseconds.
_DELETED = 256
# Rows that one call of the script reads at most: a stall of some milliseconds.
READ_ROWS = 4096
# Blocks of rows that one round trip reads when all are wanted.
_BLOCKS = 32


@dataclass(frozen=True)
class Hashing:
    """The hash family in use, and the one that is to follow it, while its tables are filled.

    Attributes:
        row: the number of the next row when it was looked up.
    """

    generation: int
    family: HashFamily
    following: HashFamily | None
    row: int


@dataclass(frozen=True)
class HashTables:
    """The hash tables of one partition of a collection, shared by all processes.

    Attributes:
        collection: its name.
        partition: its number.
        dim: length of a vector.
        dtype: how vectors are stored: int8 or float32, each with the inverse of its length.
        uri_bits: bits of a URI's digest that choose its hash, see `layout`.
    """

    store: Store
    collection: str
    partition: int
    dim: int
    dtype: np.dtype[Any]
    uri_bits: int
    # Families by generation, each read once and kept: they never change.
    _families: dict[int, HashFamily] = field(default_factory=dict, repr=False, compare=False)
    # The partition's mark, once it is known.
    _born: list[bytes] = field(default_factory=list, repr=False, compare=False)

    @property
    def meta_key(self) -> str:
        """The key that holds the partition's state."""
        return layout.meta_key(self.collection, self.partition)

    def key(self, *parts: str | int) -> str:
        """Any other key of the partition."""
        return layout.key(self.collection, self.partition, *parts)

    @property
    def fitted(self) -> bool:
        """Whether it has hash tables: from the first commit on."""
        return bool(self._families) or self._generations()[0] > 0

    def state(self, *fields: str) -> list[int]:
        """Fields of the partition's state; 0 for one that is not set."""
        values = self.store.call("HMGET", self.meta_key, *fields)
        return [int(value or 0) for value in values]

    def hashing(self) -> Hashing:
        """The hash families in use now.

        Raises:
            CollectionError: nothing has been added yet.
        """
        generation, following, row = self._generations()
        try:
            return self._hashing(generation, following, row)
        except StoreError:
            # The tables may have been replaced between the two calls.
            if self._generations()[0] == generation:
                raise
            return self.hashing()

    def _hashing(self, generation: int, following: int, row: int) -> Hashing:
        if generation == 0:
            raise _empty(self.collection)
        return Hashing(
            generation,
            self.family(generation),
            self.family(following) if following else None,
            row,
        )

    def fit(self, family: HashFamily, *, images: int = 0) -> None:
        """Give the partition its first hash family; if it has one by now, that one stays.

        Args:
            images: how many the family was fitted on.
        """
        self.store.run("fit", [self.meta_key], [images, dump_family(family)])

    def known(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which images are there, by `layout.digests`: (n,) bool; one round trip."""
        answer = self.store.run("known", [self.meta_key], [self.uri_bits, digests.tobytes()])
        flags: NDArray[np.bool_] = np.frombuffer(answer, dtype=np.uint8) == ord("1")
        return flags

    def delete(self, digests: Sequence[bytes]) -> int:
        """Delete images by `layout.uri_digest`; returns how many there were."""
        deleted = 0
        for start in range(0, len(digests), _DELETED):
            joined = b"".join(digests[start : start + _DELETED])
            arguments: list[Argument] = [self.uri_bits, self.width, joined]
            deleted += int(self.store.run("delete", [self.meta_key], arguments))
        return deleted

    def read(
        self, generation: int, wanted: Mapping[Place, int], *, dead_known: int = 0
    ) -> Reading | None:
        """Read what buckets hold beyond what the reader has; one round trip.

        Of many rows only the first `READ_ROWS` come: then the last tail is not complete, and
        buckets after it are left out.

        Args:
            generation: of the tables.
            wanted: for each bucket, how much of it the reader has (`BucketTail.known`).
            dead_known: how many dead rows the reader knows.

        Returns:
            None if that generation's tables have been replaced, or the collection was made anew.
        """
        places = np.array([(*place, known) for place, known in wanted.items()], layout.ROW_DTYPE)
        arguments: list[Argument] = [
            *(generation, dead_known, READ_ROWS, self.width, self._mark(), places.tobytes())
        ]
        reply = self.store.run("read", [self.meta_key], arguments)
        if reply is None:
            return None
        return unpack_reading(reply, wanted, width=self.width, limit=READ_ROWS)

    def rows(self, rows: NDArray[np.uint32]) -> list[tuple[NDArray[np.uint8], bytes] | None]:
        """The stored vector, (width,) bytes, and the record of each row; None where deleted."""
        packed = np.asarray(rows, layout.ROW_DTYPE).tobytes()
        arguments: list[Argument] = [self.width, packed]
        reply = self.store.run("rows", [self.meta_key], arguments) if packed else []
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [
            (np.frombuffer(vector, np.uint8), record) if record else None
            for vector, record in pairs
        ]

    def row_of(self, digest: bytes) -> int | None:
        """The row of an image, by `layout.uri_digest`."""
        [number] = layout.uris_hashes(np.frombuffer(digest, np.uint8)[None], self.uri_bits).tolist()
        entry = self.store.call("HGET", self.key("uris", number), digest[layout.PREFIX :])
        return None if entry is None else int(np.frombuffer(entry, layout.ROW_DTYPE, 1)[0])

    def blocks(
        self, first: int, last: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """All rows from `first` to `last` that exist, in batches.

        Yields:
            (n,) rows and their (n, dim) vectors, of length 1.
        """
        for start in range(first, last, _BLOCKS * layout.BLOCK):
            stop = min(start + _BLOCKS * layout.BLOCK, last)
            numbers = range(start // layout.BLOCK, -(-stop // layout.BLOCK))
            blocks = self.store.call_many(
                [("GET", self.key("vectors", number)) for number in numbers]
            )
            # A block whose rows are all dead is gone.
            gone = bytes(layout.BLOCK * self.width)
            packed = self._matrix(b"".join(block or gone for block in blocks))
            packed = packed[start - numbers.start * layout.BLOCK :][: stop - start]
            rows = np.flatnonzero(layout.alive(packed))
            if len(rows) < len(packed):
                packed = self._matrix(layout.wholes(packed)[rows].tobytes())
            yield start + rows, self.restore(packed)

    def records(self, last: int) -> Iterator[list[layout.Record]]:
        """What is stored of all images with rows up to `last`, in batches."""
        for start in range(0, last, _BLOCKS * layout.BLOCK):
            numbers = range(start, min(start + _BLOCKS * layout.BLOCK, last), layout.BLOCK)
            blocks = self.store.call_many(
                [("GET", self.key("records", n // layout.BLOCK)) for n in numbers]
            )
            records = [
                record for block in blocks for record in layout.unpack_records(block or b"")
            ][: last - start]
            yield [layout.unpack_record(record) for record in records if record]

    def turned(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Vectors turned into the space in which they are stored, hashed and compared."""
        return rotated(vectors) if self.dtype == np.int8 else vectors

    def turned_back(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """What `turned` made these of."""
        return unrotated(vectors) if self.dtype == np.int8 else vectors

    def unpack(self, packed: NDArray[np.uint8]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Stored vectors, (n, width) bytes -> (n, dim) values and (n,) inverse lengths."""
        return layout.unpack_vectors(packed, self.dtype)

    def restore(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Stored vectors, (n, width) bytes -> (n, dim) float32, of length 1."""
        from simdist.vectors.loops import restore_rows

        return restore_rows(*self.unpack(packed))

    def _matrix(self, packed: bytes) -> NDArray[np.uint8]:
        return np.frombuffer(packed, np.uint8).reshape(-1, self.width)

    @property
    def width(self) -> int:
        """Bytes of a stored vector."""
        return layout.vector_width(self.dim, self.dtype)

    def _generations(self) -> tuple[int, int, int]:
        """The generation of the tables, and of those that are being filled, 0 for none; next row.

        Raises:
            CollectionError: the collection is gone, or was made anew.
        """
        fields = ("generation", "next", "rows", "born")
        generation, following, row, born = self.store.call("HMGET", self.meta_key, *fields)
        if generation is None:
            raise CollectionError(f"the collection {self.collection!r} is gone: ingest it again")
        if not self._born:
            self._born.append(born or b"")
        if (born or b"") != self._born[0]:
            # Rows, hash families and records that are known here are those of another.
            raise CollectionError(
                f"the collection {self.collection!r} was lost, and made anew meanwhile: run the "
                "same command again"
            )
        return int(generation), int(following), int(row)

    def _mark(self) -> bytes:
        """By which the partition is told from one that was made in its place."""
        if not self._born:
            self._generations()
        return self._born[0]

    def family(self, generation: int) -> HashFamily:
        """The hash family of a generation, which never changes."""
        if generation not in self._families:
            data = self.store.call("GET", self.key("family", generation))
            if data is None:
                raise StoreError(f"the collection {self.collection!r} has lost its hash family")
            self._families[generation] = load_family(data)
        return self._families[generation]


def require_fitted(partitions: Sequence[HashTables]) -> None:
    """Check that there is something to search in.

    Raises:
        CollectionError: nothing has been added to any of these partitions yet.
    """
    if not any(tables.fitted for tables in partitions):
        raise _empty(partitions[0].collection)


def _empty(collection: str) -> CollectionError:
    return CollectionError(
        f"the collection {collection!r} is empty: put images into it with "
        f"'simdist ingest FOLDER --collection {collection}'"
    )
