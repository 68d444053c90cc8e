"""The ingest pipeline: list -> fetch and decode -> embed -> commit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cluster.listing import Count, Listing
from cluster.pipeline import TICK_SECONDS, Pipeline
from cluster.runtime import ray_session
from cluster.shards import Embedded, Failure
from cluster.stages import Plan
from simdist.collection import FIT_SAMPLE, Collection
from simdist.embedding.model import Model
from simdist.errors import SimdistError
from simdist.settings import Settings
from simdist.sources import ImageRef, Source

__all__ = ["Failure", "Progress", "Summary", "ingest"]

NAMED_FAILURES = 20
RATE_SECONDS = 30.0


@dataclass(frozen=True)
class Progress:
    """How far an ingest has come.

    Attributes:
        listed: entries met in the source so far.
        listing_done: whether that is all of them.
        skipped: images that the collection had already.
        done: images embedded.
        failed: images that cannot be indexed.
        seconds: since the start.
        rate: images a second, done or failed, over the last half minute.
    """

    listed: int
    listing_done: bool
    skipped: int
    done: int
    failed: int
    seconds: float
    rate: float

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take; None while that cannot be said."""
        if not self.listing_done or not self.rate:
            return None
        return (self.listed - self.skipped - self.done - self.failed) / self.rate


@dataclass(frozen=True)
class Summary:
    """What an ingest did. `failures` are the first of `failed`."""

    listed: int
    skipped: int
    added: int
    replaced: int
    unchanged: int
    failed: int
    seconds: float
    failures: tuple[Failure, ...]


def ingest(
    source: Source,
    *,
    collection: Collection,
    model: Model,
    on_progress: Callable[[Progress], None],
    settings: Settings | None = None,
) -> Summary:
    """Index the images of a source that a collection does not have yet.

    Ray is joined or started as in `cluster.runtime.ray_session`, once there is something to do.
    What is embedded when an error or Ctrl-C ends it is committed first; running it again goes on
    where it stopped.

    Args:
        source: what `simdist.sources.open_source` opened.
        on_progress: called about twice a second, in this thread.
        settings: where Ray is; by default what the environment says.

    Raises:
        SourceError: the source cannot be read at all.
        ModelError: the weights do not fit the backbone.
        StoreError: the store was lost.
        ClusterError: Ray cannot be had, or lost a part of the work.
    """
    run = _Run(collection, on_progress)
    with Listing(source, collection=collection) as listing:
        while (more := listing.more(seconds=TICK_SECONDS)) is None:
            run.report(listing.count)
        run.report(listing.count)
        if more:
            with ray_session(settings or Settings.resolve()):
                _embed(listing, model, run)
        return run.summary(listing.count)


def _embed(listing: Listing, model: Model, run: _Run) -> None:
    import ray

    plan = Plan.of(ray.cluster_resources())  # type: ignore[no-untyped-call]
    # A BLAS with more threads spins between its calls: a third of a core, taken from the actors.
    with threadpool_limits(limits=1, user_api="blas"), Pipeline(plan, model) as pipeline:
        try:
            for shard in pipeline.embed(listing):
                if shard is not None:
                    run.take(shard)
                run.report(listing.count)
        except BaseException:
            # The first error is the one to report.
            with suppress(SimdistError):
                run.flush()
            raise
        run.flush()


class _Run:
    """The driver's end of the pipeline: commits what arrives, and keeps count."""

    def __init__(self, collection: Collection, on_progress: Callable[[Progress], None]) -> None:
        self._collection = collection
        self._on_progress = on_progress
        self._start = time.monotonic()
        self._held: list[tuple[NDArray[np.float32], tuple[ImageRef, ...]]] = []
        self._failures: list[Failure] = []
        self._done = self._failed = 0
        self._added = self._replaced = self._unchanged = 0
        # When how many were finished; from the first ones on, for what came before is start-up.
        self._marks: deque[tuple[float, int]] = deque()

    def take(self, shard: Embedded) -> None:
        """Commit a shard; before the collection is fitted, hold it back for the sample."""
        self._failed += len(shard.failures)
        self._failures += shard.failures[: NAMED_FAILURES - len(self._failures)]
        if shard.refs:
            self._held.append((shard.vectors, shard.refs))
            self._done += len(shard.refs)
        if self._collection.fitted or sum(len(refs) for _, refs in self._held) >= FIT_SAMPLE:
            self.flush()

    def flush(self) -> None:
        """Commit what is held back."""
        if not self._held:
            return
        vectors = np.concatenate([vectors for vectors, _ in self._held])
        refs = [ref for _, refs in self._held for ref in refs]
        added = self._collection.add(vectors, refs, metadata=[ref.metadata for ref in refs])
        self._held.clear()
        self._added += added.added
        self._replaced += added.replaced
        self._unchanged += added.unchanged

    def report(self, count: Count) -> None:
        """Tell how far it has come."""
        now = time.monotonic()
        finished = self._done + self._failed
        if finished:
            self._marks.append((now, finished))
        while self._marks and now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()
        since, before = self._marks[0] if self._marks else (now, 0)
        self._on_progress(
            Progress(
                listed=count.listed,
                listing_done=count.done,
                skipped=count.skipped,
                done=self._done,
                failed=self._failed,
                seconds=now - self._start,
                rate=(finished - before) / (now - since) if now > since else 0.0,
            )
        )

    def summary(self, count: Count) -> Summary:
        """What it did, all told."""
        return Summary(
            listed=count.listed,
            skipped=count.skipped,
            added=self._added,
            replaced=self._replaced,
            unchanged=self._unchanged,
            failed=self._failed,
            seconds=time.monotonic() - self._start,
            failures=tuple(self._failures),
        )
