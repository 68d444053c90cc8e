"""The first stage: which images of a source does a collection not have yet?"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from simdist.index.collection import Collection
from simdist.index.images import Version
from simdist.ingest.census import Census
from simdist.ingest.failures import Failure
from simdist.ingest.progress import Count
from simdist.ingest.repeats import Repeats
from simdist.ingest.shards import Shard
from simdist.sources import ImageRef, ListingFailure, Source

# Images in one question to the store ("which of these do you have?").
PAGE = 1000
FIRST_PAGE = 100
# Images that the listing may be ahead of the pipeline: some 50 MB of references.
AHEAD = 200_000
_POLL_SECONDS = 0.2
_END_SECONDS = 2.0


@dataclass(frozen=True)
class _Page:
    """Some images that the collection does not have, and what cannot be listed."""

    refs: tuple[ImageRef, ...] = ()
    failures: tuple[Failure, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.refs or self.failures)


class Listing:
    """Lists a source in a thread of its own, ahead of the pipeline.

    The listing stays in this process: it costs little, and only here are the source and the
    store sure to be within reach.
    """

    def __init__(
        self,
        source: Source,
        *,
        collection: Collection,
        force: bool = False,
        census: Census | None = None,
        gps: bool = False,
    ) -> None:
        """Start listing.

        Args:
            force: take also the images that the collection has.
            census: is told of all that is listed.
            gps: as `Shard` has it.
        """
        self._access = source.access
        self._collection = collection
        self._force = force
        self._census = census
        # Below a folder or a prefix each image is listed once.
        once = source.below is not None and source.below.endswith("/")
        self._repeats = None if once else Repeats()
        self._gps = gps
        self._count = Count()
        self._error: Exception | None = None
        self._start, self._finished, self._waited = time.monotonic(), 0.0, 0.0
        self._stopped = Event()
        # After the last one comes an empty one.
        self._pages: Queue[_Page] = Queue(AHEAD // PAGE)
        self._head = _Page()
        self._ended = False
        self._thread = Thread(
            target=self._run, args=(source.entries,), name="simdist-listing", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> Listing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        # No longer: it may wait for a store that does not answer.
        self._thread.join(_END_SECONDS)

    @property
    def busy_seconds(self) -> float:
        """How long it has been at work, and did not wait for the pipeline."""
        return (self._finished or time.monotonic()) - self._start - self._waited

    @property
    def count(self) -> Count:
        """How far it has come."""
        return self._count

    def is_superseded(self, ref: ImageRef) -> bool:
        """Whether an image that was taken has been named once more, with other content."""
        return self._repeats is not None and self._repeats.is_superseded(ref)

    def more(self, *, seconds: float = 0.0) -> bool | None:
        """Whether there is more to take; None if that is not known yet, nor within so many seconds.

        Raises:
            SimdistError: the listing met an error that ends it.
        """
        if not self._head and not self._ended:
            try:
                self._head = self._pages.get(block=seconds > 0, timeout=seconds)
            except Empty:
                return None
            self._ended = not self._head
        if self._ended and self._error is not None:
            raise self._error
        return not self._ended

    def take(self, limit: int) -> Shard | None:
        """A shard of the images that come next, `limit` at the most; None if there are none now.

        Raises:
            SimdistError: the listing met an error that ends it.
        """
        if not self.more():
            return None
        page = self._head
        self._head = _Page(page.refs[limit:])
        return Shard(page.refs[:limit], page.failures, self._access, gps=self._gps)

    def _run(self, entries: Iterator[ImageRef | ListingFailure]) -> None:
        try:
            # The first page is short, so that work starts at once.
            size = FIRST_PAGE
            while (listed := list(islice(entries, size))) and not self._stopped.is_set():
                self._sift(listed)
                size = PAGE
                if self._repeats is not None and self._repeats.is_full:
                    self._send_rest(self._repeats)
            if self._repeats is not None and not self._stopped.is_set():
                self._send_rest(self._repeats)
            self._count = replace(self._count, done=True)
        # Raised where the images are taken.
        except Exception as error:
            self._error = error
        self._finished = time.monotonic()
        self._put(_Page())

    def _sift(self, listed: list[ImageRef | ListingFailure]) -> None:
        refs = [entry for entry in listed if isinstance(entry, ImageRef)]
        if self._census:
            self._census.note([ref.uri for ref in refs])
        missing, waited = refs, 0
        if self._repeats is not None:
            waited = -len(self._repeats)
            missing = self._repeats.sift(refs, self._versions(refs))
            waited += len(self._repeats)
        elif refs and not self._force:
            known = self._collection.known(refs)
            missing = [ref for ref, is_known in zip(refs, known, strict=True) if not is_known]
        failures = tuple(
            Failure.of(entry.uri, "list", entry.reason)
            for entry in listed
            if isinstance(entry, ListingFailure)
        )
        self._tell(len(listed), len(refs) - len(missing) - waited, len(failures))
        if missing or failures:
            self._put(_Page(tuple(missing), failures))

    def _send_rest(self, repeats: Repeats) -> None:
        """Send what has waited, but for what was indexed meanwhile."""
        held = repeats.rest()
        for start in range(0, len(held), PAGE):
            page = held[start : start + PAGE]
            versions = self._versions(page)
            new = [ref for ref, i in zip(page, versions, strict=True) if i != Version.SAME]
            self._tell(0, len(page) - len(new), 0)
            if new:
                self._put(_Page(tuple(new)))

    def _versions(self, refs: Sequence[ImageRef]) -> NDArray[np.uint8]:
        """What the collection has of images; nothing, where all are to be embedded."""
        if self._force or not refs:
            return np.full(len(refs), Version.NONE, np.uint8)
        return self._collection.versions(refs)

    def _tell(self, listed: int, skipped: int, failed: int) -> None:
        count = self._count
        self._count = Count(
            count.listed + listed,
            count.skipped + skipped,
            count.failed + failed,
            0 if self._repeats is None else self._repeats.count,
        )

    def _put(self, page: _Page) -> None:
        start = time.monotonic()
        while not self._stopped.is_set():
            try:
                self._pages.put(page, timeout=_POLL_SECONDS)
                break
            except Full:
                continue
        if not self._finished:
            self._waited += time.monotonic() - start
