"""A collection by its name, wherever that leads by now."""

from __future__ import annotations

import time

from simdist.index.catalogue import missing_now
from simdist.index.collection import Collection
from simdist.index.names import home_of


class Following:
    """Follows the name that a collection was opened by, which may be an alias.

    Whoever asks gets a whole collection, the same until its name leads elsewhere: no search and no
    write is half in one and half in another.
    """

    def __init__(self, collection: Collection, *, max_staleness: float, anew: bool = False) -> None:
        """The name leads to this collection as yet.

        Args:
            max_staleness: seconds that are trusted; one round trip finds out anew.
            anew: take also one that was made anew in the same place, which takes another; without
                it, whoever uses the old one is told.
        """
        self._anew = anew
        self._collection = collection
        self._max_staleness = max_staleness
        self._checked_at = time.monotonic()

    @property
    def last(self) -> Collection:
        """What the name led to when that was last found out."""
        return self._collection

    def now(self) -> Collection:
        """What the name leads to.

        Which model made its embeddings may have changed, too.

        Raises:
            MissingCollectionError: nothing.
        """
        now, old = time.monotonic(), self._collection
        if now - self._checked_at < self._max_staleness:
            return old
        home = home_of(old.store, old.name)
        if home is None:
            raise missing_now(old.store, old.name)
        if home != old.home_name or (self._anew and not old.partitions[0].history.is_there()):
            self._collection = Collection.open(old.store, old.name)
        self._checked_at = now
        return self._collection
