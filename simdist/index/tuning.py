"""How much recall so many probes buy: measured on the collection itself, and stored with it.

Some of the stored vectors are searched for exactly, in one pass over all; the bucket of each
neighbour that is found is then looked up among the probes of its query, for every number of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from itertools import chain, takewhile
from itertools import count as count_from
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import CollectionError, Remedy
from simdist.hashing import HashFamily, KMeansFamily
from simdist.index.exact import (
    OnProgress,
    Queries,
    bucket_sizes,
    draw_queries,
    exact_neighbours,
    home_buckets,
    reached,
)
from simdist.index.partition import Partition, require_fitted
from simdist.index.snapshot import Snapshot, take_snapshots
from simdist.store.damage import damaged

QUERIES = 1000
NEIGHBOURS = 10
# Buckets that one query may look up, in all tables together.
MOST_PLACES = 8192
# Recall from which on more probes are not measured: nothing is left to tell apart.
_ENOUGH = 0.9995
# One-sided 95 %.
_DEVIATIONS = 1.645


@dataclass(frozen=True)
class Point:
    """What a number of probes in each table buys, and costs.

    Attributes:
        recall: recall@10, the mean over the queries.
        bound: what it is at least, with a probability of 95 %: the queries are a sample.
        rows_read: vectors scored by a query, as a share of the images.
    """

    probes: int
    recall: float
    bound: float
    rows_read: float


@dataclass(frozen=True)
class Tuning:
    """What was measured of a collection's tables.

    Attributes:
        generations: of each partition's tables, 0 for a partition that had none.
        images: in the collection at that time.
        queries: how many of them were searched with.
        points: by rising probes.
    """

    generations: tuple[int, ...]
    images: int
    queries: int
    points: tuple[Point, ...]

    def probes_for(self, recall: float) -> int | None:
        """The fewest probes whose `bound` is at least so much; None if those measured do not do."""
        return next((point.probes for point in self.points if point.bound >= recall), None)


class ProbeChooser:
    """Chooses the number of probes for a wished recall; reads what was measured once."""

    def __init__(self, partitions: Sequence[Partition]) -> None:
        self._partitions = partitions
        self._tunings: Sequence[Tuning] = ()

    def probes(self, recall: float, partition: Partition, generation: int) -> int:
        """How many probes in a partition's tables reach a recall.

        Raises:
            CollectionError: these tables have not been measured, or do not reach it.
        """
        if recall == 1:
            family = partition.families.of(generation)
            if family.size > most_probes(family):
                raise _unreachable(partition.collection, recall, family)
            return family.size
        tuning = self._find(partition, generation)
        if tuning is None:
            self._tunings = stored_tunings(self._partitions)
            tuning = self._find(partition, generation)
        if tuning is None:
            raise _untuned(partition.collection)
        count = tuning.probes_for(recall)
        if count is None:
            family = partition.families.of(generation)
            raise _unreachable(partition.collection, recall, family)
        return count

    def _find(self, partition: Partition, generation: int) -> Tuning | None:
        fitting = (one for one in self._tunings if one.generations[partition.number] == generation)
        return next(fitting, None)


def most_probes(family: HashFamily) -> int:
    """Buckets that a query may look up in each table."""
    return max(1, MOST_PLACES // family.tables)


def stored_tunings(partitions: Sequence[Partition]) -> list[Tuning]:
    """What was measured of the tables in use, and of those that are to follow them; one call.

    Raises:
        StoreError: as `parse_tunings`.
    """
    first = partitions[0]
    stored = first.store.call("HGET", first.keys.meta, "tuning")
    return parse_tunings(stored, first.keys.meta, len(partitions)) if stored else []


def parse_tunings(stored: bytes, key: str, partitions: int) -> list[Tuning]:
    """What is stored of measurements, at a key.

    Raises:
        StoreError: it is damaged.
    """
    try:
        return [_from_json(fields, partitions) for fields in json.loads(stored)]
    # `RecursionError`: brackets without end.
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise damaged(key, "its field tuning is none") from error


def tune(
    partitions: Sequence[Partition],
    *,
    queries: int = QUERIES,
    asked: ArrayLike | None = None,
    following: bool = False,
    seed: int = 0,
    on_progress: OnProgress = lambda *_: None,
) -> Tuning:
    """Measure recall@10 and rows read by the number of probes; store it with the collection.

    Every stored vector is read once; searches and writes go on meanwhile.

    Args:
        queries: about how many stored vectors to search with; each finds the others, not itself.
        asked: (q, dim) vectors of the kind that will be asked, in place of stored ones: words, say,
            lie elsewhere than images do.
        following: measure the tables that are being filled, where there are such.

    Raises:
        CollectionError: there are no images.
        VectorError: `asked` is of a wrong shape, not finite or of length zero.
    """
    require_fitted(partitions)
    while True:
        snapshots = take_snapshots(partitions, following=following)
        generations = _generations(partitions, snapshots)
        if asked is None:
            drawn = draw_queries(snapshots, queries, np.random.default_rng(seed))
        else:
            drawn = Queries.of(asked, partitions[0].codec)
        if not len(drawn.rows):
            name = partitions[0].collection
            # It may have been dropped meanwhile, which this says.
            partitions[0].history.generations()
            raise CollectionError(
                f"the collection {name!r} has no images to measure with: add some first",
                remedy=Remedy.INGEST,
                about=name,
            )
        points = _points(snapshots, drawn, on_progress)
        # Tables that were replaced meanwhile have lost their buckets.
        if _generations(partitions, take_snapshots(partitions, following=following)) == generations:
            images = sum(snapshot.live for snapshot in snapshots)
            tuning = Tuning(generations, images, len(drawn.rows), points)
            _store(partitions, tuning)
            return tuning


def retune(partitions: Sequence[Partition]) -> None:
    """If the collection has been tuned, measure the tables that are to follow, once filled."""
    if stored_tunings(partitions):
        tune(partitions, following=True)


def _generations(partitions: Sequence[Partition], snapshots: Sequence[Snapshot]) -> tuple[int, ...]:
    of = {snapshot.partition.number: snapshot.generation for snapshot in snapshots}
    return tuple(of.get(partition.number, 0) for partition in partitions)


def _points(
    snapshots: Sequence[Snapshot], queries: Queries, on_progress: OnProgress
) -> tuple[Point, ...]:
    images = sum(snapshot.live for snapshot in snapshots)
    # A stored one does not find itself.
    most = images - int((queries.snapshots >= 0).any())
    neighbours = exact_neighbours(snapshots, queries, min(NEIGHBOURS, most), on_progress)
    homes = [
        home_buckets(snapshot, number, neighbours) for number, snapshot in enumerate(snapshots)
    ]
    sizes = [bucket_sizes(snapshot) for snapshot in snapshots]
    # All but those that were deleted since.
    there = np.logical_or.reduce([(home >= 0).any(axis=2) for home in homes])
    largest = max(snapshot.family.size for snapshot in snapshots)
    limit = min(most_probes(snapshot.family) for snapshot in snapshots)
    points: list[Point] = []
    # Probes are listed for each number anew, for families list fewer of them less carefully.
    for count in _counts(min(limit, largest - 1)):
        found, read = np.zeros(there.shape, np.bool_), 0
        for snapshot, home, size in zip(snapshots, homes, sizes, strict=True):
            met, rows = reached(snapshot, queries.vectors, home, size, count)
            found, read = found | met, read + rows
        recall, bound = _mean(found, there)
        points.append(Point(count, recall, bound, read / len(there) / images))
        if recall >= _ENOUGH:
            break
    if largest <= limit:
        points.append(Point(largest, 1.0, 1.0, float(sum(size.sum() for size in sizes)) / images))
    return tuple(points)


def _counts(limit: int) -> Iterator[int]:
    """Numbers of probes up to a limit: from 4 on, four of them from each to its double."""
    counts = (part << shift for shift in count_from(0) for part in (4, 5, 6, 7))
    return takewhile(lambda count: count <= limit, chain((1, 2, 3), counts))


def _mean(found: NDArray[np.bool_], there: NDArray[np.bool_]) -> tuple[float, float]:
    """(q, k) neighbours that are found, of those that there are -> mean recall, and its bound."""
    counts = there.sum(axis=1)
    recalls = np.where(counts, (found & there).sum(axis=1) / np.maximum(counts, 1), 1.0)
    # One more that found half of them: a few queries that found all say little of the next.
    sample = np.append(recalls, 0.5)
    bound = sample.mean() - _DEVIATIONS * sample.std(ddof=1) / math.sqrt(len(sample))
    return float(recalls.mean()), max(0.0, float(bound))


def _store(partitions: Sequence[Partition], tuning: Tuning) -> None:
    """Keep it, and what was measured of other tables that are in use still."""
    now = [partition.state().generation for partition in partitions]
    others = [
        one
        for one in stored_tunings(partitions)
        if one.generations != tuning.generations
        and any(pair[0] == pair[1] != 0 for pair in zip(one.generations, now, strict=True))
    ]
    text = json.dumps([_to_json(one) for one in (tuning, *others)], separators=(",", ":"))
    partitions[0].note("HSET", "meta", "tuning", text)


def _to_json(tuning: Tuning) -> dict[str, Any]:
    points = [
        (point.probes, *(round(value, 6) for value in astuple(point)[1:]))
        for point in tuning.points
    ]
    return asdict(tuning) | {"points": points}


def _from_json(fields: dict[str, Any], partitions: int) -> Tuning:
    points = tuple(
        Point(int(probes), float(recall), float(bound), float(rows_read))
        for probes, recall, bound, rows_read in fields["points"]
    )
    generations = tuple(int(generation) for generation in fields["generations"])
    possible = all(1 <= point.probes <= MOST_PLACES for point in points)
    if not possible or not points or len(generations) != partitions:
        raise ValueError("there is no such tuning")
    return Tuning(generations, int(fields["images"]), int(fields["queries"]), points)


def _untuned(name: str) -> CollectionError:
    return CollectionError(
        f"the hash tables of {name!r} have not been measured, or were rebuilt since: tune the "
        "collection, then ask for a recall",
        remedy=Remedy.TUNE,
        about=name,
    )


def _unreachable(name: str, recall: float, family: HashFamily) -> CollectionError:
    return CollectionError(
        f"the tables of {name!r} ({family.tables} x {family.size:,} {family.kind}) cannot promise "
        f"a recall of {recall:g}: rebuild them with the family {KMeansFamily.kind}",
        remedy=Remedy.REHASH,
        about=name,
    )
