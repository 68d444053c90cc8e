"""A collection that has grown fourfold: tables made anew, and buckets split where they are large.

Three hash families for the same vectors: fitted on a quarter of them (what there is before a
rebuild), on all (after it), and the first with its largest buckets split in two, by 2-means of what
they hold, until there are as many as in the second. The last once more with every vector in the
bucket of the nearest centroid of all, as other vectors come to be. Of each, how many buckets find
.95 of the true ten nearest, and how many rows those hold.

    python -m bench.splits [--size 250000]
"""

from __future__ import annotations

import argparse
import heapq
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.index_data import Data, Vectors, prepare
from bench.scale import VECTORS
from simdist.hashing.kmeans import VECTORS_A_CENTROID, KMeansFamily, centroids_for
from simdist.hashing.projection import rounded
from simdist.vectors.checks import normalised
from simdist.vectors.codec import Codec

GOAL = 0.95
# Centroids that are ranked, rounds of 2-means, and vectors handled at once.
RANKED, ROUNDS, BLOCK = 64, 8, 8192

Buckets = NDArray[np.int64]


class Tables(NamedTuple):
    """The (K, c) centroids of buckets, and the (n,) bucket of each vector."""

    centroids: Vectors
    buckets: Buckets


def main() -> None:
    """Print a row for each family."""
    parser = argparse.ArgumentParser(description="Measure rebuilt and split tables.")
    parser.add_argument("--size", type=int, default=250_000)
    options = parser.parse_args()
    data = Data.load(prepare(vectors=VECTORS, photos=None, size=options.size)).ask(1000)
    codec = Codec.of("int8", data.vectors.shape[1])
    vectors, queries = (codec.turned(normalised(some)) for some in (data.vectors, data.queries))
    count = len(vectors)
    print(f"{count:,} vectors\n\n| buckets | number | largest | probes | rows | moved |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    before, after = (_fitted(vectors, centroids_for(size)) for size in (count // 4, count))
    asked, nearest = _points(before, queries), data.nearest
    old = Tables(before.points, _buckets(before, vectors))
    _report("of a quarter", old, asked, nearest, 0)
    new = Tables(after.points, _buckets(after, vectors))
    _report("made anew", new, _points(after, queries), nearest, count)
    points = _points(before, vectors)
    split, moved = _split(old, points, after.size)
    _report("split", split, asked, nearest, moved)
    parts = range(0, count, BLOCK)
    of_all = [np.argmax(points[i : i + BLOCK] @ split.centroids.T, axis=1) for i in parts]
    moved += count
    split = split._replace(buckets=np.concatenate(of_all))
    _report("split, by the nearest", split, asked, nearest, moved)


def _fitted(vectors: Vectors, centroids: int) -> KMeansFamily:
    wanted = min(len(vectors), VECTORS_A_CENTROID * centroids)
    sample = np.random.default_rng(0).choice(len(vectors), wanted, replace=False)
    return KMeansFamily.fit(vectors[sample], centroids=centroids)


def _buckets(family: KMeansFamily, vectors: Vectors) -> Buckets:
    parts = range(0, len(vectors), BLOCK)
    return np.concatenate([family.buckets(vectors[i : i + BLOCK])[:, 0] for i in parts])


def _points(family: KMeansFamily, vectors: Vectors) -> Vectors:
    parts = (rounded(vectors[i : i + BLOCK]) for i in range(0, len(vectors), BLOCK))
    return np.concatenate([family.projection.points(*part) for part in parts])


def _split(tables: Tables, points: Vectors, size: int) -> tuple[Tables, int]:
    """Split the largest buckets until there are so many; also how many rows were moved."""
    generator, moved = np.random.default_rng(0), 0
    centroids, buckets = list(tables.centroids), tables.buckets.copy()
    ends = np.cumsum(np.bincount(buckets, minlength=len(centroids)))[:-1]
    members = np.split(np.argsort(buckets, kind="stable"), ends)
    largest = [(-len(some), i) for i, some in enumerate(members)]
    heapq.heapify(largest)
    while len(centroids) < size:
        _, i = heapq.heappop(largest)
        some = members[i]
        moved += len(some)
        halves, side = _halves(points[some], generator)
        if side.all() or not side.any():
            continue
        centroids[i], members[i] = halves[0], some[side]
        centroids.append(halves[1])
        members.append(some[~side])
        buckets[members[-1]] = len(members) - 1
        for one in (i, len(members) - 1):
            heapq.heappush(largest, (-len(members[one]), one))
    return Tables(np.array(centroids, np.float32), buckets), moved


def _halves(
    points: Vectors, generator: np.random.Generator
) -> tuple[list[Vectors], NDArray[np.bool_]]:
    """The centroids of two halves, and which points are in the first."""
    halves = list(points[generator.choice(len(points), 2, replace=False)])
    for _ in range(ROUNDS):
        side = points @ (halves[0] - halves[1]) > 0
        if side.all() or not side.any():
            break
        sums = points[side].sum(axis=0), points[~side].sum(axis=0)
        halves = [one / np.linalg.norm(one) for one in sums]
    return halves, side


def _report(
    name: str, tables: Tables, queries: Vectors, nearest: NDArray[np.int32], moved: int
) -> None:
    """Print a row; recall is that of so many buckets for every query."""
    sizes = np.bincount(tables.buckets, minlength=len(tables.centroids))
    best = np.argsort(-(queries @ tables.centroids.T), axis=1)[:, :RANKED]
    are_in = best[:, :, None] == tables.buckets[nearest][:, None, :]
    recall = are_in.sum(axis=2).mean(axis=0).cumsum() / nearest.shape[1]
    probes = int(np.argmax(recall >= GOAL)) + 1 if recall[-1] >= GOAL else RANKED
    rows = sizes[best[:, :probes]].sum(axis=1).mean()
    print(f"| {name} | {len(sizes):,} | {sizes.max()} | {probes} | {rows:,.0f} | {moved:,} |")


if __name__ == "__main__":
    main()
