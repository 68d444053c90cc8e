"""How few rows each hash family reads for its recall, and what hashing costs.

Of real embeddings, seeded queries are held out and the rest are stored. A row or neighbour counts
in 'others' only if it is of another photograph than the query.

    python -m bench.families [VECTORS.npz]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from simdist.hashing import (
    HashFamily,
    KMeansFamily,
    fit_family,
    lloyd,
)
from simdist.hashing.cells import nearest_centroids
from simdist.hashing.components import principal_components
from simdist.hashing.family import Buckets, Vectors
from simdist.hashing.kmeans import centroids_for
from simdist.hashing.projection import rounded
from simdist.vectors.checks import normalised

VECTORS = Path("../shared/data/vectors/caltech-crops-512.npz")
QUERIES, NEIGHBOURS, PROBES = 1000, 10, 160
GOAL = 0.95
SHARES = (0.01, 0.03)
TIMED_PROBES, TIMED_QUERIES = 24, 300


class Hash(Protocol):
    """What of a `HashFamily` is measured; a vector may have several buckets in a table."""

    def buckets(self, vectors: Vectors) -> Buckets: ...

    def probes(self, vectors: Vectors, count: int) -> Buckets: ...


class Data(NamedTuple):
    """Stored rows and queries, their photographs, and (queries, 10) nearest rows: all, others'."""

    rows: Vectors
    row_sources: NDArray[np.int32]
    queries: Vectors
    query_sources: NDArray[np.int32]
    neighbours: tuple[NDArray[np.intp], NDArray[np.intp]]


class Curve(NamedTuple):
    """By the number of probes, the share of neighbours found, of postings and of rows read."""

    recall: NDArray[np.float64]
    postings: NDArray[np.float64]
    rows: NDArray[np.float64]

    def recall_at(self, postings: float) -> str:
        if postings > self.postings[-1]:
            return "-"
        return f"{np.interp(postings, self.postings, self.recall):.3f}"

    def at_goal(self) -> tuple[str, str, str]:
        """Probes, % of postings, % of rows."""
        if self.recall[-1] < GOAL:
            return "-", "-", "-"
        probes, postings, rows = (
            float(np.interp(GOAL, self.recall, values))
            for values in (np.arange(1, len(self.recall) + 1), self.postings, self.rows)
        )
        return f"{probes:.0f}", f"{100 * postings:.2f}", f"{100 * rows:.2f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("vectors", nargs="?", type=Path, default=VECTORS)
    data = _load(parser.parse_args().vectors)
    heads = ("family", "all 1 %", "3 %", "others 1 %", "3 %", "probes", "read %", "distinct %")
    _line(*heads, "us/vector", "us/query", "fit s")
    with threadpool_limits(1):
        for name, fit in _schemes(data.rows).items():
            start = time.process_time()
            family = fit()
            seconds = time.process_time() - start
            everything, others = _curves(family, data)
            recalls = [curve.recall_at(share) for curve in (everything, others) for share in SHARES]
            costs = (_cost_of_a_vector(family, data), _cost_of_a_query(family, data), seconds)
            _line(name, *recalls, *others.at_goal(), *(f"{cost:.2f}" for cost in costs))


def _line(name: str, *cells: str) -> None:
    print(f"{name:34}" + "".join(f"{cell:>11}" for cell in cells), flush=True)


def _schemes(rows: Vectors) -> dict[str, Callable[[], Hash]]:
    images = len(rows)

    def built(kind: str, size: int | None = None, seed: int = 0) -> HashFamily:
        return fit_family(rows, kind=kind, images=images, size=size, seed=seed)

    schemes: dict[str, Callable[[], Hash]] = {}
    for kind, bits in (("gaussian", 11), ("gaussian", 16), ("hyperplanes", 11)):
        schemes[f"{kind} {bits} bits, 8 tables"] = partial(built, kind, bits)
    schemes["kmeans flat, 1282"] = partial(_flat, rows, 1282)
    schemes["kmeans flat, 3072"] = partial(_flat, rows, 3072)
    for size in (600, 1282, 2048, 4096, 6144):
        schemes[f"kmeans {size}"] = partial(built, "kmeans", size)
    schemes["kmeans as built"] = partial(built, "kmeans")
    for side in (40, 64):
        schemes[f"multi-index {side} x {side}"] = partial(MultiIndex.fit, rows, side)
    schemes["kmeans, 30 % stored twice"] = partial(StoredTwice.fit, rows, 0.3)
    schemes["kmeans, 2 tables"] = lambda: TwoTables((built("kmeans"), built("kmeans", seed=1)))
    return schemes


def _flat(rows: Vectors, centroids: int) -> HashFamily:
    limit, lloyd.FLAT = lloyd.FLAT, centroids
    try:
        return KMeansFamily.fit(rows, centroids=centroids)
    finally:
        lloyd.FLAT = limit


@dataclass
class MultiIndex:
    """A. Babenko, V. Lempitsky, 'The inverted multi-index', CVPR 2012: pairs of centroids.

    The even components are one half of the space and the odd ones the other: as much variance.
    """

    basis: Vectors
    halves: tuple[Vectors, Vectors]

    @classmethod
    def fit(cls, rows: Vectors, side: int) -> MultiIndex:
        generator = np.random.default_rng(0)
        basis = principal_components(rows, generator).basis
        points = rows @ basis
        first, second = (
            lloyd.fit_cells(np.ascontiguousarray(points[:, half::2]), side, generator).centroids
            for half in (0, 1)
        )
        return cls(basis, (first, second))

    def buckets(self, vectors: Vectors) -> Buckets:
        points = vectors @ self.basis
        first, second = (
            nearest_centroids(points[:, half::2], centroids)
            for half, centroids in enumerate(self.halves)
        )
        return (first * len(self.halves[1]) + second).astype(np.uint32)[:, None]

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        points = vectors @ self.basis
        first, second = (
            np.square(centroids).sum(axis=1) - 2 * points[:, half::2] @ centroids.T
            for half, centroids in enumerate(self.halves)
        )
        sums = (first[:, :, None] + second[:, None, :]).reshape(len(vectors), -1)
        return np.argsort(sums, axis=1)[:, None, :count].astype(np.uint32)


