"""New hash tables from the stored vectors, beside the old ones, while everything goes on.

The new family is fitted on a sample of the stored vectors. From the start on, commits write to
the old tables and the new; meanwhile the rows that were there before are filled in, in batches
that are each atomic. Then one write switches all readers over, and the old tables are dropped.
Whoever dies in between, the next process goes on where the filling stopped.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simdist.errors import UsageError
from simdist.hashing import (
    HashFamily,
    KMeansFamily,
    dump_family,
    fit_family,
    sample_size,
)
from simdist.hashing.kmeans import VECTORS_A_CENTROID, centroids_for
from simdist.index.partition import Partition
from simdist.index.state import State
from simdist.store import layout, table_scripts
from simdist.vectors.checks import normalised

# Tables are rebuilt when a collection has so many times the images that they were fitted for.
GROWTH = 4
# They are filled anew when more of what they hold is dead than alive, and more than so many rows.
DEAD_ROWS = 4096
# Rows that one call of the script puts into one table: a stall of a few milliseconds.
FILL_BATCH = 64 * layout.BLOCK
# A process that rebuilds says so for as long; the next may then take over.
LEASE_SECONDS = 60
_POLL_SECONDS = 0.5
# Buckets a table has for each image, at the most: to drop tables, all of them are gone through.
_BUCKETS_AN_IMAGE = 16


@dataclass(frozen=True)
class Wish:
    """What tables are to be like. `size`: centroids of kmeans, bits of others; None: as suits."""

    kind: str
    size: int | None
    tables: int | None

    def __str__(self) -> str:
        tables = f"{self.tables} x " if self.tables else ""
        return f"{tables}{self.kind}" + (f" of size {self.size:,}" if self.size else "")

    def is_met_by(self, family: HashFamily) -> bool:
        """Whether a family is of this kind, size and number of tables, as far as they are named."""
        if self.kind == KMeansFamily.kind:
            # It has fewer centroids than were asked for where fewer vectors differ.
            fits = self.size is None or family.size <= self.size
        else:
            fits = self.size is None or family.size == 2**self.size
        return family.kind == self.kind and fits and self.tables in {None, family.tables}


def images_to_fit_for(kind: str, *, live: int, expect: int) -> int:
    """How many images tables are made for: those that there are; or that are expected, as soon as
    there are enough to fit so many centroids on. Bits that are not needed yet only cost probes.
    """
    enough = kind == KMeansFamily.kind and live >= VECTORS_A_CENTROID * centroids_for(expect)
    return max(live, expect) if enough else live


def fit_first(partition: Partition, vectors: NDArray[np.float32], *, expect: int) -> None:
    """Fit a partition's first tables, on the first (n, dim) vectors that it gets."""
    kind = KMeansFamily.kind
    images = images_to_fit_for(kind, live=len(vectors), expect=expect)
    sample = partition.codec.turned(normalised(vectors))
    partition.fit(fit_family(sample, kind=kind, images=images), images=images)


def grow(
    partition: Partition,
    *,
    expect: int = 0,
    before_switch: Callable[[], None] = lambda: None,
    patience: float = 0.0,
) -> bool:
    """Rebuild the tables if the collection has outgrown them, or if a rebuild was interrupted; fill
    them anew where most of what they hold is dead.

    Args:
        expect: images that the partition is to hold.
        before_switch: called when the new tables are filled, and not in use yet.
        patience: seconds to wait while another process rebuilds; with `LEASE_SECONDS` one that has
            died is out of the way.

    Returns:
        Whether this call switched to new tables; False also while another process rebuilds.
    """
    deadline = time.monotonic() + patience
    while (switched := _grow(partition, expect, before_switch)) is None:
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return switched


def _grow(partition: Partition, expect: int, before_switch: Callable[[], None]) -> bool | None:
    """`grow`, if no other process does; None if one does."""
    state = partition.state()
    if not (state.following or state.retired or _is_worn(state) or _is_small(partition, state)):
        return False
    with lease(partition) as granted:
        if not granted:
            return None
        drop_retired(partition)
        state = partition.state()
        if not state.following and _is_small(partition, state):
            start(partition, Wish(KMeansFamily.kind, None, None), expect)
        elif not state.following and _is_worn(state):
            start_alike(partition, partition.families.of(state.generation), state)
        return finish(partition, before_switch)


def start(
    partition: Partition,
    wish: Wish,
    expect: int,
    *,
    before_start: Callable[[], None] = lambda: None,
) -> None:
    """Fit a family, and start its tables beside the old ones.

    Raises:
        CollectionError: the collection is gone.
        UsageError: it has no images, or too few for the wish.
    """
    state = partition.state()
    live, generation = state.live, state.generation
    images = images_to_fit_for(wish.kind, live=live, expect=expect)
    wanted = sample_size(wish.kind, images)
    if wish.kind == KMeansFamily.kind and wish.size:
        wanted = VECTORS_A_CENTROID * wish.size
    sample = _sample(partition, wanted, live)
    if not len(sample):
        # It may have been dropped meanwhile, which this says.
        partition.history.generations()
        raise UsageError(f"the collection {partition.collection!r} has no images to fit tables on")
    family = fit_family(sample, kind=wish.kind, images=images, size=wish.size, tables=wish.tables)
    if family.size > _BUCKETS_AN_IMAGE * live:
        raise UsageError(
            f"{family.size:,} buckets are too many for {live:,} images: choose a smaller size"
        )
    before_start()
    table_scripts.rehash_start(
        partition.store,
        partition.keys.meta,
        generation=generation,
        following=layout.generation_after(generation),
        images=images,
        family=dump_family(family),
    )


