"""One partition of a collection in Redis: its images, and the hash tables that lead to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simdist.errors import StoreError
from simdist.hashing import HashFamily, dump_family
from simdist.index.blocks import Block, Blocks
from simdist.index.buckets import NO_BUCKETS, OutdatedError, Reading, unpack_reading
from simdist.index.families import Families, nothing_in
from simdist.index.history import History
from simdist.index.images import Stored, unpack_stored
from simdist.index.moved import MovedFiles
from simdist.index.state import FIELDS, State
from simdist.store import Store, layout, name_scripts, scripts, table_scripts
from simdist.store.connection import Argument
from simdist.store.damage import damaged
from simdist.vectors.codec import Codec

# Images deleted by one call of the script: a stall of a few milliseconds.
_DELETED = 256
# Rows that one call of the script reads at most: a stall of some milliseconds.
READ_ROWS = 4096


class Partition:
    """One partition of a collection, shared by all processes.

    Attributes:
        collection: what it is called.
        number: which of the collection's partitions it is.
        codec: how vectors are stored.
        uri_bits: bits of a URI's digest that choose its hash, see `layout`.
        keys: the names of its keys.
        blocks: its images by their rows.
        history: by which it is noticed that Redis has lost changes.
        families: by which its tables were hashed.
    """

    def __init__(
        self,
        store: Store,
        collection: str,
        number: int,
        *,
        codec: Codec,
        uri_bits: int,
        home: str | None = None,
    ) -> None:
        """Nothing is asked of Redis yet."""
        self.store = store
        self.collection = collection
        self.number = number
        self.codec = codec
        self.uri_bits = uri_bits
        self.keys = layout.Keys(home or collection, number)
        self.history = History(store, collection, self.keys, uri_bits=uri_bits)
        self.files = MovedFiles(store, self.keys, codec, self.history)
        self.blocks = Blocks(store, self.keys, codec, self.files)
        self.families = Families(store, collection, self.keys, self.history, dim=codec.dim)

    def state(self) -> State:
        """The state at this moment; one round trip.

        Raises:
            CollectionError: the collection is gone, or was made anew.
            StoreError: it is damaged.
        """
        return State.of(self.history.fields(*FIELDS), self.keys.meta)

    def is_fitted(self) -> bool:
        """Whether it has hash tables: from the first commit on."""
        return len(self.families) > 0 or self.history.generations()[0] > 0

    def note(self, command: str, key: str, *words: Argument) -> None:
        """Run a command on one of its keys.

        Args:
            key: less what all of its keys begin with.

        Raises:
            CollectionError: it is gone, or was made anew: nothing is written.
        """
        born = self.history.born
        if not name_scripts.note(
            self.store, self.keys.meta, born=born, command=command, key=key, words=words
        ):
            self.history.generations()

    def fit(self, family: HashFamily, *, images: int = 0) -> None:
        """Give the partition its first hash family; if it has one by now, that one stays.

        Args:
            images: how many the family was fitted on.
        """
        table_scripts.fit(
            self.store,
            self.keys.meta,
            born=self.history.born,
            generation=layout.generation_after(0),
            images=images,
            family=dump_family(family),
        )

    def versions(self, digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Which images are there, by `layout.digests`: (n,) `Version`; one round trip.

        Raises:
            StoreError: as `delete`.
        """
        answer = scripts.known(
            self.store,
            self.keys.meta,
            self.history.seen,
            uri_bits=self.uri_bits,
            digests=digests.tobytes(),
        )
        found = np.frombuffer(self.history.note(answer), dtype=np.uint8)
        return np.asarray(found - ord("0"), np.uint8)

    def delete(
        self, digests: Sequence[bytes], *, expected: NDArray[np.uint32] | None = None
    ) -> bytes:
        """Delete images by `layout.uri_digest`: '-' for each; '0' where it is not there; '=' where
        it has another row than is `expected`, (n,) rows.

        Raises:
            StoreError: Redis has lost changes that this process has seen; or what it has of these
                images is damaged, and none of them is deleted.
        """
        results = b""
        for start in range(0, len(digests), _DELETED):
            end = start + _DELETED
            answer = scripts.delete(
                self.store,
                self.keys.meta,
                self.history.seen,
                uri_bits=self.uri_bits,
                width=self.codec.width,
                digests=b"".join(digests[start:end]),
                rows=b"" if expected is None else expected[start:end].tobytes(),
            )
            results += self.history.note(answer)
        return results

    def read(
        self,
        generation: int,
        wanted: NDArray[np.int64] = NO_BUCKETS,
        *,
        dead_known: int = 0,
        moment: bytes = b"",
    ) -> Reading:
        """Read what buckets hold beyond what the reader has; one round trip.

        Of many rows only the first `READ_ROWS` come: then the last bucket is not complete, and
        those after it are left out.

        Args:
            generation: of the tables.
            wanted: (b, 3) tables, buckets, and how much of each the reader has (`Reading.known`);
                by default none.
            dead_known: how many dead rows the reader knows.
            moment: of its last reading.

        Raises:
            OutdatedError: that generation's tables have been replaced, or the collection was made
                anew, or has lost what the reader read.
            StoreError: what is stored is damaged.
        """
        reply = scripts.read(
            self.store,
            self.keys.meta,
            self.history.at(moment),
            generation=generation,
            dead_known=dead_known,
            limit=READ_ROWS,
            width=self.codec.width,
            wanted=wanted.astype(layout.ROW_DTYPE).tobytes(),
        )
        if reply is None:
            raise OutdatedError
        try:
            return unpack_reading(reply, wanted[:, 2], codec=self.codec, limit=READ_ROWS)
        except StoreError as error:
            raise damaged(self.keys.pattern(), str(error)) from error

    def rows(
        self, rows: NDArray[np.uint32], *, moment: bytes = b""
    ) -> list[tuple[NDArray[np.uint8], bytes] | None]:
        """The stored vector, (width,) bytes, and the record of each row; None where deleted.

        Args:
            moment: at which they were read from buckets.

        Raises:
            OutdatedError: the partition has lost what was read then.
            CollectionError: it is gone, or was made anew.
        """
        packed = np.asarray(rows, layout.ROW_DTYPE).tobytes()
        if not packed:
            return []
        seen, width = self.history.at(moment), self.codec.width
        reply = scripts.rows(self.store, self.keys.meta, seen, width=width, rows=packed)
        if reply is None:
            self.history.generations()
            raise OutdatedError
        return [
            (np.frombuffer(vector, np.uint8), record) if record else None
            for vector, record in self.files.fetched(reply[::2], reply[1::2])
        ]

    def find(self, digest: bytes) -> Stored | None:
        """What is stored of an image, by `layout.uri_digest`; None if it is not indexed."""
        return self.find_many([digest])[0]

    def find_many(self, digests: Sequence[bytes]) -> list[Stored | None]:
        """As `find`, in one round trip; a server is busy with a thousand for some milliseconds.

        Raises:
            CollectionError: the partition is gone, or was made anew.
        """
        reply = scripts.find(
            self.store,
            self.keys.meta,
            born=self.history.born,
            uri_bits=self.uri_bits,
            width=self.codec.width,
            digests=b"".join(digests),
        )
        if reply is None:
            self.history.generations()
        reply = reply or [b""] * 3 * len(digests)
        return unpack_stored(self.files.fetched(reply[::3], reply[1::3]), reply[2::3])

    def images(self, first: int = 0, end: int | None = None) -> Iterator[Block]:
        """All images with rows from `first` on, before `end` (by default all), in batches."""
        return self.blocks.images(first, self.state().rows if end is None else end)


def require_fitted(partitions: Sequence[Partition]) -> None:
    """Check that there is something to search in.

    Raises:
        CollectionError: nothing has been added to any of these partitions yet.
    """
    if not any(partition.is_fitted() for partition in partitions):
        raise nothing_in(partitions[0].collection)
