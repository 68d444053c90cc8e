"""Index embeddings that are saved already: read -> commit, in this process alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import numpy as np
from threadpoolctl import threadpool_limits

from cluster.ingest.driver import NAMED_FAILURES
from cluster.ingest.listing import Count
from cluster.ingest.progress import (
    Progress,
    Rate,
    Summary,
    progress_of,
)
from simdist.errors import SourceError
from simdist.index import failures
from simdist.index.collection import Collection
from simdist.index.failures import Failure
from simdist.index.images import Added
from simdist.sources import Access
from simdist.sources.saved import SavedBatch, read_saved
from simdist.store import Store
from simdist.vectors.checks import usable


def ingest_saved(
    place: str,
    *,
    store: Store,
    name: str,
    access: Access,
    on_progress: Callable[[Progress], None],
    expect: int,
    partitions: int,
    force: bool = False,
) -> Summary:
    """Index the embeddings of a place that a collection does not have yet.

    Running it again after an error goes on where it stopped.

    Args:
        place: a file or a folder, see `simdist.sources.saved.read_saved`.
        name: of the collection; it is made, for the model of the first embedding, if there is none.
        on_progress: called after each batch.
        expect, partitions: of a new collection, see `Collection.create`.
        force: replace also what the collection has.

    Raises:
        SourceError: the place cannot be read, or says of no model.
        ModelMismatchError: another model made the collection's embeddings.
        StoreError: the store was lost.
    """
    start, rate = time.monotonic(), Rate()
    added, named, failed, listed, skipped = Added(0, 0, 0), list[Failure](), 0, 0, 0

    def progress(*, done: bool) -> Progress:
        indexed = added.added + added.replaced + added.unchanged
        return progress_of(
            Count(listed, skipped, done=done),
            done=indexed,
            failed=failed,
            seconds=time.monotonic() - start,
            rate=rate.at(indexed + failed),
        )

    # A BLAS with more threads spins between its calls: with two, writing takes twice as long.
    with threadpool_limits(limits=1, user_api="blas"):
        batches = read_saved(place, access)
        for collection, batch in _opened(batches, store, name, expect, partitions):
            sound, bad = _parted(batch)
            failures.keep(collection, bad, source=place)
            known = np.zeros(len(sound.refs), np.bool_) if force else collection.known(sound.refs)
            refs = [ref for ref, is_known in zip(sound.refs, known, strict=True) if not is_known]
            if refs:
                failures.forget(collection, [ref.uri for ref in refs])
                vectors = sound.vectors[~known]
                added += collection.add(vectors, refs, force=force)
            listed += len(batch.refs)
            skipped += int(known.sum())
            failed += len(bad)
            named += bad[: NAMED_FAILURES - len(named)]
            on_progress(progress(done=False))
    last = progress(done=True)
    on_progress(last)
    return Summary(
        *(listed, skipped, added.added, added.replaced, added.unchanged, failed, 0, last.seconds),
        *(tuple(named), {}, None),
    )


def _opened(
    batches: Iterator[SavedBatch], store: Store, name: str, expect: int, partitions: int
) -> Iterator[tuple[Collection, SavedBatch]]:
    """Each batch with the collection that it belongs to, of its model."""
    collection: Collection | None = None
    for batch in batches:
        if not batch.model:
            raise SourceError(
                "these embeddings do not say which model made them: write its name into a column "
                "'model'"
            )
        if collection is None:
            collection = Collection.create(
                store,
                name,
                # An id is the backbone's name and a digest.
                model=batch.model.rpartition("-")[0] or batch.model,
                model_id=batch.model,
                dim=batch.vectors.shape[1],
                expect=expect,
                partitions=partitions,
            )
        collection.require_model(batch.model)
        yield collection, batch


def _parted(batch: SavedBatch) -> tuple[SavedBatch, list[Failure]]:
    """Part with vectors that no hash table can take."""
    sound = usable(batch.vectors)
    if sound.all():
        return batch, []
    bad = [
        Failure.of(batch.refs[i], "embed", "its vector is not finite, or of length zero")
        for i in np.flatnonzero(~sound)
    ]
    refs = tuple(ref for ref, is_sound in zip(batch.refs, sound, strict=True) if is_sound)
    return SavedBatch(batch.model, refs, batch.vectors[sound]), bad
