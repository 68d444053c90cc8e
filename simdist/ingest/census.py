"""Which images of a collection are gone from the source that they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simdist.index.collection import Collection
from simdist.store import layout


class Census:
    """Compares all that a source lists with what a collection holds.

    It keeps 8 bytes of each URI's digest: 80 MB for ten million images. Two URIs that share them
    by chance (one pair in 4 * 10^5 runs of that size) only keep an image from being missed.
    """

    def __init__(self, collection: Collection) -> None:
        """Begin, before anything is listed: what is indexed from now on is never taken for gone."""
        self._collection = collection
        self._rows = [partition.state().rows for partition in collection.partitions]
        self._seen: list[NDArray[np.uint64]] = []

    def note(self, uris: Sequence[str]) -> None:
        """Note what the source lists."""
        if uris:
            self._seen.append(_digests(uris))

    def missing(self, below: str) -> list[str]:
        """The URIs that begin with `below`, were there at the beginning, and were not listed.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        seen = np.unique(np.concatenate(self._seen)) if self._seen else np.empty(0, np.uint64)
        return [
            uri
            for partition, rows in zip(self._collection.partitions, self._rows, strict=True)
            for _, records in partition.blocks.records(0, rows)
            for uri in _unseen(_below(records, below), seen)
        ]


def _below(records: Sequence[layout.Record], start: str) -> list[str]:
    return [record.uri for record in records if record.uri.startswith(start)]


def _digests(uris: Sequence[str]) -> NDArray[np.uint64]:
    # Not the digest's end, which is the same in a whole partition of many.
    joined = b"".join(layout.uri_digest(uri)[:8] for uri in uris)
    return np.frombuffer(joined, "<u8")


def _unseen(uris: list[str], seen: NDArray[np.uint64]) -> Iterator[str]:
    if not uris or not len(seen):
        yield from uris
        return
    digests = _digests(uris)
    nearest = seen[np.minimum(np.searchsorted(seen, digests), len(seen) - 1)]
    for index in np.flatnonzero(nearest != digests):
        yield uris[index]
