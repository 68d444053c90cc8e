"""Index embeddings that are saved already: read -> commit, in this process alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
from threadpoolctl import threadpool_limits

from simdist.errors import SourceError
from simdist.index.collection import Collection
from simdist.ingest.committer import Committer
from simdist.ingest.failures import Failure
from simdist.ingest.progress import Count, Progress, Summary
from simdist.sources import Access
from simdist.sources.saved import SavedBatch, read_saved
from simdist.store import Store


def ingest_saved(
    location: str,
    *,
    store: Store,
    name: str,
    access: Access,
    on_progress: Callable[[Progress], None],
    expect: int,
    partitions: int,
    force: bool = False,
) -> Summary:
    """Index the saved embeddings that a collection does not have yet.

    Running it again after an error goes on where it stopped.

    Args:
        location: a file or a folder, see `simdist.sources.saved.read_saved`.
        name: of the collection; it is made, for the model of the first embedding, if there is none.
        on_progress: called after each batch.
        expect, partitions: of a new collection, see `Collection.create`.
        force: replace also what the collection has.

    Raises:
        SourceError: the location cannot be read, says of no model, or begins with rows that all
            hold nothing; a single such row is a failure.
        ModelMismatchError: another model made the collection's embeddings.
        StoreError: the store was lost.
    """
    start, count = time.monotonic(), Count()
    batches = _of_a_model(read_saved(location, access))
    first = next(batches, None)
    if first is None:
        on_progress(Progress(listing_done=True))
        return Summary()
    if not first.refs:
        raise SourceError(f"none of its first rows can be indexed: {first.failures[0].reason}")
    collection = _collection(store, name, first, expect, partitions)
    committer = Committer(collection, source=location, force=force, start=start)
    # A BLAS with more threads spins between its calls: with two, writing takes twice as long.
    with threadpool_limits(limits=1, user_api="blas"):
        for batch in chain([first], batches):
            committer.fail([Failure.of(f.uri, "list", f.reason) for f in batch.failures])
            count = replace(count, listed=count.listed + len(batch.failures))
            if not batch.refs:
                continue
            collection.require_model(batch.model)
            known = np.zeros(len(batch.refs), np.bool_)
            if not force:
                known = collection.known(batch.refs)
            committer.hold(batch.vectors[~known], [batch.refs[i] for i in np.flatnonzero(~known)])
            committer.flush()
            count = Count(count.listed + len(batch.refs), count.skipped + int(known.sum()))
            on_progress(committer.progress(count))
    last = committer.progress(Count(count.listed, count.skipped, done=True))
    on_progress(last)
    return committer.summary(last)


def _of_a_model(batches: Iterator[SavedBatch]) -> Iterator[SavedBatch]:
    """The same, as long as they say which model made them."""
    for batch in batches:
        if batch.refs and not batch.model:
            raise SourceError(
                "these embeddings do not say which model made them: write its name into a column "
                "'model'"
            )
        yield batch


def _collection(
    store: Store, name: str, batch: SavedBatch, expect: int, partitions: int
) -> Collection:
    """The collection, made for a batch's model if there is none."""
    return Collection.create(
        store,
        name,
        # An id is the backbone's name and a digest.
        model=batch.model.rpartition("-")[0] or batch.model,
        model_id=batch.model,
        dim=batch.vectors.shape[1],
        expect=expect,
        partitions=partitions,
    )
