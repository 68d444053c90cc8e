"""A collection's images embedded by another model: beside the old, then in their place."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cluster.ingest.driver import run_pipeline
from cluster.runtime import ray_session
from simdist.embedding.model import Model
from simdist.errors import CollectionError, UsageError
from simdist.index import names
from simdist.index.batch import Batch
from simdist.index.check import require_there
from simdist.index.collection import Collection
from simdist.index.commit import commit_batch, packed
from simdist.index.declared import declare, declared
from simdist.index.dropping import drop
from simdist.index.images import Added, Version
from simdist.index.moments import Passage
from simdist.index.names import Names
from simdist.index.partition import Partition
from simdist.ingest.committer import Committer
from simdist.ingest.listing import Listing
from simdist.ingest.progress import Progress, Summary
from simdist.joining.decisions import Decisions
from simdist.search.searcher import MAX_STALENESS
from simdist.settings import DEFAULT_EXPECT, Settings
from simdist.sources import Access, ImageRef, Source
from simdist.sources.place import Place
from simdist.store import Store, layout
from simdist.transfer.importing import write
from simdist.vectors.checks import checked

# What the new embeddings are called until they take the old ones' place.
BESIDE = ".next"
_GRACE = 2
# Images that one round trip looks up, and bytes of a URI's digest.
_FOUND, _URI = 512, layout.PREFIX + layout.FIELD
# The field of a new partition's `meta`: rows of the old one that had been gone through by then.
_READ = "reembedded"


def reembed(
    store: Store,
    name: str,
    *,
    model: Model,
    access: Access | None = None,
    settings: Settings | None = None,
    keep: str | None = None,
    without_failed: bool = False,
    gpus: int | None = None,
    actors: int | None = None,
    on_progress: Callable[[Progress], None] = lambda _: None,
) -> Summary:
    """Embed all images of a collection anew, while it is used, and then let its name lead there.

    URIs, labels, metadata and dates stay as they are; so does what ingests know the images by. The
    new embeddings lie in a collection `NAME.next` until all are there; the switch is one write.
    Begun again after an error, it goes on where it stopped.

    Args:
        name: a collection, or an alias of it; its other aliases go with it.
        access: how to reach the object stores that the images lie in.
        keep: what the old collection is to be called; by default it is dropped.
        without_failed: switch also if some images cannot be embedded: they are missing then.

    Returns:
        What was done. With failures, and not `without_failed`, nothing was switched.

    Raises:
        UsageError: the collection is of that model already; or its new names are too long.
        CollectionError: there is none of that name, or something else is called `NAME.next`; or it
            was dropped meanwhile, and then there is no `NAME.next` either.
        StoreError, ClusterError: the store or Ray was lost.
    """
    found = Names.read(store)
    name = found.aliases.get(name, name)
    beside = names.checked_name(name + BESIDE)
    if keep is not None:
        names.require_free(found, names.checked_name(keep))
    old = Collection.open(store, name)
    switched = old.model_id == model.id
    if switched and found.home(beside) is None:
        raise UsageError(f"the collection {name!r} is of the model {model.id} already")
    work = _Work(store, model, access or Access.resolve(), on_progress, gpus, actors)
    with ray_session(settings or Settings.resolve()):
        summary = Summary()
        if switched:
            old, new = Collection.open(store, beside), old
        else:
            new = Collection.ensure(
                store,
                beside,
                model=model,
                expect=max(old.count(), DEFAULT_EXPECT),
                partitions=len(old.partitions),
            )
            with _ending_with(old, new, beside, keep=None):
                summary = work.go_over(old, new)
                if summary.failed and not without_failed:
                    return summary
                _switch(old, new, beside)
        with _ending_with(new, old, beside, keep=keep):
            # What was written in the moment before.
            late = work.go_over(old, new, late=True)
    if keep is None:
        # Searchers follow the name within `max_staleness`: nobody is to find what is gone.
        time.sleep(_GRACE * MAX_STALENESS)
    _put_away(store, beside, keep)
    return replace(
        summary,
        added=summary.added + late.added,
        failed=summary.failed + late.failed,
        failures=summary.failures + late.failures,
    )


def _switch(old: Collection, new: Collection, beside: str) -> None:
    """Let the name lead to the new collection, and that one's to the old."""
    declare(new, declared(old))
    Decisions.read(old).add_to(new)
    names.exchange(old.store, old.name, beside)
    try:
        require_there(old)
    except CollectionError:
        # What was made anew in its place just before keeps the name.
        names.exchange(old.store, old.name, beside)
        raise


@contextmanager
def _ending_with(
    named: Collection, other: Collection, beside: str, *, keep: str | None
) -> Iterator[None]:
    """If the collection that has the name is dropped meanwhile, put away what lies beside it."""
    try:
        yield
    except CollectionError:
        store = named.store
        if not _is_there(named) and Names.read(store).home(beside) == other.home_name:
            _put_away(store, beside, keep)
        raise


def _is_there(collection: Collection) -> bool:
    try:
        require_there(collection)
    except CollectionError:
        return False
    return True


def _put_away(store: Store, beside: str, keep: str | None) -> None:
    if keep is None:
        drop(store, beside)
    else:
        names.rename(store, beside, keep)


