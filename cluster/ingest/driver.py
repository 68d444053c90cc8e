"""The ingest pipeline: list -> fetch and decode -> embed -> commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from cluster.ingest.listing import Count, Listing
from cluster.ingest.metrics import Exporter
from cluster.ingest.pipeline import TICK_SECONDS, Pipeline
from cluster.ingest.progress import (
    Progress,
    Rate,
    StageClock,
    Summary,
    progress_of,
)
from cluster.ingest.shards import Embedded
from cluster.ingest.stages import Plan
from cluster.runtime import ray_session
from simdist.embedding.model import Model
from simdist.errors import SimdistError, SourceError, UsageError
from simdist.index import failures
from simdist.index.census import Census
from simdist.index.collection import FIT_SAMPLE, Collection
from simdist.index.failures import Failure
from simdist.index.images import Added
from simdist.settings import Settings
from simdist.sources import ImageRef, Source
from simdist.sources.background import in_background
from simdist.sources.saved import SavedEmbeddings

NAMED_FAILURES = 20
# Embeddings in a commit; fewer after so many seconds, so that searches find what is there. Each
# commit has its round trips, and a shard of a CPU is small.
COMMIT_ROWS = FIT_SAMPLE
COMMIT_SECONDS = 1.0
# Embeddings in a file, where they are saved.
SAVED_ROWS = 4096


def ingest(
    source: Source,
    *,
    collection: Collection,
    model: Model,
    on_progress: Callable[[Progress], None],
    settings: Settings | None = None,
    force: bool = False,
    prune: Callable[[int], bool] | None = None,
    saved: SavedEmbeddings | None = None,
    gpus: int | None = None,
    actors: int | None = None,
) -> Summary:
    """Index the images of a source that a collection does not have yet.

    Ray is joined or started as in `cluster.runtime.ray_session`, once there is something to do.
    What is embedded when an error or Ctrl-C ends it is committed first; running it again goes on
    where it stopped. What cannot be indexed is kept with the collection (`simdist.index.failures`).

    Args:
        source: what `simdist.sources.open_source` opened.
        on_progress: called about twice a second, in this thread.
        settings: where Ray is; by default what the environment says.
        force: embed also the images that the collection has, and replace them.
        prune: asked whether to delete so many images that are gone from the source.
        saved: where the embeddings are written to as well, before they are committed.
        gpus, actors: how much of the cluster to use, see `Plan.of`.

    Raises:
        SourceError: the source cannot be read at all; or, with `prune`, not all of it.
        UsageError: `prune`, and the source is not one that images can be gone from.
        ModelError: the weights do not fit the backbone.
        StoreError: the store was lost.
        ClusterError: Ray cannot be had, or lost a part of the work.
    """
    census = _census(source, collection) if prune else None
    run = _Run(collection, source, on_progress, force=force, saved=saved)
    with Listing(source, collection=collection, force=force, census=census) as listing:
        while (more := listing.more(seconds=TICK_SECONDS)) is None:
            run.report(listing)
        run.report(listing)
        if more:
            with ray_session(settings or Settings.resolve()):
                import ray

                resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
                plan = Plan.of(resources, gpus=gpus, actors=actors)
                _embed(listing, collection, model, plan, run)
        summary = run.summary(listing)
        if source.whole:
            failures.forget_older(collection, source=source.name, than=run.started)
        if census and prune:
            summary = replace(
                summary, pruned=_prune(census, source, collection, listing.count, prune)
            )
        return summary


def _embed(listing: Listing, collection: Collection, model: Model, plan: Plan, run: _Run) -> None:
    # A BLAS with more threads spins between its calls: a third of a core, taken from the actors.
    with (
        threadpool_limits(limits=1, user_api="blas"),
        Pipeline(plan, model) as pipeline,
        _warming(collection),
    ):
        run.observe(pipeline, plan)
        try:
            for shard in pipeline.embed(listing):
                if shard is not None:
                    run.take(shard)
                if run.due:
                    run.flush()
                run.report(listing)
        except BaseException:
            # The first error is the one to report.
            with suppress(SimdistError):
                run.flush()
            raise
        run.flush()
        run.report(listing)


@contextmanager
def _warming(collection: Collection) -> Iterator[None]:
    """Have a collection warm by the first commit: meanwhile the actors load their weights."""
    warm = in_background(collection.warm)
    try:
        yield
    finally:
        # The process must not end in the midst of it, where a compiler may be at work.
        warm.exception()


def _census(source: Source, collection: Collection) -> Census:
    if source.below is None or not source.whole:
        raise UsageError(
            "--prune needs all of a folder, of a bucket's prefix or of one archive: no pattern, no "
            "list, no --include, --exclude or --limit"
        )
    return Census(collection)


def _prune(
    census: Census,
    source: Source,
    collection: Collection,
    count: Count,
    agreed: Callable[[int], bool],
) -> int:
    """Delete what is gone from the source, if that is agreed; returns how many that were."""
    if count.failed or not count.listed:
        what = "a part of it cannot be listed" if count.failed else "it holds no image at all"
        raise SourceError(
            f"nothing was pruned under {source.name}, for {what}: all else is done; mend that, "
            "then run the same command again"
        )
    missing = census.missing(source.below or "")
    return collection.delete(missing) if missing and agreed(len(missing)) else 0


class _Run:
    """The driver's end of the pipeline: commits what arrives, and keeps count."""

    def __init__(
        self,
        collection: Collection,
        source: Source,
        on_progress: Callable[[Progress], None],
        *,
        force: bool,
        saved: SavedEmbeddings | None,
    ) -> None:
        self.started = time.time()
        self._collection = collection
        self._source = source
        self._on_progress = on_progress
        self._force = force
        self._saved = saved
        self._start = self._flushed = time.monotonic()
        self._held: list[tuple[NDArray[np.float32], tuple[ImageRef, ...]]] = []
        self._failures: list[Failure] = []
        self._done = self._failed = 0
        self._added = Added(0, 0, 0)
        self._rate = Rate()
        self._pipeline: Pipeline | None = None
        self._clock: StageClock | None = None
        self._exporter: Exporter | None = None

    def observe(self, pipeline: Pipeline, plan: Plan) -> None:
        """From now on tell also how busy the pipeline's stages are."""
        self._pipeline, self._clock = pipeline, StageClock(plan)
        self._exporter = Exporter(self._collection.name)

    def take(self, shard: Embedded) -> None:
        """Note what came of a shard, and hold its embeddings back until a commit is `due`."""
        if self._clock:
            self._clock.add(shard.work)
        source = self._source
        failures.keep(self._collection, shard.failures, source=source.name, access=source.access)
        self._failed += len(shard.failures)
        self._failures += shard.failures[: NAMED_FAILURES - len(self._failures)]
        if shard.refs:
            self._held.append((shard.vectors, shard.refs))
            self._done += len(shard.refs)

    @property
    def due(self) -> bool:
        """Whether to commit what is held back."""
        held = sum(len(refs) for _, refs in self._held)
        # A file for each commit would be many small ones.
        if self._saved:
            return held >= SAVED_ROWS
        if held >= COMMIT_ROWS:
            return True
        waited = time.monotonic() - self._flushed
        # Before the collection is fitted, they are held back for the sample.
        return held > 0 and waited >= COMMIT_SECONDS and self._collection.is_fitted()

    def flush(self) -> None:
        """Commit what is held back."""
        if not self._held:
            return
        start = time.monotonic()
        vectors = np.concatenate([vectors for vectors, _ in self._held])
        refs = [ref for _, refs in self._held for ref in refs]
        if self._saved:
            self._saved.write(refs, vectors)
        # First: if this is the last thing that happens, the images are indexed by the next run.
        failures.forget(self._collection, [ref.uri for ref in refs])
        self._added += self._collection.add(vectors, refs, force=self._force)
        self._held.clear()
        self._flushed = time.monotonic()
        if self._clock:
            self._clock.add_commit(self._flushed - start)

    def report(self, listing: Listing) -> None:
        """Tell how far it has come."""
        progress = self._progress(listing)
        if self._exporter:
            self._exporter.export(progress)
        self._on_progress(progress)

    def summary(self, listing: Listing) -> Summary:
        """What it did, all told."""
        progress = self._progress(listing)
        return Summary(
            listed=progress.listed,
            skipped=progress.skipped,
            added=self._added.added,
            replaced=self._added.replaced,
            unchanged=self._added.unchanged,
            failed=self._failed,
            pruned=0,
            seconds=progress.seconds,
            failures=tuple(self._failures),
            stages=progress.stages,
            slowest=progress.slowest,
        )

    def _progress(self, listing: Listing) -> Progress:
        progress = progress_of(
            listing.count,
            done=self._done,
            failed=self._failed,
            seconds=time.monotonic() - self._start,
            rate=self._rate.at(self._done + self._failed),
        )
        if self._pipeline is None or self._clock is None:
            return progress
        shares = self._clock.shares(listing=listing.busy_seconds)
        return replace(
            progress,
            stages=shares,
            slowest=self._clock.slowest(shares),
            queues=self._pipeline.queues,
        )
