"""The last stage of an ingest: what is embedded is held until a commit is due, and counted."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from simdist.index.collection import FIT_SAMPLE, Collection
from simdist.index.images import Added
from simdist.ingest import failures
from simdist.ingest.failures import Failure
from simdist.ingest.progress import Count, Progress, Rate, Summary
from simdist.ingest.sieve import Sieve
from simdist.sources import Access, ImageRef
from simdist.sources.saved import SavedEmbeddings
from simdist.vectors.checks import usable

# Failures that a summary names; all are counted, and kept with the collection.
NAMED_FAILURES = 20
# Embeddings in a commit; fewer after so many seconds, so that searches find what is there. Each
# commit has its round trips, and a shard of a CPU is small.
COMMIT_ROWS = FIT_SAMPLE
COMMIT_SECONDS = 1.0
# Embeddings in a file, where they are saved.
SAVED_ROWS = 4096


class Committer:
    """Commits the embeddings of one source to a collection, keeps its failures, and counts both."""

    def __init__(
        self,
        collection: Collection,
        *,
        source: str,
        access: Access | None = None,
        force: bool = False,
        saved: SavedEmbeddings | None = None,
        sieve: Sieve | None = None,
        start: float | None = None,
    ) -> None:
        """Nothing is held yet.

        Args:
            source: what leads to the images, for the failures that are kept.
            access: how the images' object stores are reached, to try failures again.
            force: replace also images that the collection has with the same fingerprint.
            saved: where the embeddings are written to as well, before they are committed.
            sieve: what treats images that are the same pictures as others.
            start: when the ingest began, by `time.monotonic`; by default now.
        """
        self._collection = collection
        self._source = source
        self._access = access
        self._force = force
        self._saved = saved
        self._sieve = sieve
        self._start = time.monotonic() if start is None else start
        self._flushed = time.monotonic()
        self._held: list[tuple[NDArray[np.float32], Sequence[ImageRef]]] = []
        self._named: list[Failure] = []
        self._done = self._failed = 0
        self._added = Added(0, 0, 0)
        self._rate = Rate()

    def fail(self, failed: Sequence[Failure]) -> None:
        """Keep failures with the collection.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        failures.keep(self._collection, failed, source=self._source, access=self._access)
        self._failed += len(failed)
        self._named += failed[: NAMED_FAILURES - len(self._named)]

    def hold(self, vectors: NDArray[np.float32], refs: Sequence[ImageRef]) -> None:
        """Hold embeddings until the next `flush`; those that no index can take are failures.

        Half precision can overflow, and an image may leave every feature at zero.

        Args:
            vectors: (n, dim) float32, of any values.
            refs: what each of them is the embedding of.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        reason = "its embedding is not finite, or of length zero"
        flaws = [
            ref.flaw() or (None if is_good else reason)
            for ref, is_good in zip(refs, usable(vectors).tolist(), strict=True)
        ]
        if any(flaws):
            self.fail(
                [
                    Failure.of(ref, "embed", flaw)
                    for ref, flaw in zip(refs, flaws, strict=True)
                    if flaw
                ]
            )
            good = np.array([flaw is None for flaw in flaws])
            refs = [ref for ref, is_good in zip(refs, good, strict=True) if is_good]
            vectors = vectors[good]
        if refs:
            self._held.append((vectors, refs))
            self._done += len(refs)

    def is_due(self) -> bool:
        """Whether to commit what is held; a round trip at times.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        # A file for each commit would be many small ones.
        if self._saved:
            return self._rows_held >= SAVED_ROWS
        if self._rows_held >= COMMIT_ROWS:
            return True
        waited = time.monotonic() - self._flushed
        # Before the collection is fitted, they are held back for the sample.
        return self._rows_held > 0 and waited >= COMMIT_SECONDS and self._collection.is_fitted()

    def flush(self) -> None:
        """Commit what is held.

        Raises:
            OutputError: the embeddings cannot be saved.
            StoreError: the server cannot be reached or refuses.
        """
        if not self._held:
            return
        vectors = np.concatenate([vectors for vectors, _ in self._held])
        refs = [ref for _, refs in self._held for ref in refs]
        uris = [ref.uri for ref in refs]
        if self._sieve:
            vectors, refs = self._sieve.treat(vectors, refs)
        if self._saved:
            self._saved.write(refs, vectors)
        # First: if this is the last thing that happens, the images are indexed by the next run.
        failures.forget(self._collection, uris)
        self._added += self._add(vectors, refs)
        self._held.clear()
        self._flushed = time.monotonic()

    def _add(self, vectors: NDArray[np.float32], refs: Sequence[ImageRef]) -> Added:
        return self._collection.add(vectors, refs, force=self._force)

    def progress(self, count: Count) -> Progress:
        """How far the ingest has come, where its listing has come so far; without the stages."""
        return Progress(
            listed=count.listed,
            listing_done=count.done,
            skipped=count.skipped,
            done=self._done,
            failed=self._failed,
            seconds=time.monotonic() - self._start,
            rate=self._rate.at(self._done + self._failed),
        )

    def summary(
        self,
        progress: Progress,
        *,
        pruned: int = 0,
        repeated: int = 0,
        passed_over: Mapping[str, int] | None = None,
    ) -> Summary:
        """What the ingest did, where it came so far, and deleted so many images.

        Args:
            repeated, passed_over: as the summary has them.

        Raises:
            StoreError: Redis has lost some of what it had confirmed meanwhile.
        """
        self._collection.settle()
        self._collection.check_history()
        return Summary(
            listed=progress.listed,
            skipped=progress.skipped,
            added=self._added.added,
            replaced=self._added.replaced,
            unchanged=self._added.unchanged,
            failed=self._failed,
            pruned=pruned,
            repeated=repeated,
            passed_over=dict(passed_over or {}),
            seconds=progress.seconds,
            failures=tuple(self._named),
            duplicates=self._sieve.count if self._sieve else 0,
            left_out=self._sieve.left_out if self._sieve else 0,
            copies=tuple(self._sieve.named) if self._sieve else (),
            stages=progress.stages,
            slowest=progress.slowest,
        )

    @property
    def _rows_held(self) -> int:
        return sum(len(refs) for _, refs in self._held)
