"""The hash families of a partition, by the generations of its tables."""

from __future__ import annotations

from dataclasses import dataclass

from simdist.errors import CollectionError, Remedy, StoreError
from simdist.hashing import HashFamily, load_family
from simdist.index.history import History
from simdist.store import Store, layout


@dataclass(frozen=True)
class Hashing:
    """The hash family in use, and the one that is to follow it, while its tables are filled.

    Attributes:
        following_generation: of the latter; 0 for none.
        row: the number of the next row when it was looked up.
    """

    generation: int
    family: HashFamily
    following_generation: int
    following: HashFamily | None
    row: int


class Families:
    """Each is read once and kept: that of a generation never changes."""

    def __init__(
        self, store: Store, collection: str, keys: layout.Keys, history: History, *, dim: int
    ) -> None:
        """None is known yet.

        Args:
            dim: of the vectors.
        """
        self._store = store
        self._collection = collection
        self._keys = keys
        self._history = history
        self._dim = dim
        self._known: dict[int, HashFamily] = {}

    def __len__(self) -> int:
        """How many are known."""
        return len(self._known)

    def forget(self) -> None:
        """Take for granted no more that there are hash tables."""
        self._known.clear()

    def now(self) -> Hashing:
        """The hash families in use now.

        Raises:
            CollectionError: nothing has been added yet.
        """
        generation, following, row = self._history.generations()
        try:
            return self._hashing(generation, following, row)
        except StoreError:
            # The tables may have been replaced between the two calls.
            if self._history.generations()[0] == generation:
                raise
            return self.now()

    def of(self, generation: int) -> HashFamily:
        """The hash family of a generation."""
        family = self._known.get(generation)
        if family is None:
            data = self._store.call("GET", self._keys.family(generation))
            if data is None:
                # It goes with the collection.
                self._history.generations()
                raise StoreError(f"the collection {self._collection!r} has lost its hash family")
            family = self._known[generation] = self.loaded(generation, data)
        return family

    def loaded(self, generation: int, data: bytes) -> HashFamily:
        """The hash family that was stored as these bytes.

        Raises:
            StoreError: they are damaged.
        """
        try:
            return load_family(data, dim=self._dim)
        except StoreError as error:
            raise StoreError(f"{self._keys.family(generation)}: {error}") from error

    def _hashing(self, generation: int, following: int, row: int) -> Hashing:
        if generation == 0:
            self.forget()
            self._history.check()
            raise nothing_in(self._collection)
        return Hashing(
            generation,
            self.of(generation),
            following,
            self.of(following) if following else None,
            row,
        )


def nothing_in(collection: str) -> CollectionError:
    """What is said of a collection without images where there should be some."""
    return CollectionError(
        f"the collection {collection!r} is empty: add images to it first",
        remedy=Remedy.INGEST,
        about=collection,
    )
