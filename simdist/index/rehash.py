"""A rebuild of all tables of a collection that somebody asked for; interrupted, it goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING

from simdist.errors import CollectionError, Remedy, UsageError
from simdist.hashing import FAMILIES, KMeansFamily
from simdist.index.exact import OnProgress
from simdist.index.growth import (
    Wish,
    drop_retired,
    fill,
    finish,
    lease,
    renew,
    start,
)
from simdist.index.partition import Partition, require_fitted
from simdist.index.tuning import Tuning, tune
from simdist.store.damage import damaged

if TYPE_CHECKING:
    from simdist.index.collection import Collection

# The model of an `LSHash`: whoever opens it brings the hyperplanes along.
LSHASH_MODEL = "lshash"


def rehash(
    collection: Collection,
    *,
    kind: str = KMeansFamily.kind,
    size: int | None = None,
    tables: int | None = None,
    on_progress: OnProgress = lambda *_: None,
) -> Tuning:
    """Rebuild the tables of a collection as one wishes, and measure them (`tuning.tune`).

    Searches and writes go on meanwhile. After an interruption the same call goes on where it
    stopped; one that wishes something else finishes what was begun first.

    Args:
        kind: one of `hashing.FAMILIES`.
        size: centroids of kmeans, bits of the others; by default what suits the collection.
        tables: number of tables; kmeans has one.

    Raises:
        UsageError: there are no such tables.
        CollectionError: there are no images, or they are in the tables of an `LSHash`.
    """
    if collection.model_id == LSHASH_MODEL:
        raise CollectionError(
            f"the tables of {collection.name!r} belong to LSHash, which brings its own "
            "hyperplanes along: open an LSHash of another size under another name"
        )
    require_fitted(collection.partitions)
    partitions = [
        partition
        for partition in collection.partitions
        if partition.is_fitted() and partition.state().live
    ]
    if not partitions:
        raise CollectionError(
            f"the collection {collection.name!r} has no images left: add some first",
            remedy=Remedy.INGEST,
            about=collection.name,
        )
    wish = Wish(kind, size, tables)
    with ExitStack() as leases:
        for partition in partitions:
            leases.enter_context(lease(partition, taken_over=True))
        job = _Job(collection, partitions, on_progress)
        if not job.begun_for(wish):
            job.finish_others()
        return job.carry_out(wish)


def parse_asked(stored: bytes, key: str, partitions: int) -> tuple[Wish, list[int]]:
    """The rebuild that was asked for, and the generations that it is to replace.

    Args:
        key: where this is stored.

    Raises:
        StoreError: what is stored of it is damaged.
    """
    try:
        asked = json.loads(stored)
        kind, size, tables = (asked["wish"][name] for name in ("kind", "size", "tables"))
        old = [int(generation) for generation in asked["generations"]]
        if len(old) != partitions or kind not in FAMILIES:
            raise ValueError("there are no such tables")
        return Wish(kind, size and int(size), tables and int(tables)), old
    # `RecursionError`: brackets without end.
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise damaged(key, "its field asked is no rebuild") from error


class _Job:
    """A rebuild that was asked for, of all partitions. What is asked for is kept until it is done.

    It is in the field `asked` of the first partition's state: the wish, and the generations that
    are to be replaced.
    """

    def __init__(
        self, collection: Collection, partitions: Sequence[Partition], on_progress: OnProgress
    ) -> None:
        self._collection = collection
        self._partitions = partitions
        self._on_progress = on_progress
        self._meta = collection.partitions[0].keys.meta
        stored = collection.store.call("HGET", self._meta, "asked")
        self._wish: Wish | None = None
        self._old: list[int] = []
        if stored:
            self._wish, self._old = parse_asked(stored, self._meta, len(collection.partitions))

    def begun_for(self, wish: Wish) -> bool:
        """Whether just this was asked for before, and has not been finished."""
        return self._wish == wish

    def finish_others(self) -> None:
        """Finish what was begun for another wish, or because the collection has grown."""
        if self._wish is not None:
            self._say(f"finishing the rebuild as {self._wish} that was begun before")
            self.carry_out(self._wish)
        for partition in self._partitions:
            state = partition.state()
            if state.following or state.retired:
                self._say("finishing the rebuild that was begun before")
                self._finish(partition)

    def carry_out(self, wish: Wish) -> Tuning:
        """Start what is not, fill, measure, then switch over."""
        if self._wish is None:
            self._old = [partition.state().generation for partition in self._collection.partitions]
        while True:
            try:
                for partition in self._partitions:
                    self._start(partition, wish)
            except UsageError:
                self._forget()
                raise
            todo = [partition for partition in self._partitions if partition.state().following]
            total, done = sum(partition.state().fill for partition in todo), 0
            for partition in todo:
                for filled in fill(partition):
                    self._on_progress("filling the new tables", done + filled, total)
                done += partition.state().fill
            # Before the switch: searches that ask for a recall find it measured at every moment.
            tuning = tune(self._collection.partitions, following=True, on_progress=self._measuring)
            for partition in self._partitions:
                finish(partition)
            # Unless Redis has gone back in time meanwhile.
            if all(self._is_met(partition, wish) for partition in self._partitions):
                self._forget()
                return tuning

    def _is_met(self, partition: Partition, wish: Wish) -> bool:
        """Whether a partition has the tables that were wished, and no others that are filled."""
        hashing = partition.families.now()
        replaced = hashing.generation != self._old[partition.number]
        return hashing.following is None and replaced and wish.is_met_by(hashing.family)

    def _start(self, partition: Partition, wish: Wish) -> None:
        drop_retired(partition)
        hashing = partition.families.now()
        if hashing.following is not None and not wish.is_met_by(hashing.following):
            # The collection has grown meanwhile.
            self._finish(partition)
            hashing = partition.families.now()
        if hashing.following is None and not self._is_met(partition, wish):
            self._say(f"fitting {wish}")
            start(
                partition,
                wish,
                self._collection.expected_each,
                before_start=lambda: self._remember(wish),
            )

    def _finish(self, partition: Partition) -> None:
        for filled in fill(partition):
            self._on_progress("filling the new tables", filled, partition.state().fill)
        finish(partition)

    def _remember(self, wish: Wish) -> None:
        self._wish = wish
        asked = json.dumps({"wish": asdict(wish), "generations": self._old})
        self._collection.partitions[0].note("HSET", "meta", "asked", asked)

    def _forget(self) -> None:
        self._wish = None
        self._collection.store.call("HDEL", self._meta, "asked")

    def _measuring(self, doing: str, done: int, total: int) -> None:
        for partition in self._partitions:
            renew(partition)
        self._on_progress(doing, done, total)

    def _say(self, doing: str) -> None:
        self._on_progress(doing, 0, 0)
