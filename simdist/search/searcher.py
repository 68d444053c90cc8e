"""A query's life: probe -> candidates -> rank -> hits."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.index.declared import declared
from simdist.index.following import Following
from simdist.index.partition import require_fitted
from simdist.index.tuning import ProbeChooser
from simdist.index.where import Where
from simdist.search.examples import named_vector, settled
from simdist.search.grouping import Grouping
from simdist.search.pages import Cursor, Hits, best_of
from simdist.search.partition_searcher import PartitionSearcher, Wish
from simdist.search.question import Question, check_recall
from simdist.settings import DEFAULT_RESULTS, MAX_RESULTS
from simdist.vectors.checks import shaped

CACHE_MEMORY = 1 << 30
MAX_STALENESS = 1.0


class Searcher:
    """Finds the images of a collection that are most similar to a query.

    It keeps what it has read. While nothing is written, a query whose buckets it has costs no round
    trip to Redis but two each `max_staleness` seconds. One searcher is for one thread. It follows
    the name that the collection was opened by: where an alias leads elsewhere, so do its searches.
    """

    def __init__(
        self,
        collection: Collection,
        *,
        partitions: Callable[[int], Sequence[int]] | None = None,
        cache_memory: int = CACHE_MEMORY,
        max_staleness: float = MAX_STALENESS,
    ) -> None:
        """A searcher that has read nothing yet.

        Args:
            partitions: the numbers of those that it searches, of so many; by default all.
            cache_memory: bytes of buckets and vectors that it may keep.
            max_staleness: seconds that an answer may be behind the collection.
        """
        self.collection = collection
        self._following = Following(collection, max_staleness=max_staleness)
        self._model_id = collection.model_id
        self._numbers = partitions or range
        self._cache_memory = cache_memory
        self._max_staleness = max_staleness
        self._counted = 0, 0
        self._partitions = self._begin()

    def _begin(self) -> list[PartitionSearcher]:
        partitions, stale = self.collection.partitions, self._max_staleness
        chooser, numbers = ProbeChooser(partitions), self._numbers(len(partitions))
        memory = self._cache_memory // max(1, len(numbers))
        return [
            PartitionSearcher(partitions[i], chooser, memory=memory, max_staleness=stale)
            for i in numbers
        ]

    def _follow(self, *, by_vectors: bool, made_by: str = "") -> None:
        """Go over to the collection that the name leads to by now.

        Args:
            made_by: the model of the vectors; by default that of the collection at first.

        Raises:
            ModelMismatchError: its embeddings are of another model than the vectors that are given.
        """
        collection = self._following.now()
        if collection is not self.collection:
            self._counted = self.rows_read, self.cache_misses
            self.collection = collection
            self._partitions = self._begin()
        if by_vectors:
            collection.require_model(made_by or self._model_id)
            self._model_id = collection.model_id

    def prepare(self) -> None:
        """Read the fields whose types the collection knows, before a filter asks for them."""
        if fields := [f"metadata.{one.name}" for one in declared(self.collection)]:
            for part in self._partitions:
                if part.is_fitted():
                    part.prepare(fields)

    def ask(self, question: Question) -> Hits:
        """The images most similar to what a question asks by, the best first.

        Raises:
            UsageError: it asks by an image or an address, which must be embedded first.
            UnknownImageError: the image that it names is not indexed.
            VectorError, CollectionError: as `search_many`.
        """
        examples = [*question.positive, *question.unlike] if question.several else [question]
        by_vectors = any(one.vector is not None for one in examples)
        self._follow(by_vectors=by_vectors, made_by=question.made_by)
        question = settled(self.collection, question)
        vector = named_vector(self.collection, question)
        query = np.asarray(vector)[None]
        if question.group_by is None:
            return self._page(query, question)
        grouping = Grouping(question)
        while (asked := grouping.question) is not None:
            grouping.take(asked, self._page(query, asked))
        return grouping.answer()

    def _page(self, query: NDArray[Any], question: Question) -> Hits:
        """What ranks behind what was answered before.

        All of that is searched for again: what has come or gone meanwhile moves nothing.
        """
        after = None if question.after is None else Cursor.read(question.after)
        before = question.offset + (after.seen if after else 0)
        n = before + question.n + len(question.without)
        while True:
            wish = Wish(n, None, question.recall, question.filter, question.min_score)
            [found] = self._search_many(query, wish)
            if question.min_score is not None:
                high = bisect_right(found, -question.min_score, key=lambda hit: -hit.score)
                found = found.part(slice(high))
            kept = [
                i
                for i, hit in enumerate(found)
                if hit.uri not in question.without and (after is None or found.rank(i) > after.rank)
            ][question.offset :]
            # Where others have come before it, more must be searched for.
            if len(kept) >= question.n or len(found) < n:
                return found.part(kept[: question.n]).continued(question.n, before)
            n *= 2

    def search(
        self,
        vector: ArrayLike,
        *,
        n: int = DEFAULT_RESULTS,
        probes: int | None = None,
        recall: float | None = None,
        where: str | None = None,
    ) -> Hits:
        """The n most similar images: `search_many` for one query."""
        queries = np.asarray(vector)[None]
        return self.search_many(queries, n=n, probes=probes, recall=recall, where=where)[0]

    def search_many(
        self,
        vectors: ArrayLike,
        *,
        n: int = DEFAULT_RESULTS,
        probes: int | None = None,
        recall: float | None = None,
        where: str | None = None,
    ) -> list[Hits]:
        """For each query the n most similar images, the best first; equal scores by their rows.

        Fewer are returned only where there are fewer, or where the `probes` hold fewer.

        Args:
            vectors: (q, dim) numbers, rows of any length but zero.
            n: 1 to `MAX_RESULTS`.
            probes: buckets looked up in each table: more find more, and take longer. By default
                `PROBES`, or more where these do not hold n images.
            recall: in place of `probes`: as few as find this share of the 10 most similar images,
                measured by `tuning.tune`; 1 looks up every bucket.
            where: find only images that pass this filter (`simdist.index.where`).

        Raises:
            UsageError: `n`, `probes` or `recall` is out of range, or both of the last are given; or
                the filter is none.
            VectorError: a wrong shape, not finite or of length zero.
            CollectionError: the collection is empty, or gone; or a recall is asked for, and its
                tables have not been measured or cannot reach it. Or another model has made its
                embeddings anew.
        """
        self._follow(by_vectors=True)
        passing = None if where is None else Where.parse(where)
        if not 1 <= n <= MAX_RESULTS:
            raise UsageError(f"the number of results must be between 1 and {MAX_RESULTS:,}")
        found = self._search_many(vectors, Wish(n, probes, recall, passing))
        return [hits.continued(n) for hits in found]

    def _search_many(self, vectors: ArrayLike, wish: Wish) -> list[Hits]:
        """`search_many` in the collection that the name has led to."""
        _check_effort(wish.probes, wish.recall)
        queries = shaped(vectors, dim=self.collection.dim)
        if not len(queries):
            return []
        if len(self.collection.partitions) == 1 == len(self._partitions):
            return self._partitions[0].search(queries, wish)
        parts = [part.search(queries, wish) for part in self._partitions if part.is_fitted()]
        if not parts:
            require_fitted(self.collection.partitions)
            return [Hits() for _ in queries]
        return [best_of(found, wish.n) for found in zip(*parts, strict=True)]

    @property
    def rows_read(self) -> int:
        """Vectors scored so far, by all queries."""
        return self._counted[0] + sum(part.rows_read for part in self._partitions)

    @property
    def cache_misses(self) -> int:
        """Times that buckets had to be read from Redis so far."""
        return self._counted[1] + sum(part.cache_misses for part in self._partitions)


def _check_effort(probes: int | None, recall: float | None) -> None:
    if probes is not None and probes < 1:
        raise UsageError("at least one bucket must be probed")
    if recall is not None:
        if probes is not None:
            raise UsageError("ask for a number of probes or for a recall, not for both")
        check_recall(recall)
