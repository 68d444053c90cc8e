"""Duplicates on their way out: of the index, or as files for their owner to delete."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.index.images import Stored
from simdist.index.lookup import look_up
from simdist.joining.decisions import Decisions
from simdist.joining.whole import Whole
from simdist.sources import uri_path
from simdist.sources.reference import MEMBER

_BATCH = 256
# Marked images that are deleted at once, a second of a thread.
_MARKED = 1000


def remove(collection: Collection, whole: Whole, uris: Iterable[str]) -> tuple[int, int]:
    """Delete images from the index, unless they have been replaced since they were read.

    Returns:
        How many were deleted, and how many were left because they are others by now.
    """
    deleted = changed = 0
    given = list(uris)
    for start in range(0, len(given), _BATCH):
        batch = given[start : start + _BATCH]
        both = zip(batch, look_up(collection, batch), strict=True)
        as_read = [uri for uri, found in both if found and _is_as_read(whole, uri, found)]
        deleted += collection.delete(as_read)
        changed += len(batch) - len(as_read)
    return deleted, changed


def mark(collection: Collection, uris: Sequence[str]) -> Decisions:
    """Mark images for removal, as they are now; those that are not indexed are passed over.

    Returns:
        The marks.

    Raises:
        UsageError, StoreError: as `Decisions.add_to`.
    """
    both = zip(uris, look_up(collection, uris), strict=True)
    marks = Decisions(
        remove=frozenset((uri, found.fingerprint.hex()) for uri, found in both if found)
    )
    marks.add_to(collection)
    return marks


def remove_marked(collection: Collection) -> tuple[int, int, int]:
    """Delete some of the images that are marked for removal from the index, and their marks.

    What has been replaced since it was marked, or is protected by now, loses its mark only.

    Returns:
        How many were deleted, were left because they are others by now or protected, and are
        still marked: go on until there are none.
    """
    decisions = Decisions.read(collection)
    marked = sorted(decisions.remove)
    some = marked[:_MARKED]
    uris = [uri for uri, _ in some]
    both = zip(some, look_up(collection, uris), strict=True)
    as_marked = [
        uri
        for (uri, content), found in both
        if found and found.fingerprint.hex() == content and decisions.removes(uri)
    ]
    deleted = collection.delete(as_marked)
    Decisions(remove=frozenset(some)).take_from(collection)
    return deleted, len(some) - len(as_marked), len(marked) - len(some)


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


def _is_as_read(whole: Whole, uri: str, found: Stored) -> bool:
    number = whole.find(uri)
    if number is None:
        return False
    slot = whole.slots[number]
    return found.record == whole.records[slot] and whole.is_stored_as(slot, found.vector)
