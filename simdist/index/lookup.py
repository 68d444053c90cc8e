"""Images of a collection by their URIs, many at once."""

from __future__ import annotations

from collections.abc import Sequence

from simdist.index.collection import Collection
from simdist.index.images import Stored
from simdist.store import layout

# Images that one call of the script looks up: a stall of a few milliseconds.
_BATCH = 1024


def look_up(collection: Collection, uris: Sequence[str]) -> list[Stored | None]:
    """What is stored of each image, None where there is none; one round trip for a thousand.

    Raises:
        StoreError: the server cannot be reached, or what is stored is damaged.
    """
    found: list[Stored | None] = [None] * len(uris)
    for partition, members in collection.spread(uris):
        for start in range(0, len(members), _BATCH):
            some = members[start : start + _BATCH].tolist()
            stored = partition.find_many([layout.uri_digest(uris[i]) for i in some])
            for i, one in zip(some, stored, strict=True):
                found[i] = one
    return found
