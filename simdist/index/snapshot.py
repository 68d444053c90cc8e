"""The hash tables of a partition as they are at one moment, for whoever measures them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simdist.hashing import HashFamily
from simdist.index.partition import Partition


@dataclass(frozen=True)
class Snapshot:
    """The tables of one partition at one moment.

    Attributes:
        generation: of the tables, whose family hashes.
        rows, live: row numbers given out so far, and images.
    """

    partition: Partition
    generation: int
    family: HashFamily
    rows: int
    live: int


def take_snapshots(partitions: Sequence[Partition], *, following: bool) -> list[Snapshot]:
    """Snapshots of all partitions that have tables.

    Args:
        following: of the tables that are being filled, where there are such.
    """
    snapshots = []
    for partition in partitions:
        if partition.is_fitted():
            hashing = partition.families.now()
            generation, family = hashing.generation, hashing.family
            if following and hashing.following:
                generation, family = hashing.following_generation, hashing.following
            state = partition.state()
            snapshots.append(Snapshot(partition, generation, family, state.rows, state.live))
    return snapshots
