"""How many rows a query reads as the collection grows, and as its tables do.

Of a million vectors that are made by spreading real embeddings (as `bench.index` makes them), more
and more are put into more and more buckets, and also into partitions with tables of their own.
Counted is what recall@10 of .95 takes. docs/scale.md reads on from these figures.

    python -m bench.scale [--most 1000000]
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from bench.index_data import Data, prepare
from simdist.hashing import fit_family
from simdist.vectors.checks import normalised
from simdist.vectors.rotation import rotated

VECTORS = Path("../shared/data/vectors/caltech-crops-512.npz")
GOAL = 0.95
QUERIES = 500
# Images that tables are fitted on, for each bucket.
SAMPLE = 8
SIZES = (16, 4, 1)
BUCKETS = (2048, 8192, 32768)
PROBES = 256


@dataclass(frozen=True)
class Reading:
    """What recall .95 takes: probes in each partition, and rows in all of them."""

    images: int
    partitions: int
    buckets: int
    probes: int
    rows: float


def main() -> None:
    """Print the table, and the powers of images and buckets that fit it."""
    parser = argparse.ArgumentParser(description="Measure the rows that queries read at scale.")
    parser.add_argument("--most", type=int, default=1_000_000, help="vectors in the largest set")
    most = parser.parse_args().most
    data = Data.load(prepare(vectors=VECTORS, photos=None, size=most)).ask(QUERIES)
    print(f"{'images':>10}{'partitions':>12}{'buckets':>9}{'probes':>8}{'rows':>9}{'share':>9}")
    with threadpool_limits(1):
        single = [
            _read(data.head(most // part), 1, buckets) for part in SIZES for buckets in BUCKETS
        ]
        split = [_read(data, partitions, BUCKETS[-1] // 4) for partitions in (4,)]
    for one in (*single, *split):
        share = one.rows / one.images
        print(
            f"{one.images:>10,}{one.partitions:>12}{one.buckets:>9,}{one.probes:>8}"
            f"{one.rows:>9,.0f}{share:>9.3%}"
        )
    known = [one for one in single if one.probes < PROBES]
    terms = np.array([[1.0, math.log(one.images), math.log(one.buckets)] for one in known])
    wanted = np.array([math.log(one.rows) for one in known])
    (constant, images, buckets), *_ = np.linalg.lstsq(terms, wanted)
    print(f"rows = {math.exp(constant):.3g} images^{images:.2f} buckets^{buckets:.2f}")


def _read(data: Data, partitions: int, buckets: int) -> Reading:
    """Fit tables, put all vectors in, and see how many probes find the neighbours."""
    vectors = data.vectors
    queries = rotated(normalised(data.queries))
    ranks = np.empty((len(queries), data.nearest.shape[1]), np.int64)
    counts = np.zeros((len(queries), PROBES))
    for partition in range(partitions):
        rows = np.arange(partition, len(vectors), partitions)
        images = SAMPLE * buckets
        step = max(1, len(rows) // images)
        sample = rotated(normalised(vectors[rows[::step][:images]]))
        family = fit_family(sample, kind="kmeans", images=len(rows), size=buckets)
        placed = np.concatenate(
            [
                family.buckets(rotated(normalised(vectors[part])))[:, 0]
                for part in np.array_split(rows, max(1, len(rows) // 16384))
            ]
        )
        sizes = np.bincount(placed, minlength=buckets)
        probes = family.probes(queries, PROBES)[:, 0].astype(np.int64)
        counts += sizes[probes]
        # At which probe the bucket of each true neighbour comes; PROBES where at none.
        here = data.nearest % partitions == partition
        for query, near in enumerate(data.nearest):
            homes = placed[near[here[query]] // partitions]
            found = probes[query] == homes[:, None]
            ranks[query, here[query]] = np.where(found.any(axis=1), found.argmax(axis=1), PROBES)
    enough = int(np.quantile(ranks, GOAL, method="higher")) + 1
    read = counts[:, : min(enough, PROBES)].sum(axis=1).mean()
    return Reading(len(vectors), partitions, buckets, min(enough, PROBES), float(read))


if __name__ == "__main__":
    main()
