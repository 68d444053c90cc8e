"""Going through all images of a collection."""

from __future__ import annotations

from collections.abc import Iterator

from simdist.index.images import IndexedImage
from simdist.index.partition import Partition


def all_images(partition: Partition) -> Iterator[IndexedImage]:
    """All images of a partition, in the order of their rows.

    An image that is there from the beginning to the end comes once. One that is added or deleted
    meanwhile may come or not, and one that is replaced may come twice: as it was, and as it is.
    """
    start = 0
    # Until there are no more rows than have been read.
    while (end := partition.state().rows) > start:
        for block in partition.images(start, end):
            vectors = partition.codec.turned_back(block.vectors)
            for vector, record in zip(vectors, block.records, strict=True):
                yield IndexedImage(record.uri, record.label, record.metadata, vector)
        start = end