def start_alike(partition: Partition, family: HashFamily, state: State) -> None:
    """Start tables beside those of a state, with the same family."""
    table_scripts.rehash_start(
        partition.store,
        partition.keys.meta,
        generation=state.generation,
        following=layout.generation_after(state.generation),
        images=state.fitted,
        family=dump_family(family),
    )


def finish(partition: Partition, before_switch: Callable[[], None] = lambda: None) -> bool:
    """Fill the tables that were started, if there are such, switch to them, drop the old ones."""
    following = partition.state().following
    switched = False
    if following:
        for _ in fill(partition):
            pass
        before_switch()
        switched = table_scripts.rehash_finish(
            partition.store, partition.keys.meta, following=following
        )
    drop_retired(partition)
    return switched


def fill(partition: Partition) -> Iterator[int]:
    """Put the rows that were there before into the tables that were started; yields how many."""
    # Asked anew each time: others may fill them too, or Redis lose what was filled.
    while (state := partition.state()).following and state.filled < state.fill:
        following = partition.families.of(state.following)
        end = min(state.filled + max(1, FILL_BATCH // following.tables), state.fill)
        postings = [
            np.column_stack([rows, following.buckets(vectors)]).astype(layout.ROW_DTYPE).tobytes()
            for rows, vectors in partition.blocks.vectors(state.filled, end)
        ]
        table_scripts.rehash_fill(
            partition.store,
            partition.keys.meta,
            following=state.following,
            first=state.filled,
            end=end,
            tables=following.tables,
            postings=b"".join(postings),
        )
        renew(partition)
        yield end


def drop_retired(partition: Partition) -> None:
    """Remove the tables of the generation that is no longer in use, if they are there still."""
    generation = partition.state().retired
    if not generation:
        return
    store, meta = partition.store, partition.keys.meta
    data = store.call("GET", partition.keys.family(generation))
    family = partition.families.loaded(generation, data) if data is not None else None
    tables, size = (family.tables, family.size) if family else (1, 0)
    step = max(1, FILL_BATCH // tables)
    # The last call, which names none, ends it.
    for first in [*range(0, size, step), size]:
        end = min(first + step, size)
        if not table_scripts.drop(
            store, meta, generation=generation, tables=tables, first=first, end=end
        ):
            return


@contextmanager
def lease(partition: Partition, *, taken_over: bool = False) -> Iterator[bool]:
    """Whether this process alone rebuilds. Two at once would do no harm, only work twice.

    Args:
        taken_over: whoever has it: it may have died, and others then keep out.
    """
    key, token = partition.keys.lease, secrets.token_hex(8)
    unless = () if taken_over else ("NX",)
    holder = partition.store.call("SET", key, token, *unless, "GET", "EX", LEASE_SECONDS)
    # It is our own where the first answer was lost and the call was sent again.
    granted = taken_over or holder in {None, token.encode()}
    try:
        yield granted
    finally:
        if granted and partition.store.call("GET", key) == token.encode():
            partition.store.call("DEL", key)


def renew(partition: Partition) -> None:
    """Have the lease a while longer."""
    partition.store.call("EXPIRE", partition.keys.lease, LEASE_SECONDS)


def _is_small(partition: Partition, state: State) -> bool:
    """Whether there are too many images for the tables. Families that are drawn suit any number."""
    outgrown = state.generation > 0 and state.live >= GROWTH * state.fitted
    return outgrown and isinstance(partition.families.of(state.generation), KMeansFamily)


def _is_worn(state: State) -> bool:
    """Whether most of what the tables hold is dead: it is read, and takes memory, for nothing."""
    return state.dead > max(state.live, DEAD_ROWS)


def _sample(partition: Partition, wanted: int, live: int) -> NDArray[np.float32]:
    """About so many stored vectors, in blocks all over; all if there are no more; maybe none."""
    rows = partition.state().rows
    blocks = -(-rows // layout.BLOCK)
    # Of deleted images nothing is left.
    needed = -(-wanted * rows // max(live, 1) // layout.BLOCK)
    picked = np.linspace(0, blocks - 1, min(blocks, needed)).astype(int)
    starts = np.unique(picked) * layout.BLOCK
    parts = [
        part
        for start in starts
        for part in partition.blocks.vectors(start, min(start + layout.BLOCK, rows))
    ]
    none = np.empty((0, partition.codec.dim), np.float32)
    return np.concatenate([none, *(vectors for _, vectors in parts)])
