"""How good a collection's answers are: against exact search, and against the labels.

Some of the stored images are searched for, each among all others, through the hash tables as
every search is.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, UsageError
from simdist.index.collection import Collection
from simdist.index.exact import (
    OnProgress,
    Queries,
    draw_queries,
    exact_neighbours,
)
from simdist.index.partition import require_fitted
from simdist.index.snapshot import Snapshot, take_snapshots
from simdist.search.query import Query
from simdist.search.question import Hit
from simdist.search.searcher import Searcher
from simdist.settings import MAX_RESULTS
from simdist.store import layout

QUERIES = 1000
NEIGHBOURS = 10
WORST = 10
# Queries that are timed, one by one.
_TIMED = 1000
_AT_ONCE = 256
# Scores that differ by less are equal: the tables and exact search round differently.
_ROUNDING = 1e-5


# A query, its vector, (dim,), and its label.
_Asked = tuple[Query, NDArray[np.float32], str | None]


@dataclass(frozen=True)
class Scores:
    """How well the answers to some labelled queries agree with the labels.

    Attributes:
        queries: how many there were; those whose label no other image has are not counted.
        precision: precision@k, the share of the k best hits that have the query's label.
        agreement: the share of queries whose best hit has their label.
        average_precision: mAP@k: the mean over the queries of the mean, over the ranks up to k at
            which a hit has the query's label, of the precision up to that rank; those that could
            be found and were not count as 0.
    """

    queries: int
    precision: float
    agreement: float
    average_precision: float


@dataclass(frozen=True)
class Answer:
    """A query and what was found; `average_precision` is None where nothing could be right."""

    query: Query
    label: str | None
    hits: tuple[Hit, ...]
    average_precision: float | None


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a collection.

    Attributes:
        images: in the collection.
        queries: how many of them were searched for.
        k: hits of each.
        recall: recall@k, the share of the k most similar images that the tables find.
        candidates: vectors scored by a query, the mean.
        median_ms, slow_ms: milliseconds of a query once its buckets are in memory: the median, and
            what 99 of 100 stay below.
        overall: of all labelled queries; None where there are none.
        precision_at: precision at each rank from 1 to k.
        categories: of the queries of each label.
        worst: the labelled queries with the lowest average precision.
    """

    images: int
    queries: int
    k: int
    recall: float
    candidates: float
    median_ms: float
    slow_ms: float
    overall: Scores | None
    precision_at: tuple[float, ...]
    categories: dict[str, Scores]
    worst: tuple[Answer, ...]

    @property
    def mean_category(self) -> Scores | None:
        """The means over the categories, in which a small one counts as much as a large one.

        As usual for Caltech-101 and the like; None where there are none.
        """
        if not self.categories:
            return None
        each = self.categories.values()
        return Scores(
            sum(of.queries for of in each),
            fmean(of.precision for of in each),
            fmean(of.agreement for of in each),
            fmean(of.average_precision for of in each),
        )


def evaluate(
    collection: Collection,
    *,
    queries: int = QUERIES,
    k: int = NEIGHBOURS,
    recall: float | None = None,
    seed: int = 0,
    on_progress: OnProgress = lambda *_: None,
) -> Evaluation:
    """Search for some of a collection's images through its tables, and compare what is found.

    Exact search reads every stored vector once, in blocks. Nothing is written.

    Args:
        queries: about how many; all images, if there are no more.
        k: how many hits each query is to have.
        recall: what the searches ask for, see `Searcher.search_many`; 1 looks up every bucket.
        seed: for the choice of the queries.

    Raises:
        UsageError: `k` is out of range.
        CollectionError: there are fewer than two images.
    """
    if not 1 <= k < MAX_RESULTS:
        raise UsageError(f"k must be between 1 and {MAX_RESULTS - 1}")
    require_fitted(collection.partitions)
    snapshots = take_snapshots(collection.partitions, following=False)
    images = sum(snapshot.live for snapshot in snapshots)
    if images < 2:
        raise CollectionError(
            f"the collection {collection.name!r} needs at least two images to be evaluated"
        )
    drawn = draw_queries(snapshots, queries, np.random.default_rng(seed))
    asked = _asked(snapshots, drawn)
    # Searched first, so that a recall that cannot be had says so at once.
    searcher = Searcher(collection)
    hits = _search(searcher, asked, k, recall, on_progress)
    times, candidates = _time(searcher, asked, k, recall)
    exact = exact_neighbours(snapshots, drawn, min(k, images - 1), on_progress)
    labels = _label_counts(snapshots, on_progress)
    answers = [
        _answer(query, label, found, labels, k)
        for (query, _, label), found in zip(asked, hits, strict=True)
    ]
    judged = [answer for answer in answers if answer.average_precision is not None]
    return Evaluation(
        images=images,
        queries=len(asked),
        k=k,
        recall=_recall(exact.scores, hits),
        candidates=candidates,
        median_ms=float(np.percentile(times, 50)),
        slow_ms=float(np.percentile(times, 99)),
        overall=_scores(judged, k) if judged else None,
        precision_at=tuple(_right(judged, k).mean(axis=0).tolist()) if judged else (),
        categories=_categories(judged, k),
        worst=tuple(sorted(judged, key=lambda answer: answer.average_precision or 0.0)[:WORST]),
    )


