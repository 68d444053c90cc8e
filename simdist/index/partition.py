"""One partition of a collection in Redis: its images, and the hash tables that lead to them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, Remedy, StoreError
from simdist.hashing import HashFamily, dump_family, load_family
from simdist.index.blocks import Block, Blocks
from simdist.index.buckets import BucketTail, OutdatedError, Place, Reading, unpack_reading
from simdist.store import Store, layout, scripts
from simdist.vectors.codec import Codec

# Images deleted by one call of the script: a stall of a few milliseconds.
_DELETED = 256
# Rows that one call of the script reads at most: a stall of some milliseconds.
READ_ROWS = 4096
# Buckets that one round trip reads when all are wanted.
_BUCKETS = 256


@dataclass(frozen=True)
class State:
    """The state of a partition.

    Attributes:
        rows: row numbers given out so far.
        live: images.
        epoch: changes so far.
        generation: of the tables in use; 0 before the first commit.
        fitted: images that these were fitted for.
        following: generation of the tables that are being filled; 0 for none.
        filled, fill: rows below the one are in these already, of those below the other.
        retired: generation whose tables are to be dropped; 0 for none.
    """

    rows: int
    live: int
    epoch: int
    generation: int
    fitted: int
    following: int
    filled: int
    fill: int
    retired: int


_FIELDS = ("rows", "live", "epoch", "generation", "fitted", "next", "filled", "fill", "retired")


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
class Bucket:
    """The images of a bucket: (n,) uint32 rows, and their (n, dim) vectors as in `Block`."""

    place: Place
    rows: NDArray[np.uint32]
    vectors: NDArray[np.float32]


class Partition:
    """One partition of a collection, shared by all processes.

    Attributes:
        collection: its name.
        number: which of the collection's partitions it is.
        codec: how vectors are stored.
        uri_bits: bits of a URI's digest that choose its hash, see `layout`.
        keys: the names of its keys.
        blocks: its images by their rows.
    """

    def __init__(
        self, store: Store, collection: str, number: int, *, codec: Codec, uri_bits: int
    ) -> None:
        """Nothing is asked of Redis yet."""
        self.store = store
        self.collection = collection
        self.number = number
        self.codec = codec
        self.uri_bits = uri_bits
        self.keys = layout.Keys(collection, number)
        self.blocks = Blocks(store, self.keys, codec)
        # Families by generation, each read once and kept: they never change.
        self._families: dict[int, HashFamily] = {}
        # The partition's mark, once it is known.
        self._born: bytes | None = None

    def state(self) -> State:
        """The state at this moment; one round trip."""
        values = self.store.call("HMGET", self.keys.meta, *_FIELDS)
        return State(*(int(value or 0) for value in values))

    def is_fitted(self) -> bool:
        """Whether it has hash tables: from the first commit on."""
        return bool(self._families) or self._generations()[0] > 0

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

    def family(self, generation: int) -> HashFamily:
        """The hash family of a generation, which never changes."""
        if generation not in self._families:
            data = self.store.call("GET", self.keys.family(generation))
            if data is None:
                raise StoreError(f"the collection {self.collection!r} has lost its hash family")
            self._families[generation] = self.loaded(generation, data)
        return self._families[generation]

    def loaded(self, generation: int, data: bytes) -> HashFamily:
        """The hash family that was stored as these bytes.

        Raises:
            StoreError: they are damaged.
        """
        try:
            return load_family(data, dim=self.codec.dim)
        except StoreError as error:
            raise StoreError(f"{self.keys.family(generation)}: {error}") from error

    def fit(self, family: HashFamily, *, images: int = 0) -> None:
        """Give the partition its first hash family; if it has one by now, that one stays.

        Args:
            images: how many the family was fitted on.
        """
        scripts.fit(self.store, self.keys.meta, images=images, family=dump_family(family))

    def known(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which images are there, by `layout.digests`: (n,) bool; one round trip."""
        answer = scripts.known(
            self.store, self.keys.meta, uri_bits=self.uri_bits, digests=digests.tobytes()
        )
        flags: NDArray[np.bool_] = np.frombuffer(answer, dtype=np.uint8) == ord("1")
        return flags

    def delete(self, digests: Sequence[bytes]) -> int:
        """Delete images by `layout.uri_digest`; returns how many there were."""
        return sum(
            scripts.delete(
                self.store,
                self.keys.meta,
                uri_bits=self.uri_bits,
                width=self.codec.width,
                digests=b"".join(digests[start : start + _DELETED]),
            )
            for start in range(0, len(digests), _DELETED)
        )

    def read(self, generation: int, wanted: Mapping[Place, int], *, dead_known: int = 0) -> Reading:
        """Read what buckets hold beyond what the reader has; one round trip.

        Of many rows only the first `READ_ROWS` come: then the last tail is not complete, and
        buckets after it are left out.

        Args:
            generation: of the tables.
            wanted: for each bucket, how much of it the reader has (`BucketTail.known`).
            dead_known: how many dead rows the reader knows.

        Raises:
            OutdatedError: that generation's tables have been replaced, or the collection was made
                anew.
        """
        places = np.array([(*place, known) for place, known in wanted.items()], layout.ROW_DTYPE)
        reply = scripts.read(
            self.store,
            self.keys.meta,
            generation=generation,
            dead_known=dead_known,
            limit=READ_ROWS,
            width=self.codec.width,
            born=self._mark(),
            wanted=places.tobytes(),
        )
        if reply is None:
            raise OutdatedError
        return unpack_reading(reply, wanted, codec=self.codec, limit=READ_ROWS)

    def rows(self, rows: NDArray[np.uint32]) -> list[tuple[NDArray[np.uint8], bytes] | None]:
        """The stored vector, (width,) bytes, and the record of each row; None where deleted."""
        packed = np.asarray(rows, layout.ROW_DTYPE).tobytes()
        if not packed:
            return []
        reply = scripts.rows(self.store, self.keys.meta, width=self.codec.width, rows=packed)
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return [
            (np.frombuffer(vector, np.uint8), record) if record else None
            for vector, record in pairs
        ]

    def row_of(self, digest: bytes) -> int | None:
        """The row of an image, by `layout.uri_digest`."""
        [number] = layout.uris_hashes(np.frombuffer(digest, np.uint8)[None], self.uri_bits).tolist()
        entry = self.store.call("HGET", self.keys.uris(number), digest[layout.PREFIX :])
        return None if entry is None else int(np.frombuffer(entry, layout.ROW_DTYPE, 1)[0])

    def images(self, first: int = 0, end: int | None = None) -> Iterator[Block]:
        """All images with rows from `first` on, before `end` (by default all), in batches."""
        return self.blocks.images(first, self.state().rows if end is None else end)

    def by_bucket(self) -> Iterator[Bucket]:
        """All buckets that are not empty, table by table: an image comes once in each table.

        Raises:
            CollectionError: nothing has been added yet.
            OutdatedError: the tables were replaced meanwhile.
        """
        hashing = self.hashing()
        places = product(range(hashing.family.tables), range(hashing.family.size))
        while wanted := dict.fromkeys(islice(places, _BUCKETS), 0):
            held: dict[Place, list[BucketTail]] = {}
            while wanted:
                # There are no more dead rows than rows, and none is asked for.
                reading = self.read(hashing.generation, wanted, dead_known=hashing.row)
                for tail in reading.tails:
                    held.setdefault(tail.place, []).append(tail)
                    if not tail.complete:
                        wanted[tail.place] = tail.known
                        continue
                    del wanted[tail.place]
                    bucket = self._bucket(held.pop(tail.place))
                    if len(bucket.rows):
                        yield bucket

    def _bucket(self, tails: Sequence[BucketTail]) -> Bucket:
        packed = np.concatenate([tail.vectors for tail in tails])
        rows = np.concatenate([tail.rows for tail in tails])
        return Bucket(tails[0].place, rows, self.codec.restore(packed))

    def _generations(self) -> tuple[int, int, int]:
        """The generation of the tables, and of those that are being filled, 0 for none; next row.

        Raises:
            CollectionError: the collection is gone, or was made anew.
        """
        fields = ("generation", "next", "rows", "born")
        generation, following, row, born = self.store.call("HMGET", self.keys.meta, *fields)
        if generation is None:
            raise CollectionError(f"the collection {self.collection!r} is gone: ingest it again")
        if self._born is None:
            self._born = born or b""
        if (born or b"") != self._born:
            # Rows, hash families and records that are known here are those of another.
            raise CollectionError(
                f"the collection {self.collection!r} was lost, and made anew meanwhile: run the "
                "same command again"
            )
        return int(generation), int(following), int(row)

    def _mark(self) -> bytes:
        """By which the partition is told from one that was made in its place."""
        if self._born is None:
            self._generations()
        return self._born or b""


def require_fitted(partitions: Sequence[Partition]) -> None:
    """Check that there is something to search in.

    Raises:
        CollectionError: nothing has been added to any of these partitions yet.
    """
    if not any(partition.is_fitted() for partition in partitions):
        raise _empty(partitions[0].collection)


def _empty(collection: str) -> CollectionError:
    return CollectionError(
        f"the collection {collection!r} is empty: add images to it first",
        remedy=Remedy.INGEST,
        about=collection,
    )
