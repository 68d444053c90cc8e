"""The ingest pipeline on Ray: list -> fetch and decode -> embed -> commit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from dataclasses import replace

from threadpoolctl import threadpool_limits

from cluster.ingest.metrics import Exporter
from cluster.ingest.pipeline import TICK_SECONDS, Pipeline
from cluster.ingest.stages import Placement
from cluster.runtime import ray_session
from simdist.embedding.model import Model
from simdist.errors import Remedy, SimdistError, SourceError, UsageError
from simdist.index.collection import Collection
from simdist.ingest import failures
from simdist.ingest.census import Census
from simdist.ingest.committer import Committer
from simdist.ingest.duplicates import OnDuplicate
from simdist.ingest.listing import Listing
from simdist.ingest.progress import Count, Progress, StageClock, Summary
from simdist.ingest.shards import Embedded
from simdist.ingest.sieve import Sieve
from simdist.search.compiling import compile_search
from simdist.settings import Settings
from simdist.sources import Source
from simdist.sources.background import in_background
from simdist.sources.saved import SavedEmbeddings


def ingest_images(
    source: Source,
    *,
    collection: Collection,
    model: Model,
    on_progress: Callable[[Progress], None],
    settings: Settings | None = None,
    force: bool = False,
    prune: Callable[[int], bool] | None = None,
    saved: SavedEmbeddings | None = None,
    gps: bool = False,
    on_duplicate: OnDuplicate | None = None,
    gpus: int | None = None,
    actors: int | None = None,
) -> Summary:
    """Index the images of a source that a collection does not have yet.

    Ray is joined or started as in `cluster.runtime.ray_session`, once there is something to do.
    What is embedded when an error or Ctrl-C ends it is committed first; running it again goes on
    where it stopped. What cannot be indexed is kept with the collection, as failures.

    Args:
        source: what `simdist.sources.open_source` opened.
        on_progress: called about twice a second, in this thread.
        settings: where Ray is; by default what the environment says.
        force: embed also the images that the collection has, and replace them.
        prune: asked whether to delete so many images that are gone from the source, or left out.
        saved: where the embeddings are written to as well, before they are committed.
        gps: keep also where photographs were taken, if they say so.
        on_duplicate: what to do about images that are the same pictures as others.
        gpus, actors: how much of the cluster to use, see `Placement.of`.

    Raises:
        SourceError: the source cannot be read at all; or, with `prune`, not all of it.
        UsageError: `prune`, and the source is not one that images can be gone from.
        ModelError: the weights do not fit the backbone.
        StoreError: the store was lost.
        ClusterError: Ray cannot be had, or lost a part of the work.
    """
    started = time.time()
    census = _census(source, collection) if prune else None
    committer = Committer(
        collection,
        source=source.name,
        access=source.access,
        force=force,
        saved=saved,
        sieve=Sieve(collection, on_duplicate) if on_duplicate else None,
    )
    with Listing(source, collection=collection, force=force, census=census, gps=gps) as listing:
        progress = run_pipeline(
            listing,
            committer,
            collection,
            model,
            on_progress=on_progress,
            settings=settings,
            gpus=gpus,
            actors=actors,
        )
        pruned = 0
        if source.whole:
            failures.forget_older(collection, source=source.name, than=started)
        if census and prune:
            pruned = _prune(census, source, collection, listing.count, prune)
        return committer.summary(
            progress,
            pruned=pruned,
            repeated=listing.count.repeated,
            passed_over=source.passed.counts,
        )


def run_pipeline(
    listing: Listing,
    committer: Committer,
    collection: Collection,
    model: Model,
    *,
    on_progress: Callable[[Progress], None],
    settings: Settings | None = None,
    gpus: int | None = None,
    actors: int | None = None,
) -> Progress:
    """Embed and commit what a listing finds, and keep what fails; returns how far that came.

    Raises:
        SimdistError: as `ingest_images`.
    """
    run = _Run(listing, committer, on_progress)
    while (more := listing.more(seconds=TICK_SECONDS)) is None:
        run.report()
    run.report()
    if more:
        # Meanwhile, or the first search with a new installation would wait for it.
        compiled = in_background(compile_search, collection.partitions[0].codec)
        with ray_session(settings or Settings.resolve()):
            _embed(run, collection, model, gpus=gpus, actors=actors)
        wait([compiled])
    return run.progress()


class _Run:
    """The driver's end of the pipeline: what arrives is committed, and reported."""

    def __init__(
        self, listing: Listing, committer: Committer, on_progress: Callable[[Progress], None]
    ) -> None:
        self._listing = listing
        self._committer = committer
        self._on_progress = on_progress
        self._pipeline: Pipeline | None = None
        self._clock: StageClock | None = None
        self._exporter: Exporter | None = None

    def embed(self, pipeline: Pipeline, placement: Placement, exporter: Exporter) -> None:
        """Commit what a pipeline embeds, all of it; also what there is when an error ends it."""
        self._pipeline, self._exporter = pipeline, exporter
        self._clock = StageClock(
            embedders=placement.actors,
            decoders=None if placement.actors_decode else placement.decoders,
        )
        try:
            for shard in pipeline.embed(self._listing):
                if shard is not None:
                    self._take(shard, self._clock)
                if self._committer.is_due():
                    self._flush(self._clock)
                self.report()
        except BaseException:
            # The first error is the one to report.
            with suppress(SimdistError):
                self._flush(self._clock)
            raise
        self._flush(self._clock)
        self.report()

    def report(self) -> None:
        """Tell how far it has come."""
        progress = self.progress()
        if self._exporter:
            self._exporter.export(progress)
        self._on_progress(progress)

    def progress(self) -> Progress:
        """How far it has come; from `embed` on also how busy the stages are."""
        progress = self._committer.progress(self._listing.count)
        if self._pipeline is None or self._clock is None:
            return progress
        shares = self._clock.shares(listing=self._listing.busy_seconds)
        return replace(
            progress,
            stages=shares,
            slowest=self._clock.slowest(shares),
            queues=self._pipeline.queues,
            waits_for=self._pipeline.waits_for,
        )

    def _take(self, shard: Embedded, clock: StageClock) -> None:
        clock.add(shard.work)
        self._committer.fail(shard.failures)
        refs, vectors = shard.refs, shard.vectors
        good = [i for i, ref in enumerate(refs) if not self._listing.is_superseded(ref)]
        if len(good) < len(refs):  # it was on its way when the source named it again
            refs, vectors = tuple(refs[i] for i in good), vectors[good]
        self._committer.hold(vectors, refs)

    def _flush(self, clock: StageClock) -> None:
        start = time.monotonic()
        self._committer.flush()
        clock.add_commit(time.monotonic() - start)


def _embed(
    run: _Run, collection: Collection, model: Model, *, gpus: int | None, actors: int | None
) -> None:
    import ray

    resources = ray.cluster_resources()  # type: ignore[no-untyped-call]
    placement = Placement.of(resources, gpus=gpus, actors=actors)
    # A BLAS with more threads spins between its calls: a third of a core, taken from the actors.
    with (
        threadpool_limits(limits=1, user_api="blas"),
        Pipeline(placement, model) as pipeline,
        _warming(collection),
    ):
        run.embed(pipeline, placement, Exporter(collection.name))


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
            "pruning needs a whole folder, a whole prefix of a bucket or one whole archive, not a "
            "list, a pattern, or a part that is included or limited",
            remedy=Remedy.WHOLE_SOURCE,
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
        what = "a part of it cannot be listed" if count.failed else "it holds no images"
        raise SourceError(
            f"nothing was pruned under {source.name}, because {what}; everything else is done: "
            "fix that, then run the same command again"
        )
    missing = census.missing(source.below or "")
    return collection.delete(missing) if missing and agreed(len(missing)) else 0
