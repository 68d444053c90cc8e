"""A query's life: probe -> candidates -> rank -> hits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import CollectionError, UnknownImageError, UsageError
from simdist.index.buckets import OutdatedError
from simdist.index.collection import Collection
from simdist.index.partition import Partition, require_fitted
from simdist.index.tuning import ProbeChooser
from simdist.search.cache import BucketCache
from simdist.search.question import Hit, Question, check_recall
from simdist.settings import DEFAULT_RESULTS, MAX_RESULTS
from simdist.store import layout
from simdist.vectors.checks import shaped

if TYPE_CHECKING:
    from simdist.search.query_loops import Batch

# Buckets looked up in each table: with k-means buckets, recall@10 is about .95 (docs/families.md).
PROBES = 32
CACHE_MEMORY = 1 << 30
MAX_STALENESS = 1.0
# Of what a searcher may keep, the share for records (URIs, labels): some hundred bytes each.
_RECORDS_SHARE = 16
_RECORD_BYTES = 512
_HIT = partial(tuple.__new__, Hit)
# Of all records, what is forgotten at once when there are too many.
_FORGOTTEN = 16


class Searcher:
    """Finds the images of a collection that are most similar to a query.

    It keeps what it has read. While nothing is written, a query whose buckets it has costs no round
    trip to Redis but one each `max_staleness` seconds. One searcher is for one thread.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        cache_memory: int = CACHE_MEMORY,
        max_staleness: float = MAX_STALENESS,
    ) -> None:
        """A searcher that has read nothing yet.

        Args:
            cache_memory: bytes of buckets and vectors that it may keep.
            max_staleness: seconds that an answer may be behind the collection.
        """
        self.collection = collection
        chooser = ProbeChooser(collection.partitions)
        memory = cache_memory // len(collection.partitions)
        self._partitions = [
            _PartitionSearcher(partition, chooser, memory=memory, max_staleness=max_staleness)
            for partition in collection.partitions
        ]

    def ask(self, question: Question) -> list[Hit]:
        """The images most similar to what a question asks by, the best first.

        Raises:
            UsageError: it asks by an image or an address, which must be embedded first.
            UnknownImageError: the image that it names is not indexed.
            VectorError, CollectionError: as `search_many`.
        """
        # A label is looked for among the most that a search can find.
        n = question.n if question.label is None else MAX_RESULTS
        hits = self.search(self._vector(question), n=n, recall=question.recall)
        if question.label is not None:
            hits = [hit for hit in hits if hit.label == question.label][: question.n]
        if question.min_score is not None:
            hits = [hit for hit in hits if hit.score >= question.min_score]
        return hits

    def search(
        self,
        vector: ArrayLike,
        *,
        n: int = DEFAULT_RESULTS,
        probes: int | None = None,
        recall: float | None = None,
    ) -> list[Hit]:
        """The n most similar images: `search_many` for one query."""
        return self.search_many(np.asarray(vector)[None], n=n, probes=probes, recall=recall)[0]

    def search_many(
        self,
        vectors: ArrayLike,
        *,
        n: int = DEFAULT_RESULTS,
        probes: int | None = None,
        recall: float | None = None,
    ) -> list[list[Hit]]:
        """For each query the n most similar images, the best first; equal scores by their rows.

        Fewer are returned where the buckets that are looked up hold fewer.

        Args:
            vectors: (q, dim) numbers, rows of any length but zero.
            n: 1 to `MAX_RESULTS`.
            probes: buckets looked up in each table: more find more, and take longer; `PROBES`
                by default.
            recall: in place of `probes`: as few as find this share of the 10 most similar images,
                measured by `tuning.tune`; 1 looks up every bucket.

        Raises:
            UsageError: `n`, `probes` or `recall` is out of range, or both of the last are given.
            VectorError: a wrong shape, not finite or of length zero.
            CollectionError: the collection is empty; or a recall is asked for, and its tables have
                not been measured or cannot reach it.
        """
        if not 1 <= n <= MAX_RESULTS:
            raise UsageError(f"the number of results must be between 1 and {MAX_RESULTS}")
        _check_effort(probes, recall)
        queries = shaped(vectors, dim=self.collection.dim)
        if not len(queries):
            return []
        if len(self._partitions) == 1:
            return self._partitions[0].search(queries, n=n, probes=probes, recall=recall)
        parts = [
            part.search(queries, n=n, probes=probes, recall=recall)
            for part in self._partitions
            if part.is_fitted()
        ]
        if not parts:
            require_fitted(self.collection.partitions)
        if len(parts) == 1:
            return parts[0]
        # Sorting is stable: equal scores stay in the order of partitions, then of rows.
        return [
            sorted((hit for hits in found for hit in hits), key=lambda hit: -hit.score)[:n]
            for found in zip(*parts, strict=True)
        ]

    @property
    def rows_read(self) -> int:
        """Vectors scored so far, by all queries."""
        return sum(part.rows_read for part in self._partitions)

    @property
    def cache_misses(self) -> int:
        """Times that buckets had to be read from Redis so far."""
        return sum(part.cache_misses for part in self._partitions)

    def _vector(self, question: Question) -> ArrayLike:
        if question.vector is not None:
            return question.vector
        if question.uri is not None:
            stored = self.collection.get(question.uri)
        elif question.id is not None:
            stored = self.collection.get_by_digest(bytes.fromhex(question.id))
        else:
            raise UsageError(
                "a search here is by a vector, or by the URI or id of an indexed image"
            )
        if stored is None:
            name = question.uri or "no image of that id"
            raise UnknownImageError(f"{name} is not indexed in {self.collection.name!r}")
        return stored.vector


