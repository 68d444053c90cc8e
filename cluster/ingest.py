"""The ingest pipeline: list -> fetch and decode -> embed -> commit."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cluster.pipeline import Pipeline
from cluster.shards import Failure, Shard
from simdist.collection import FIT_SAMPLE, Collection
from simdist.embedding.model import Model
from simdist.errors import SimdistError
from simdist.sources import ImageRef, list_folder, uri_path

if TYPE_CHECKING:
    from cluster.stages import Count

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
    source: str,
    *,
    collection: Collection,
    model: Model,
    on_progress: Callable[[Progress], None],
) -> Summary:
    """Index the images of a source that a collection does not have yet.

    Needs a `cluster.runtime.ray_session`. What is embedded when an error or Ctrl-C ends it is
    committed first; running it again goes on where it stopped.

    Args:
        source: a folder (or one image), as a path or a file:// URI.
        on_progress: called about twice a second, in this thread.

    Raises:
        SourceError: the source cannot be read at all.
        ModelError: the weights do not fit the backbone.
        StoreError: the store was lost.
        ClusterError: Ray lost a part of the work.
    """
    folder = uri_path(source) if source.startswith("file:") else Path(source).expanduser()
    list_folder(folder)  # says at once what is wrong with the source
    run = _Run(collection, on_progress)
    pipeline = Pipeline(folder, collection=collection, model=model)
    try:
        for shard in pipeline.shards():
            if shard is not None:
                run.take(shard)
            run.report(pipeline.count())
    except BaseException:
        # The first error is the one to report.
        with suppress(SimdistError):
            run.flush()
        raise
    run.flush()
    return run.summary(pipeline.count())


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
        self._marks = deque([(self._start, 0)])

    def take(self, shard: Shard) -> None:
        """Commit a shard; before the collection is fitted, hold it back for the sample."""
        from cluster.stages import embeddings

        self._failed += len(shard.failures)
        self._failures += shard.failures[: NAMED_FAILURES - len(self._failures)]
        if shard.refs:
            self._held.append((embeddings(shard, self._collection.dim), shard.refs))
            self._done += len(shard.refs)
        if self._collection.fitted or sum(len(refs) for _, refs in self._held) >= FIT_SAMPLE:
            self.flush()

    def flush(self) -> None:
        """Commit what is held back."""
        if not self._held:
            return
        vectors = np.concatenate([vectors for vectors, _ in self._held])
        refs = [ref for _, refs in self._held for ref in refs]
        added = self._collection.add(vectors, refs)
        self._held.clear()
        self._added += added.added
        self._replaced += added.replaced
        self._unchanged += added.unchanged

    def report(self, count: Count) -> None:
        """Tell how far it has come."""
        now = time.monotonic()
        finished = self._done + self._failed
        self._marks.append((now, finished))
        while now - self._marks[0][0] > RATE_SECONDS:
            self._marks.popleft()
        since, before = self._marks[0]
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
