"""Thumbnails of a collection's images, made before anybody looks at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from itertools import islice

from simdist.errors import ImageError, SourceError, UsageError
from simdist.images.thumbnails import SIDE, Shelf, content_key, thumbnail
from simdist.index.collection import Collection
from simdist.index.origin import Origin
from simdist.index.scrolling import EVERYTHING, selected
from simdist.sources.access import Access
from simdist.sources.originals import Original, read_original
from simdist.sources.reading import is_web_address
from simdist.store import layout

# Images that are handed out to the threads together.
_AT_ONCE = 256


class _Outcome(Enum):
    MADE = auto()
    THERE = auto()
    UNREADABLE = auto()


@dataclass(frozen=True)
class Made:
    """What became of a collection's thumbnails: how many were made, were there already, or cannot
    be made as their images cannot be read where they were indexed.
    """

    made: int
    there: int
    unreadable: int


def make_thumbnails(
    collection: Collection,
    shelf: Shelf,
    *,
    roots: Sequence[str],
    access: Access,
    threads: int,
    on_progress: Callable[[str, int, int], None],
) -> Made:
    """Make those that are not there. What a service would not read is not read here, either.

    Args:
        roots: as in `read_original`.
        on_progress: told what is done, how many images were looked at, and how many there are.

    Raises:
        StoreError: the server cannot be reached, or a record is damaged.
    """
    total, counts = collection.count(), dict.fromkeys(_Outcome, 0)
    with ThreadPoolExecutor(threads, thread_name_prefix="simdist-thumbnails") as pool:
        left = selected(collection, EVERYTHING)
        make = partial(_make, collection, shelf, roots, access)
        while uris := list(islice(left, _AT_ONCE)):
            for outcome in pool.map(make, uris):
                counts[outcome] += 1
            on_progress("making thumbnails", sum(counts.values()), total)
    return Made(*(counts[outcome] for outcome in _Outcome))


def _make(
    collection: Collection, shelf: Shelf, roots: Sequence[str], access: Access, uri: str
) -> _Outcome:
    digest = layout.uri_digest(uri)
    stored, origin = collection.get_by_digest(digest), Origin.find(collection, digest)
    if stored is None or origin is None or is_web_address(uri):
        return _Outcome.UNREADABLE
    key = content_key(uri, stored.vector.tobytes())
    if shelf.get(key, SIDE) is not None:
        return _Outcome.THERE
    try:
        original = Original(uri, origin.place, origin.has)
        shelf.keep(key, SIDE, thumbnail(read_original(original, roots=roots, access=access)))
    except (SourceError, ImageError, UsageError):
        return _Outcome.UNREADABLE
    return _Outcome.MADE
