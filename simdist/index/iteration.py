"""All buckets of a partition with their images, for whoever compares those that lie together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray

from simdist.index.buckets import BucketTail, Place
from simdist.index.partition import Partition

# Buckets that one round trip reads.
_BUCKETS = 256


@dataclass(frozen=True)
class Bucket:
    """The images of a bucket: (n,) uint32 rows, and their (n, dim) vectors as in `Block`."""

    place: Place
    rows: NDArray[np.uint32]
    vectors: NDArray[np.float32]


def by_bucket(partition: Partition) -> Iterator[Bucket]:
    """All buckets that are not empty, table by table: an image comes once in each table.

    Raises:
        CollectionError: nothing has been added yet.
        OutdatedError: the tables were replaced meanwhile.
    """
    hashing = partition.hashing()
    places = product(range(hashing.family.tables), range(hashing.family.size))
    while wanted := dict.fromkeys(islice(places, _BUCKETS), 0):
        held: dict[Place, list[BucketTail]] = {}
        while wanted:
            # There are no more dead rows than rows, and none is asked for.
            reading = partition.read(hashing.generation, wanted, dead_known=hashing.row)
            for tail in reading.tails:
                held.setdefault(tail.place, []).append(tail)
                if not tail.complete:
                    wanted[tail.place] = tail.known
                    continue
                del wanted[tail.place]
                bucket = _whole(partition, held.pop(tail.place))
                if len(bucket.rows):
                    yield bucket


def _whole(partition: Partition, tails: Sequence[BucketTail]) -> Bucket:
    packed = np.concatenate([tail.vectors for tail in tails])
    rows = np.concatenate([tail.rows for tail in tails])
    return Bucket(tails[0].place, rows, partition.codec.restore(packed))
