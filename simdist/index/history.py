"""What a process knows of a partition's past, by which it notices that Redis lost some of it.

A failover or a restored backup may take back changes that were confirmed, and their row numbers are
given out again: what was read before then belongs to images that are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from simdist.errors import CollectionError, StoreError
from simdist.store import Store, layout, scripts
from simdist.store.damage import count_of
from simdist.store.scripts import Answer, Seen

T = TypeVar("T")


class History:
    """The past of one partition, as far as this process has seen it.

    Attributes:
        seen: what its writes and lookups have seen; searches have a moment of their own.
    """

    def __init__(self, store: Store, collection: str, keys: layout.Keys, *, uri_bits: int) -> None:
        """Nothing is asked of Redis yet."""
        self._store = store
        self._collection = collection
        self._keys = keys
        self._uri_bits = uri_bits
        # The partition's mark, once it is known.
        self._born: bytes | None = None
        self._moment = b""

    @property
    def meta(self) -> str:
        """The key of the partition's state."""
        return self._keys.meta

    @property
    def born(self) -> bytes:
        """By which the partition is told from one that was made in its place."""
        if self._born is None:
            self.generations()
        return self._born or b""

    def recognise(self, born: bytes) -> None:
        """Take a mark for the partition's: one that was made in its place is another."""
        self._born = born

    @property
    def seen(self) -> Seen:
        """What is known by now."""
        return Seen(self.born, self._moment)

    def remember(self, moment: bytes) -> None:
        """Take a moment for seen that another process has, of the same partition."""
        self._moment = moment

    def at(self, moment: bytes) -> Seen:
        """The partition's mark with a moment that somebody else has seen."""
        return Seen(self.born, moment)

    def generations(self) -> tuple[int, int, int]:
        """The generation of the tables, and of those that are being filled, 0 for none; next row.

        Raises:
            CollectionError: the collection is gone, or was made anew.
            StoreError: its state is damaged.
        """
        generation, following, row = self.fields("generation", "next", "rows")
        if generation is None:
            raise self._gone()
        meta = self._keys.meta
        return (
            count_of(generation, meta, "generation", most=layout.MAX_GENERATION),
            count_of(following, meta, "next", most=layout.MAX_GENERATION),
            count_of(row, meta, "rows", most=layout.MAX_ROWS),
        )

    def fields(self, *names: str) -> list[bytes | None]:
        """Fields of the partition's state as they are stored, at this moment; one round trip.

        Raises:
            CollectionError: the collection is gone, or was made anew.
        """
        values: list[bytes | None] = self._store.call("HMGET", self._keys.meta, *names, "born")
        born = values.pop()
        if born is None and all(value is None for value in values):
            raise self._gone()
        self.require(born or b"")
        return values

    def require(self, born: bytes) -> None:
        """Check that a mark that was read is that of the partition.

        Raises:
            CollectionError: it was made anew.
        """
        if self._born is None:
            self._born = born
        if born != self._born:
            # Rows, hash families and records that are known here are those of another.
            raise CollectionError(
                f"the collection {self._collection!r} was lost, and made anew meanwhile: run the "
                "same command again"
            )

    def is_there(self) -> bool:
        """Whether the partition is there still, and is the same; one round trip."""
        stored: bytes | None = self._store.call("HGET", self._keys.meta, "born")
        return stored == self.born

    def note(self, answer: Answer[T] | None) -> T:
        """What a script answers to `seen`, of which the moment is noted.

        Raises:
            StoreError: what was seen is lost. It is said once: then another past begins.
            CollectionError: the collection is gone, or was made anew.
        """
        if answer is None:
            self.generations()
            self._moment = b""
            raise StoreError(
                f"Redis has lost changes of the collection {self._collection!r} that it had "
                "confirmed (by a failover, or a backup that was restored): run the same command "
                "again"
            )
        self._moment = answer.moment
        return answer.value

    def check(self) -> None:
        """Check that all that was seen is part of what Redis has; one round trip.

        Raises:
            StoreError, CollectionError: as `note`.
        """
        self.note(self._known())

    def holds(self) -> bool:
        """As `check`: whether it is."""
        return self._known() is not None

    def now(self, moment: bytes) -> bytes | None:
        """The moment it is; None where what was seen at another is lost, or the collection was
        made anew. An empty one has seen nothing yet.
        """
        meta, bits = self._keys.meta, self._uri_bits
        answer = scripts.known(self._store, meta, self.at(moment), uri_bits=bits, digests=b"")
        return None if answer is None else answer.moment

    def _gone(self) -> CollectionError:
        return CollectionError(f"the collection {self._collection!r} is gone: ingest it again")

    def _known(self) -> Answer[bytes] | None:
        meta, seen = self._keys.meta, self.seen
        return scripts.known(self._store, meta, seen, uri_bits=self._uri_bits, digests=b"")


def recognise_all(store: Store, histories: Sequence[History], born: bytes) -> None:
    """Take the marks that the partitions of a collection have now for theirs; one round trip.

    Args:
        born: that of the first when the collection was looked up.

    Raises:
        CollectionError: it has gone since, or was made anew: of that one nothing is known.
    """
    marks = store.call_many([("HGET", one.meta, "born") for one in histories])
    for history, mark in zip(histories, [born, *marks[1:]], strict=True):
        history.recognise(mark or b"")
    if (marks[0] or b"") != born:
        histories[0].fields("version")
