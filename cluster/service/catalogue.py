"""Whole collections that callers list, name, copy and drop."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from cluster.service.worker import QueryWorker
from simdist.errors import CollectionError, LayoutError, MissingCollectionError, SimdistError
from simdist.index import copying, dropping, names
from simdist.index.collection import Collection
from simdist.index.inventory import Unreadable
from simdist.index.names import Names
from simdist.store import Store

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Listed(Generic[T]):
    """What was found of collections, which cannot be read, and what is under way."""

    found: list[T]
    unreadable: list[Unreadable]
    work: list[Work]


@dataclass(frozen=True)
class Work:
    """What is under way with a collection, "copy" or "drop"; `source` is what is copied."""

    doing: str
    name: str
    source: str | None = None


class Catalogue:
    """What callers do with whole collections, as far as they may. To be asked from one loop.

    All names are among those that the service serves, also those that are new. What takes long is
    begun while the caller waits, and then goes on in a thread of its own.
    """

    def __init__(self, worker: QueryWorker) -> None:
        """Nothing is under way."""
        self._worker = worker
        self._opened = worker.opened
        self._store = worker.store
        self._long = ThreadPoolExecutor(2, thread_name_prefix="simdist-long")

    async def described(self, describe: Callable[[Collection, str | None, bool], T]) -> Listed[T]:
        """Each collection that the caller may see, if it is there, and what is under way with them.

        Args:
            describe: a collection, what it is called where its name is an alias, and whether the
                caller may change it.
        """
        seen, changed = self._opened.seen(), self._opened.changed()

        def look() -> Listed[T]:
            found: list[T] = []
            unreadable: list[Unreadable] = []
            names = Names.read(self._store)
            for name in seen:
                leads_to = names.aliases.get(name)
                alias_of = leads_to if leads_to in seen else None
                try:
                    try:
                        one = describe(self._opened.open(name), alias_of, name in changed)
                    except CollectionError:
                        # It was dropped, or made anew, since it was opened.
                        now = Collection.open(self._store, name)
                        one = describe(now, alias_of, name in changed)
                    found.append(one)
                except MissingCollectionError:
                    continue
                except LayoutError as error:
                    unreadable.append(Unreadable(name, str(error)))
            work = [
                Work(one["doing"], one["name"], one.get("source"))
                for one in names.work().values()
                if {one["name"], one.get("source", one["name"])} <= {*seen}
            ]
            return Listed(found, unreadable, work)

        return await self._worker.reading(look)

    async def rename(self, old: str, new: str) -> None:
        """Call a collection something else."""
        await self._change([old, new], lambda: names.rename(self._store, old, new))

    async def alias(self, alias: str, name: str) -> str:
        """Let an alias lead to a collection; returns what that is called."""
        return await self._change([alias, name], lambda: names.set_alias(self._store, alias, name))

    async def remove_alias(self, alias: str) -> None:
        """Remove an alias; the collection stays."""
        await self._change([alias], lambda: names.remove_alias(self._store, alias))

    async def copy(self, source: str, name: str) -> Work:
        """Begin to copy a collection."""
        self._opened.named(source)
        store = self._store
        begin = partial(copying.begin_copy, store, source, name, anew=True)
        begun = await self._change([name], begin)
        self._long.submit(_finish_copy, store, begun)
        return Work("copy", name, source)

    async def drop(self, name: str) -> Work:
        """Drop a collection: nobody finds it from now on; then its keys are removed."""
        homes = await self._change([name], lambda: dropping.begin_drop(self._store, name))
        self._long.submit(_logged, partial(dropping.finish, self._store, homes))
        return Work("drop", name)

    async def _change(self, given: list[str], change: Callable[[], T]) -> T:
        """Make a change that is about collections which the caller may change."""
        for name in given:
            self._opened.named(name, write=True)
        seen = self._opened.seen()

        def run() -> T:
            with _hidden(self._store, seen):
                return change()

        return await self._worker.reading(run)


@contextmanager
def _hidden(store: Store, seen: list[str]) -> Iterator[None]:
    """Let errors name no collection that the caller may not see."""
    try:
        yield
    except CollectionError as error:
        there = Names.read(store)
        others = {*there.collections, *there.aliases} - {*seen}
        others |= {str(one.get("source")) for one in there.work().values()} - {*seen}
        if any(repr(name) in str(error) for name in others):
            raise CollectionError(
                "another name, which is not served here, or not for this token, leads to the same "
                "collection or was begun with it: ask whoever runs the service"
            ) from error
        raise


def _finish_copy(store: Store, begun: copying.Begun) -> None:
    """Copy; what fails leaves nothing, so that it can be begun again."""
    if not _logged(lambda: copying.finish(store, begun)):
        _logged(lambda: dropping.drop(store, begun.name))


def _logged(work: Callable[[], object]) -> bool:
    """Do work that nobody waits for; whether it was done."""
    try:
        work()
    except SimdistError:
        _log.exception("what was begun over HTTP has stopped")
        return False
    return True
