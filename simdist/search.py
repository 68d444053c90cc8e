"""A query's life: probe -> candidates -> rank -> hits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.collection import Collection
from simdist.errors import UsageError
from simdist.settings import DEFAULT_RESULTS, MAX_RESULTS
from simdist.store import layout
from simdist.vectors import checked, normalised

# Buckets looked up in each table: with k-means buckets, recall@10 is about .96 (docs/decisions.md).
PROBES = 24


@dataclass(frozen=True)
class Hit:
    """A similar image. `score` is the cosine similarity, 1 at the most."""

    uri: str
    score: float
    label: str | None
    metadata: Mapping[str, Any]


class Searcher:
    """Finds the images of a collection that are most similar to a query."""

    def __init__(self, collection: Collection) -> None:
        self.collection = collection

    def search(self, vector: ArrayLike, *, n: int = DEFAULT_RESULTS) -> list[Hit]:
        """The n most similar images, the best first; equal scores in the order of their rows.

        Fewer are returned where the buckets that are looked up hold fewer.

        Args:
            vector: (dim,) numbers of any length but zero.
            n: 1 to `MAX_RESULTS`.

        Raises:
            UsageError: `n` is out of range.
            VectorError: a wrong shape, not finite or of length zero.
            CollectionError: the collection is empty.
        """
        if not 1 <= n <= MAX_RESULTS:
            raise UsageError(f"the number of results must be between 1 and {MAX_RESULTS}")
        tables = self.collection.tables
        query = normalised(checked(np.atleast_2d(vector), dim=tables.dim))
        rows = None
        # None: the tables were rebuilt between the two calls.
        while rows is None:
            hashing = tables.hashing()
            probes = hashing.family.probes(query, PROBES)[0]
            rows = tables.bucket_rows(hashing.generation, probes)
        records = [record for record in tables.records(rows.tolist()) if record is not None]
        if not records:
            return []
        values, _ = layout.unpack_vectors(records, dim=tables.dim, dtype=tables.dtype)
        scores = _cosines(values, query[0])
        best = np.argsort(-scores, kind="stable")[:n]
        return [self._hit(records[i], float(scores[i])) for i in best]

    def _hit(self, packed: bytes, score: float) -> Hit:
        record = self.collection.tables.unpack(packed)
        return Hit(record.uri, score, record.label, record.metadata)


def _cosines(values: NDArray[Any], query: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, d) stored values and a (d,) query of length 1 -> (n,) cosine similarities."""
    stored = values.astype(np.float32)
    lengths = np.sqrt(np.einsum("nd,nd->n", stored, stored))
    cosines: NDArray[np.float32] = np.minimum((stored @ query) / lengths, np.float32(1))
    return cosines