def _check_effort(probes: int | None, recall: float | None) -> None:
    if probes is not None and probes < 1:
        raise UsageError("at least one bucket must be probed")
    if recall is not None:
        if probes is not None:
            raise UsageError("ask for a number of probes or for a recall, not for both")
        check_recall(recall)


class _PartitionSearcher:
    """The search in one partition, and what is kept of it."""

    def __init__(
        self, partition: Partition, chooser: ProbeChooser, *, memory: int, max_staleness: float
    ) -> None:
        self._partition = partition
        self._chooser = chooser
        self._memory = memory
        self._max_staleness = max_staleness
        self._max_records = max(MAX_RESULTS, memory // _RECORDS_SHARE // _RECORD_BYTES)
        # Row -> URI, label, metadata.
        self._records: dict[int, tuple[str, str | None, Mapping[str, Any]]] = {}
        self._cache: BucketCache | None = None
        self._checked_at = 0.0
        self.rows_read = 0
        self.cache_misses = 0

    def is_fitted(self) -> bool:
        """Whether there is anything to search in."""
        try:
            return (self._cache and self._synced()) is not None or self._partition.is_fitted()
        except OutdatedError:
            self._forget()
            return self._partition.is_fitted()

    def search(
        self, queries: NDArray[np.float32], *, n: int, probes: int | None, recall: float | None
    ) -> list[list[Hit]]:
        """For each query its n best."""
        while True:
            try:
                cache = self._synced()
                before = cache.readings
                count = self._probes(cache, recall) if recall else probes or PROBES
                found = self._search(cache, queries, n, count)
            except OutdatedError:
                self._forget()
            else:
                self.cache_misses += cache.readings - before
                return found

    def _forget(self) -> None:
        """Nothing that was read holds any more: the rows may be those of other images."""
        self._cache = None
        self._records.clear()
        self._partition.forget()

    def _synced(self) -> BucketCache:
        """The cache, as new as it must be."""
        now = time.monotonic()
        if self._cache is None:
            # The rest of the memory is for its values.
            memory = self._memory - self._memory // _RECORDS_SHARE
            generation = self._partition.hashing().generation
            self._cache = BucketCache(self._partition, generation=generation, memory=memory)
        elif now - self._checked_at < self._max_staleness:
            return self._cache
        self._cache.sync()
        self._checked_at = now
        return self._cache

    def _probes(self, cache: BucketCache, recall: float) -> int:
        """The number of probes; if these tables turn out to be replaced, it is chosen anew."""
        try:
            return self._chooser.probes(recall, self._partition, cache.generation)
        except CollectionError:
            cache.sync()
            raise

    def _search(
        self, cache: BucketCache, queries: NDArray[np.float32], n: int, probes: int
    ) -> list[list[Hit]]:
        best, scored = cache.rank(queries, n, probes)
        self.rows_read += scored
        return [self._hits(cache, queries, probes, best, i) for i in range(len(queries))]

    def _hits(
        self, cache: BucketCache, queries: NDArray[np.float32], probes: int, best: Batch, i: int
    ) -> list[Hit]:
        """What is found for the i-th query."""
        found, n = int(best.found[i]), best.rows.shape[1]
        rows, scores = best.rows[i, :found].tolist(), best.scores[i, :found].tolist()
        if not rows:
            return []
        try:
            records = [self._records[row] for row in rows]
        except KeyError:
            if self._know(cache, rows):
                return self._hits(cache, queries, probes, best, i)
            # One has been deleted meanwhile.
            again, scored = cache.rank(queries[i : i + 1], n, probes)
            self.rows_read += scored
            return self._hits(cache, queries[i : i + 1], probes, again, 0)
        uris, labels, metadata = zip(*records, strict=True)
        # As `Hit._make` does it, without a call in Python for each.
        return list(map(_HIT, zip(uris, scores, labels, metadata, strict=True)))

    def _know(self, cache: BucketCache, rows: Sequence[int]) -> bool:
        """Have the records of these rows; False if one has been deleted meanwhile."""
        if len(self._records) + len(rows) > self._max_records:
            # The oldest go, and some at once: not all, or every query would wait for its own anew.
            oldest = islice(self._records, max(len(rows), self._max_records // _FORGOTTEN))
            for row in list(oldest):
                del self._records[row]
        missing = [row for row in rows if row not in self._records]
        stored = self._partition.rows(np.array(missing, np.uint32), moment=cache.moment)
        gone = [row for row, pair in zip(missing, stored, strict=True) if pair is None]
        for row, pair in zip(missing, stored, strict=True):
            if pair is not None:
                record = layout.unpack_record(pair[1])
                self._records[row] = record.uri, record.label, record.metadata
        cache.bury(np.array(gone, np.uint32))
        return not gone
