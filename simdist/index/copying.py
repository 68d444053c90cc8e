"""A collection once more, in the same store, under another name; as it was at one moment.

The copy lies under a home that no name leads to until it is whole. Each partition is copied into
the one of the same number, row by row; how far that has come lies with the copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from simdist.errors import CollectionError
from simdist.index import catalogue
from simdist.index.batch import Batch
from simdist.index.collection import Collection
from simdist.index.commit import commit_batch
from simdist.index.moments import Passage
from simdist.index.names import (
    Change,
    Names,
    begin,
    changed,
    checked_name,
    ended,
    new_home,
    require_free,
)
from simdist.index.partition import Partition
from simdist.store import Store, layout
from simdist.store.damage import count_of

# The field of the copy's `meta` that says how many rows of the original have been gone through.
COPIED = "copied"
_DIGEST = layout.PREFIX + layout.FIELD

OnProgress = Callable[[str, int, int], None]


def copy(
    store: Store,
    source: str,
    name: str,
    *,
    on_progress: OnProgress = lambda _doing, _done, _total: None,
) -> Collection:
    """Copy a collection, while it is used: vectors, records and hash tables, bit by bit.

    Each partition is copied as it was at one moment. Nobody sees the copy before it is whole. Begun
    again after an error, it goes on where it stopped.

    Args:
        on_progress: called with what is done, how many images are copied, and of how many.

    Raises:
        MissingCollectionError: there is no such collection.
        CollectionError: something else is called so; or the original was dropped meanwhile.
        StoreError: the server cannot be reached or refuses, or has lost what was copied.
    """
    return finish(store, begin_copy(store, source, name), on_progress=on_progress)


@dataclass(frozen=True)
class Begun:
    """A copy that is under way: of `original`, at `home`, to be called `name`."""

    original: Collection
    entry: catalogue.Entry
    home: str
    name: str


def begin_copy(store: Store, source: str, name: str, *, anew: bool = False) -> Begun:
    """Begin a copy, or go on with one of the same collections.

    Args:
        anew: do not go on: somebody else may be at it.

    Raises:
        MissingCollectionError, CollectionError, StoreError: as `copy`.
    """
    checked_name(name)
    of_home, entry = catalogue.find(store, source)
    original = Collection.of(store, source, of_home, entry)
    work = {"doing": "copy", "source": source, "name": name, "of": of_home}
    catalogue.require_room(store, entry)
    home = changed(store, partial(_begin, work | entry.measures(), anew))
    return Begun(original, entry, home, name)


def finish(
    store: Store, begun: Begun, *, on_progress: OnProgress = lambda _doing, _done, _total: None
) -> Collection:
    """Copy what is not copied yet; then the copy has its name.

    Raises:
        CollectionError, StoreError: as `copy`.
    """
    original, home, name = begun.original, begun.home, begun.name
    made = Collection.of(store, name, home, catalogue.begin(store, name, home, begun.entry))
    total, done = original.count(), 0
    for of in original.partitions:
        if of.is_fitted():
            # The first hashing brings along a BLAS of its own.
            of.families.now().family.buckets(np.ones((1, original.dim), np.float32))
    # A BLAS with more threads spins between its calls: with two, writing takes many times as long.
    with threadpool_limits(limits=1, user_api="blas"):
        for of, to in zip(original.partitions, made.partitions, strict=True):
            if of.is_fitted() and not to.is_fitted():
                to.fit(of.families.now().family, images=of.state().fitted)
            for copied in _copy(of, to):
                done += copied
                on_progress("copying", min(done, total), total)
        made.settle()
    for partition in made.partitions:
        store.call("HDEL", partition.keys.meta, COPIED)
    changed(store, lambda names: (_finished(names, home, name), None))
    return Collection.open(store, name)


def _begin(work: Mapping[str, Any], anew: bool, names: Names) -> tuple[Change, str]:
    """The home of the copy: that of the one that was begun, or a new one."""
    name = work["name"]
    require_free(names, name)
    for home in names.copies(name):
        before = names.work()[home]
        if anew:
            raise CollectionError(
                f"{name!r} is being made already, a copy of {before['source']!r}: wait, or drop it "
                "if it has stopped"
            )
        if before["of"] != work["of"]:
            raise CollectionError(
                f"a copy of {before['source']!r} that is to be called {name!r} was begun, and not "
                "finished: finish it, or drop it"
            )
        return {}, home
    home = new_home(name)
    return begin(home, work), home


def _finished(names: Names, home: str, name: str) -> Change:
    require_free(names, name)
    return ended(names, home, name)


def _copy(of: Partition, to: Partition) -> Iterable[int]:
    """Copy a partition; yields how many images at a time."""
    meta = to.keys.meta
    stored = to.store.call("HGET", meta, COPIED) or b"0"
    first = count_of(stored, meta, COPIED, most=layout.MAX_ROWS)
    seen, end = [_before(of, first)], first
    passage = Passage(of, first=first)
    for part in passage.parts():
        digests = layout.uri_digests(map(layout.unpack_uri, part.records))
        batch = Batch(part.packed, np.hstack([digests, part.fingerprints]), part.records)
        # Of a block all of whose images have gone, nothing is left.
        if len(batch):
            commit_batch(to, batch, force=True, new=True)
        to.note("HSET", "meta", COPIED, part.end)
        there = np.zeros((part.end - end, _DIGEST), np.uint8)
        there[part.rows - end] = digests
        seen.append(there)
        end = part.end
        yield len(part.rows)
    alive = passage.moment.alive
    if to.state().live != alive.sum():
        # Those of rows behind the last that was alive are none.
        digests = np.concatenate([*seen, np.zeros((len(alive) - end, _DIGEST), np.uint8)])
        _remove_others(to, digests[alive])


def _before(partition: Partition, rows: int) -> NDArray[np.uint8]:
    """(rows, 14) digests of the images that were copied before, zeros where a row is dead."""
    digests = np.zeros((rows, _DIGEST), np.uint8)
    for numbers, records in partition.blocks.records(0, rows):
        digests[numbers] = layout.uri_digests(record.uri for record in records)
    return digests


def _remove_others(partition: Partition, digests: NDArray[np.uint8]) -> None:
    """Delete all images but those with these digests: they had ended by the moment."""
    kept = {digest.tobytes() for digest in digests}
    others = [
        digest
        for _, records in partition.blocks.records(0, partition.state().rows)
        for digest in (layout.uri_digest(record.uri) for record in records)
        if digest not in kept
    ]
    partition.delete(others)