@dataclass
class StoredTwice:
    """A vector that lies between two centroids is stored at both."""

    family: KMeansFamily
    ratio: float

    @classmethod
    def fit(cls, rows: Vectors, share: float) -> StoredTwice:
        family = KMeansFamily.fit(rows, centroids=centroids_for(len(rows)))
        ratios = cls(family, 0).two_nearest(rows)[1]
        return cls(family, float(np.quantile(ratios, share)))

    def two_nearest(self, vectors: Vectors) -> tuple[Buckets, NDArray[np.float32]]:
        """The two, and the ratio of the squared distances to the second and the first."""
        nearest = self.family.probes(vectors, 2)[:, 0]
        points = self.family.projection.points(*rounded(vectors))
        first, second = (
            np.square(points - self.family.points[nearest[:, place]]).sum(axis=1)
            for place in (0, 1)
        )
        return nearest, second / np.maximum(first, np.float32(1e-9))

    def buckets(self, vectors: Vectors) -> Buckets:
        nearest, ratios = self.two_nearest(vectors)
        second = np.where(ratios < self.ratio, nearest[:, 1], nearest[:, 0])
        return np.stack([nearest[:, 0], second], axis=1)[:, None, :]

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        return self.family.probes(vectors, count)


@dataclass
class TwoTables:
    """Two families of one table each."""

    families: tuple[HashFamily, HashFamily]

    def buckets(self, vectors: Vectors) -> Buckets:
        return np.concatenate([family.buckets(vectors) for family in self.families], axis=1)

    def probes(self, vectors: Vectors, count: int) -> Buckets:
        return np.concatenate([family.probes(vectors, count) for family in self.families], axis=1)


def _load(path: Path) -> Data:
    with np.load(path) as file:
        vectors = normalised(file["vectors"].astype(np.float32))
        sources = file["source"]
    order = np.random.default_rng(0).permutation(len(vectors))
    held, kept = order[:QUERIES], order[QUERIES:]
    cosines = vectors[held] @ vectors[kept].T
    everything = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    cosines[sources[held][:, None] == sources[kept]] = -np.inf
    others = np.argpartition(-cosines, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
    found = (everything, others)
    return Data(vectors[kept], sources[kept], vectors[held], sources[held], found)


def _curves(family: Hash, data: Data) -> tuple[Curve, Curve]:
    """The curves for all rows, and for those of other photographs."""
    buckets = family.buckets(data.rows).astype(np.int64).reshape(len(data.rows), -1)
    probes = family.probes(data.queries, PROBES).astype(np.int64)
    _, tables, steps = probes.shape
    # Where a row has two buckets in one table they are columns too, of one table.
    table = np.arange(buckets.shape[1]) % tables
    keys = (buckets << 8 | table).ravel()
    rows = np.repeat(np.arange(len(data.rows)), buckets.shape[1])
    # Once for a row stored twice at one and the same place.
    keys, rows = np.unique(np.stack([keys, rows]), axis=1)
    wanted = (probes << 8 | np.arange(tables)[:, None]).transpose(0, 2, 1).reshape(QUERIES, -1)
    starts, ends = np.searchsorted(keys, wanted), np.searchsorted(keys, wanted, side="right")
    totals = np.zeros((2, 3, steps))
    for query in range(QUERIES):
        spans = zip(starts[query], ends[query], strict=True)
        read = np.concatenate([rows[start:end] for start, end in spans])
        step = np.repeat(np.arange(steps * tables) // tables, ends[query] - starts[query])
        other = data.row_sources[read] != data.query_sources[query]
        for case, kept in enumerate((np.full(len(read), True), other)):
            neighbours = data.neighbours[case][query]
            totals[case] += _found(read[kept], step[kept], neighbours, steps)
    scale = np.array([QUERIES * NEIGHBOURS, *[QUERIES * len(data.rows)] * 2])[:, None]
    everything, others = (Curve(*(total.cumsum(axis=1) / scale)) for total in totals)
    return everything, others


def _found(
    read: NDArray[np.intp], step: NDArray[np.intp], neighbours: NDArray[np.intp], steps: int
) -> NDArray[np.intp]:
    """(3, steps): how many neighbours, postings and new rows each probe brings."""
    distinct, first = np.unique(read, return_index=True)
    hits = first[np.isin(distinct, neighbours)]
    return np.stack([np.bincount(step[i], minlength=steps) for i in (hits, slice(None), first)])


def _cost_of_a_vector(family: Hash, data: Data) -> float:
    start = time.process_time()
    family.buckets(data.rows)
    return (time.process_time() - start) / len(data.rows) * 1e6


def _cost_of_a_query(family: Hash, data: Data) -> float:
    start = time.process_time()
    for query in data.queries[:TIMED_QUERIES]:
        family.probes(query[None], TIMED_PROBES)
    return (time.process_time() - start) / TIMED_QUERIES * 1e6


if __name__ == "__main__":
    main()