@dataclass(frozen=True)
class _Work:
    """How images are embedded."""

    store: Store
    model: Model
    access: Access
    on_progress: Callable[[Progress], None]
    gpus: int | None
    actors: int | None

    def go_over(self, old: Collection, new: Collection, *, late: bool = False) -> Summary:
        """Embed what the new collection lacks, and delete what the old one does not have.

        Args:
            late: what was there before is done; of what is new by now, nothing is deleted.
        """
        stored = _Stored(old, new, late=late)
        committer = _Restoring(new, stored, source=f"collection {old.name}", access=self.access)
        source = Source(stored.entries(), self.access, old.name)
        with Listing(source, collection=new, force=True) as listing:
            progress = run_pipeline(
                listing,
                committer,
                new,
                self.model,
                on_progress=self.on_progress,
                gpus=self.gpus,
                actors=self.actors,
            )
        return committer.summary(progress, pruned=stored.finish())


class _Stored:
    """What is stored of the images of a collection, and must be of them in another."""

    def __init__(self, old: Collection, new: Collection, *, late: bool) -> None:
        self._old = old
        self._new = new
        self._late = late
        # Digests and records, by URI and fingerprint: one may be replaced meanwhile.
        self._waiting: dict[tuple[str, str], tuple[NDArray[np.uint8], bytes]] = {}
        self._passages = [
            Passage(of, first=_read(to) if late else 0)
            for of, to in zip(old.partitions, new.partitions, strict=True)
        ]
        self._digests: list[list[tuple[NDArray[np.int64], NDArray[np.uint8]]]] = [
            [] for _ in self._passages
        ]

    def entries(self) -> Iterator[ImageRef]:
        """The images that the new collection does not have as they are."""
        for number, passage in enumerate(self._passages):
            to = self._new.partitions[number]
            for part in passage.parts():
                records = [layout.unpack_record(record) for record in part.records]
                uris = layout.uri_digests(record.uri for record in records)
                self._digests[number].append((part.rows, uris))
                digests = np.hstack([uris, part.fingerprints])
                there = to.versions(digests) == Version.SAME
                self._carry_over(to, digests, part.records, np.flatnonzero(there))
                for i in np.flatnonzero(~there).tolist():
                    ref = _ref(records[i], part.fingerprints[i].tobytes().hex())
                    key = ref.uri, ref.fingerprint
                    comes = key in self._waiting
                    self._waiting[key] = digests[i], part.records[i]
                    # Otherwise it comes with what is said of it now.
                    if not comes:
                        yield ref

    @staticmethod
    def _carry_over(
        to: Partition,
        digests: NDArray[np.uint8],
        records: Sequence[bytes],
        members: NDArray[np.intp],
    ) -> None:
        """Say of images that are embedded what is said of them by now, where that has changed."""
        for start in range(0, len(members), _FOUND):
            some = members[start : start + _FOUND].tolist()
            found = to.find_many([digests[i, :_URI].tobytes() for i in some])
            changed = [
                (i, one.vector)
                for i, one in zip(some, found, strict=True)
                if one is not None and one.record != records[i]
            ]
            if changed:
                rows = [i for i, _ in changed]
                vectors = np.array([vector for _, vector in changed], np.uint8)
                batch = Batch(vectors, digests[rows], [records[i] for i in rows])
                commit_batch(to, batch, force=True)

    def taken(self, ref: ImageRef) -> tuple[NDArray[np.uint8], bytes]:
        """The digests and the record of an image that is embedded now."""
        return self._waiting.pop((ref.uri, ref.fingerprint))

    def finish(self) -> int:
        """Delete what is not in the old collection any more; returns how many images that were."""
        deleted = 0
        for to, passage, read in zip(
            self._new.partitions, self._passages, self._digests, strict=True
        ):
            alive = passage.moment.alive
            to.note("HSET", "meta", _READ, str(len(alive)))
            if self._late:
                continue
            kept = {one.tobytes() for rows, uris in read for one in uris[alive[rows]]}
            gone = [
                digest
                for _, records in to.blocks.records(0, to.state().rows)
                for digest in (layout.uri_digest(record.uri) for record in records)
                if digest not in kept
            ]
            to.delete(gone)
            deleted += len(gone)
        return deleted


class _Restoring(Committer):
    """Commits embeddings with what was stored of their images before."""

    def __init__(
        self, collection: Collection, stored: _Stored, *, source: str, access: Access
    ) -> None:
        super().__init__(collection, source=source, access=access)
        self._stored = stored

    def _add(self, vectors: NDArray[np.float32], refs: Sequence[ImageRef]) -> Added:
        found = [self._stored.taken(ref) for ref in refs]
        digests, records = np.stack([one for one, _ in found]), [record for _, record in found]
        codec = self._collection.partitions[0].codec
        rows = packed(codec, checked(vectors, dim=self._collection.dim))
        batch = Batch(rows, digests, records)
        return write(self._collection, iter([batch]), on_progress=lambda _: None)


def _read(partition: Partition) -> int:
    return int(partition.store.call("HGET", partition.keys.meta, _READ) or 0)


def _ref(record: layout.Record, fingerprint: str) -> ImageRef:
    """An image as it is to be read again."""
    place = Place.unpack(record.place) or Place(0)
    return ImageRef(
        record.uri, fingerprint, place.size or 0, None, offset=place.offset, depth=place.depth
    )
