"""The compiled loops of a search, made ahead: a new installation's first search would wait."""

from __future__ import annotations

from typing import Any

import numpy as np

from simdist.hashing.kmeans import KMeansFamily
from simdist.search.kept import KeptBuckets
from simdist.search.refining import Refiner
from simdist.vectors.codec import Codec
from simdist.vectors.codes import BITS, Codes


def compile_all() -> None:
    """Compile what ingests and searches call, for this processor: a minute, when an image is built.

    Kept beside the code it serves every user of the installation.
    """
    from simdist.prints.prints import prints_of

    prints_of(np.zeros((1, 64, 64, 3), np.uint8))
    for dtype in ("int8", "float32"):
        compile_search(Codec.of(dtype, 64))
    codec = Codec.of("int8", 64)
    for bits in BITS:
        compile_search(codec, Codes.of(codec, bits))


def compile_search(codec: Codec, codes: Codes | None = None) -> None:
    """Compile what a search among such vectors needs, if it can be kept on disk: some seconds.

    What is there already is only loaded.

    Args:
        codes: what buckets hold of them, if it is that.
    """
    from simdist.search import query_loops
    from simdist.search.chain_loops import Tails, rank_chains
    from simdist.search.passing_loops import gather

    # What numba has made of it.
    rank_vectors: Any = query_loops.rank_vectors
    if rank_vectors.stats.cache_path is None:
        return
    vectors = codec.turned(np.eye(2, codec.dim, dtype=np.float32) + np.float32(0.5))
    family = KMeansFamily.fit(vectors, centroids=2)
    kept = KeptBuckets(codes or codec, 1 << 20)
    rows, packed = np.arange(2, dtype=np.uint32), codec.pack(vectors)
    here = codes.pack(packed) if codes else packed
    one = np.zeros(1, np.int64)
    _, lengths = (codes or codec).unpack(here)
    kept.append(Tails(one, one, one + 2, one, one + 2, rows, lengths, here))
    kept.use(one)
    batch = query_loops.Batch.empty(1, codec.dim, places=1, n=1)
    batch.vectors[:] = vectors[:1]
    view = query_loops.Kept(kept.table, kept.rows, np.zeros(0, np.uint8))
    turning, (ranking, cells) = query_loops.Turning(*codec.turning()), family.ranking(1)
    headers = query_loops.all_headers(batch, turning, view, ranking)
    rank_vectors(kept.rows.values, kept.rows.bits, headers, cells, 0, 1)
    chains = kept.chains(one)
    found, none = np.zeros(8, np.int32), np.zeros(1, np.uint8)
    of_rows = kept.rows.leaps, kept.rows.rows
    gather(one, 0, 1, kept.table, *of_rows, none, none.copy(), 0, 1, found)
    family.probes(vectors, 2)
    best = batch.rows[0], batch.scores[0]
    rank_chains(batch.query(0), *chains, kept.rows, view.dead, 0, *best)
    if codes:
        refiner = Refiner(codec, memory=0)
        for row in rows.tolist():
            refiner.keep(row, packed[row])
        refiner.best(batch, 1)