def _asked(snapshots: Sequence[Snapshot], drawn: Queries) -> list[_Asked]:
    """The queries with their vectors and labels; without those that were deleted meanwhile."""
    vectors = snapshots[0].partition.codec.turned_back(drawn.vectors)
    asked: list[_Asked] = []
    for number, snapshot in enumerate(snapshots):
        numbers = np.flatnonzero(drawn.snapshots == number)
        for start in range(0, len(numbers), _AT_ONCE):
            some = numbers[start : start + _AT_ONCE]
            stored = snapshot.partition.rows(drawn.rows[some].astype(np.uint32))
            for query_number, pair in zip(some, stored, strict=True):
                record = layout.unpack_record(pair[1]) if pair else layout.Record("", None, {})
                query = Query(record.uri, record.uri, None)
                asked.append((query, vectors[query_number], record.label))
    return asked


def _search(
    searcher: Searcher,
    asked: Sequence[_Asked],
    k: int,
    recall: float | None,
    on_progress: OnProgress,
) -> list[list[Hit]]:
    """For each query its k best, itself left out."""
    found: list[list[Hit]] = []
    for start in range(0, len(asked), _AT_ONCE):
        some = asked[start : start + _AT_ONCE]
        vectors = np.stack([vector for _, vector, _ in some])
        for (query, _, _), hits in zip(
            some, searcher.search_many(vectors, n=k + 1, recall=recall), strict=True
        ):
            found.append([hit for hit in hits if hit.uri != query.uri][:k])
        on_progress("searching", len(found), len(asked))
    return found


def _time(
    searcher: Searcher, asked: Sequence[_Asked], k: int, recall: float | None
) -> tuple[NDArray[np.float64], float]:
    """Milliseconds of single searches, and the mean of the vectors that each scored."""
    before, times = searcher.rows_read, []
    for _, vector, _ in asked[:_TIMED]:
        start = time.perf_counter()
        searcher.search(vector, n=k, recall=recall)
        times.append(1000 * (time.perf_counter() - start))
    return np.array(times), (searcher.rows_read - before) / len(times)


def _label_counts(snapshots: Sequence[Snapshot], on_progress: OnProgress) -> Counter[str]:
    """How many images have each label."""
    counts: Counter[str] = Counter()
    total, done = sum(snapshot.rows for snapshot in snapshots), 0
    for snapshot in snapshots:
        for _, records in snapshot.partition.blocks.records(0, snapshot.rows):
            counts.update(record.label for record in records if record.label is not None)
            done += len(records)
            on_progress("reading labels", done, total)
    return counts


def _recall(exact: NDArray[np.float32], hits: Sequence[Sequence[Hit]]) -> float:
    """The mean share of the nearest that is found: hits at least as near as the last of those."""
    shares = []
    for scores, found in zip(exact, hits, strict=True):
        near = scores[np.isfinite(scores)]
        if len(near):
            last = near.min() - _ROUNDING
            shares.append(min(sum(hit.score >= last for hit in found), len(near)) / len(near))
    return float(np.mean(shares)) if shares else 1.0


def _answer(
    query: Query, label: str | None, hits: Sequence[Hit], counts: Counter[str], k: int
) -> Answer:
    others = counts[label] - 1 if label is not None else 0
    if others < 1:
        return Answer(query, label, tuple(hits), None)
    right = np.array([hit.label == label for hit in hits], np.float64)
    precisions = np.cumsum(right) / np.arange(1, len(right) + 1)
    return Answer(query, label, tuple(hits), float((right * precisions).sum() / min(k, others)))


def _right(answers: Sequence[Answer], k: int) -> NDArray[np.float64]:
    """(n, k) the share of hits with the query's label, up to each rank."""
    right = np.zeros((len(answers), k))
    for row, answer in zip(right, answers, strict=True):
        row[: len(answer.hits)] = [hit.label == answer.label for hit in answer.hits]
    shares: NDArray[np.float64] = np.cumsum(right, axis=1) / np.arange(1, k + 1)
    return shares


def _categories(judged: Sequence[Answer], k: int) -> dict[str, Scores]:
    """The scores of the queries of each label, by label."""
    by_label: dict[str, list[Answer]] = {}
    for answer in judged:
        by_label.setdefault(str(answer.label), []).append(answer)
    return {label: _scores(by_label[label], k) for label in sorted(by_label)}


def _scores(answers: Sequence[Answer], k: int) -> Scores:
    shares = _right(answers, k).mean(axis=0)
    mean = float(np.mean([answer.average_precision or 0.0 for answer in answers]))
    return Scores(len(answers), float(shares[-1]), float(shares[0]), mean)
