"""Finds the duplicates of whole collections for all workers: one process, while it is needed."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from cluster.service.ray_serve import keep_replica_private
from simdist.errors import BusyError, CollectionError, SimdistError, UsageError
from simdist.index.collection import Collection
from simdist.joining.duplicates import Sought, find_duplicates
from simdist.joining.keeping import Keep
from simdist.joining.review import Counts, Member, Review
from simdist.store import Store, connect

T = TypeVar("T")
_log = logging.getLogger(__name__)

# Questions whose groups are kept, each of up to `review.MAX_IMAGES` images; and that may wait.
_KEPT, _WAITING = 4, 8
_READERS = 4
_NICENESS = 10

_FAILED = "the collection could not be read: try again, or tell the service's operator"

State = Literal["none", "waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class Wanted:
    """Which duplicates, of which collection: as `Duplicates.groups` takes it."""

    collection: str
    sought: Sought = Sought.similar
    threshold: float | None = None


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Attributes:
        doing: what is being done, with `done` of `total`.
        detail: why it failed.
        epochs: of the collection when it was read; `outdated` if it has changed since.
        images: of the collection then.
        groups: that there are, less `left_out` ones (`Review`).
    """

    state: State
    doing: str = ""
    done: int = 0
    total: int = 0
    detail: str = ""
    epochs: tuple[int, ...] = ()
    outdated: bool = False
    images: int = 0
    groups: int = 0
    left_out: int = 0


class _StoppedError(Exception):
    """Nobody wants to know any more."""


@dataclass
class _Run:
    """One computation, and what came of it."""

    wanted: Wanted
    born: tuple[bytes, ...]
    progress: Progress = Progress("waiting")
    review: Review | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def under_way(self) -> bool:
        return self.progress.state in ("waiting", "running")

    def note(self, doing: str, done: int, total: int) -> None:
        """Note how far it is; raises if it is to stop."""
        if self.stop.is_set():
            raise _StoppedError
        self.progress = Progress("running", doing, done, total)


class Finder:
    """Finds duplicates in a thread, one collection after the other, and keeps the groups.

    Its methods answer with the error where something cannot be done: Serve would wrap it. While it
    computes it needs what `simdist duplicates` does, vectors and records of the whole collection;
    what it keeps are the groups only.
    """

    def __init__(self, redis_url: str) -> None:
        """Nothing is looked for yet."""
        self._store = connect(redis_url)
        self._runs: OrderedDict[Wanted, _Run] = OrderedDict()
        self._lock = threading.Lock()
        # Of the thread, where threads have their own: what searches goes before it.
        self._finding = ThreadPoolExecutor(
            1, thread_name_prefix="simdist-find", initializer=os.nice, initargs=(_NICENESS,)
        )
        self._reading = ThreadPoolExecutor(_READERS, thread_name_prefix="simdist-read")

    async def start(self, wanted: Wanted) -> Progress | SimdistError:
        """Begin, unless it is under way, or known and nothing has changed since."""
        return await self._answer(lambda: self._start(wanted))

    async def cancel(self, wanted: Wanted) -> Progress | SimdistError:
        """Stop what is under way."""

        def cancel() -> Progress:
            run = self._run(wanted)
            if run is not None and run.under_way:
                run.stop.set()
                run.progress = Progress("cancelled")
            return Progress("none") if run is None else run.progress

        return await self._answer(cancel)

    async def page(
        self, wanted: Wanted, offset: int, n: int, keep: Keep | None
    ) -> tuple[Progress, list[list[Member]]] | SimdistError:
        """How far it is, and n groups if they are known; the first group is 0."""

        def page() -> tuple[Progress, list[list[Member]]]:
            run = self._run(wanted)
            if run is None or run.review is None:
                return Progress("none") if run is None else run.progress, []
            opened = Collection.open(self._store, wanted.collection)
            groups = run.review.page(opened, offset=offset, n=n, keep=keep)
            return _found(run.review, opened), groups

        return await self._answer(page)

    async def counts(self, wanted: Wanted, keep: Keep | None, offset: int) -> Counts | SimdistError:
        """How far somebody has come, and what a rule would mark."""

        def counts() -> Counts:
            review, opened = self._known(wanted)
            return review.counts(opened, keep=keep, offset=offset)

        return await self._answer(counts)

    async def proposed(
        self, wanted: Wanted, keep: Keep | None, offset: int
    ) -> tuple[list[str], int | None] | SimdistError:
        """As `Review.proposed`."""

        def proposed() -> tuple[list[str], int | None]:
            review, opened = self._known(wanted)
            return review.proposed(opened, keep, offset=offset)

        return await self._answer(proposed)

    async def _answer(self, work: Callable[[], T]) -> T | SimdistError:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reading, work)
        except SimdistError as error:
            return error

    def _start(self, wanted: Wanted) -> Progress:
        opened = Collection.open(self._store, wanted.collection)
        known = self._run(wanted)
        if known is not None:
            if known.review is not None:
                found = _found(known.review, opened)
                if not found.outdated:
                    return found
            if known.under_way:
                return known.progress
        with self._lock:
            if sum(run.under_way for run in self._runs.values()) >= _WAITING:
                raise BusyError("duplicates are being looked for in other collections; try again")
            run = _Run(wanted, _born(opened))
            self._runs[wanted] = run
            done = [key for key, one in self._runs.items() if not one.under_way]
            for key in done[:-_KEPT]:
                del self._runs[key]
        self._finding.submit(_find, run, self._store)
        return run.progress

    def _run(self, wanted: Wanted) -> _Run | None:
        """What is known of a question, if its collection is still the same one."""
        with self._lock:
            run = self._runs.get(wanted)
            if run is not None:
                self._runs.move_to_end(wanted)
        if run is None or run.born != _born(Collection.open(self._store, wanted.collection)):
            return None
        return run

    def _known(self, wanted: Wanted) -> tuple[Review, Collection]:
        run = self._run(wanted)
        if run is None or run.review is None:
            raise CollectionError("these duplicates are not found yet: begin with a POST")
        return run.review, Collection.open(self._store, wanted.collection)


class FinderReplica(Finder):
    """The finder as a replica of Serve."""

    def __init__(self, redis_url: str) -> None:
        keep_replica_private()
        super().__init__(redis_url)


def _find(run: _Run, store: Store) -> None:
    """Find what is wanted; nobody waits for it, so all that goes wrong is noted."""
    try:
        run.note("reading", 0, 0)
        opened = Collection.open(store, run.wanted.collection)
        found = find_duplicates(opened, on_progress=run.note)
        groups = found.groups(run.wanted.sought, threshold=run.wanted.threshold)
        review = Review(found, groups)
        run.note("grouping", 1, 1)
        run.review, run.progress = review, _found(review, opened)
    except _StoppedError:
        run.progress = Progress("cancelled")
    except Exception as error:
        _log.exception("looking for duplicates has stopped")
        # Other errors may name hosts and files.
        known = isinstance(error, (CollectionError, UsageError))
        run.progress = Progress("failed", detail=str(error) if known else _FAILED)


def _found(review: Review, opened: Collection) -> Progress:
    epochs = tuple(partition.state().epoch for partition in opened.partitions)
    return Progress(
        "done",
        epochs=review.epochs,
        outdated=epochs != review.epochs,
        images=review.images,
        groups=review.total,
        left_out=review.left_out,
    )


def _born(opened: Collection) -> tuple[bytes, ...]:
    return tuple(partition.history.born for partition in opened.partitions)
