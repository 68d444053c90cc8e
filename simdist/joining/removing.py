"""Duplicates on their way out: of the index, or as files for their owner to delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.joining.whole import Whole
from simdist.sources import uri_path
from simdist.sources.reference import MEMBER
from simdist.store import layout

_BATCH = 256


def remove(collection: Collection, whole: Whole, uris: Iterable[str]) -> tuple[int, int]:
    """Delete images from the index, unless they have been replaced since they were read.

    Returns:
        How many were deleted, and how many were left because they are others by now.
    """
    deleted = changed = 0
    batch: list[str] = []
    for uri in uris:
        if _is_as_read(collection, whole, uri):
            batch.append(uri)
        else:
            changed += 1
        if len(batch) == _BATCH:
            deleted += collection.delete(batch)
            batch.clear()
    return deleted + collection.delete(batch), changed


def file_names(uris: Iterable[str]) -> Iterator[str | None]:
    """The paths of images that are files of this machine, one to a line; None for the others."""
    for uri in uris:
        try:
            name = str(uri_path(uri))
        except UsageError:
            yield None
            continue
        # A part of an archive is no file, and a line holds no line.
        yield None if MEMBER in uri or "\n" in name else name


def _is_as_read(collection: Collection, whole: Whole, uri: str) -> bool:
    digest, number = layout.uri_digest(uri), whole.find(uri)
    found = collection.home(digest).find(digest)
    if found is None or number is None:
        return False
    slot = whole.slots[number]
    return found[1] == whole.records[slot] and whole.is_stored_as(slot, found[0])
