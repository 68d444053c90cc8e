"""The collections that a worker of the service has opened, each with a searcher."""

from __future__ import annotations

import numpy as np

from cluster.service.config import ServiceConfig
from cluster.service.rights import RIGHTS
from simdist.errors import CollectionError
from simdist.index.collection import Collection
from simdist.index.following import Following
from simdist.search.searcher import Searcher
from simdist.store import Store


class Opened:
    """A searcher for each collection that is served, of all its partitions or of a part of them.

    One that is not there yet is opened when it is asked for: Serve gives an application up whose
    workers do not start, and its first ingest may need this very cluster.
    """

    def __init__(self, config: ServiceConfig, store: Store, *, part: int | None = None) -> None:
        """Nothing is opened yet.

        Args:
            part: of the `config.parts`, which is searched; by default all.
        """
        self._config = config
        self._store = store
        self._part = part
        self._searchers: dict[str, Searcher] = {}
        self._following: dict[str, Following] = {}

    def warm_up(self) -> None:
        """Open the collections, search once in each that has images, read what filters ask for."""
        for collection in self._config.collections:
            try:
                searcher = self.searcher(collection)
            except CollectionError:
                continue
            if searcher.collection.is_fitted():
                searcher.search(np.ones(searcher.collection.dim, np.float32), n=1)
                searcher.prepare()

    def named(self, name: str | None, *, write: bool = False) -> str:
        """The collection of a name, for whoever's request is answered in this context.

        Raises:
            UnknownCollectionError, ForbiddenError: see `Rights.named`.
        """
        return RIGHTS.get().named(name, self._config.collections, write=write)

    def seen(self) -> list[str]:
        """The collections that whoever's request is answered in this context may see."""
        return RIGHTS.get().seen(self._config.collections)

    def changed(self) -> list[str]:
        """Those of them that it may change."""
        return RIGHTS.get().changed(self._config.collections)

    def collection(self, name: str | None) -> Collection:
        """A collection that is served, as it was last seen; by default the first.

        Raises:
            UnknownCollectionError: that one is not.
        """
        return self._follower(self.named(name)).last

    def open(self, name: str) -> Collection:
        """A collection that is served, wherever its name leads by now; a round trip at times.

        In any thread: whether the caller may see it was found out before (`named`).
        """
        try:
            return self._follower(name).now()
        except CollectionError:
            self._following.pop(name, None)
            raise

    def searcher(self, name: str | None) -> Searcher:
        """The searcher of a collection.

        Raises:
            UnknownCollectionError: as `collection`.
        """
        config, name = self._config, self.named(name)
        if name not in self._searchers:
            self._searchers[name] = Searcher(
                Collection.open(self._store, name),
                partitions=None if self._part is None else self._partitions,
                cache_memory=config.cache_memory // len(config.collections),
                max_staleness=config.max_staleness,
            )
        return self._searchers[name]

    def forget(self, collection: Collection) -> None:
        """Open a collection anew for the next request: perhaps it was dropped and made again."""
        self._searchers.pop(collection.name, None)
        self._following.pop(collection.name, None)

    def _follower(self, name: str) -> Following:
        following = self._following.get(name)
        if following is None:
            opened = Collection.open(self._store, name)
            following = Following(opened, max_staleness=self._config.max_staleness, anew=True)
            self._following[name] = following
        return following

    def _partitions(self, count: int) -> range:
        """Those that are searched here: neighbours, so that equal scores keep their order."""
        part, parts = self._part or 0, self._config.parts
        return range(part * count // parts, (part + 1) * count // parts)
