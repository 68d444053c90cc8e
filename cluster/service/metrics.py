"""What a query worker counts, for Prometheus; and how the counts of all workers become one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from simdist.search.searcher import Searcher

M = TypeVar("M", bound=MetricWrapperBase)

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds: a warm search takes a fraction of a millisecond, an image on a CPU tens.
_SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)


class ServiceMetrics:
    """A worker's metrics. All of them carry the label `worker`.

    simdist_requests_total: by `route` and `status`.
    simdist_request_seconds: by `route`.
    simdist_stage_seconds: by `stage`: look up, fetch, decode, embed, search.
    simdist_requests_under_way: requests that the worker has at the moment.
    simdist_searches_total: by `collection` and the `recall` that was asked for ("default": none).
    simdist_rows_read: vectors scored by the worker's searches so far, by `collection`.
    simdist_cache_misses: searches that had to read buckets from Redis so far, by `collection`.
    """

    def __init__(self, worker: str) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._worker = worker
        self._known: dict[tuple[MetricWrapperBase, tuple[str, ...]], MetricWrapperBase] = {}
        self._requests = Counter(
            "simdist_requests", "Requests", ["worker", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "simdist_request_seconds",
            "Seconds a request",
            ["worker", "route"],
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._stages = Histogram(
            "simdist_stage_seconds",
            "Seconds a stage of a request, waiting for its turn included",
            ["worker", "stage"],
            registry=self._registry,
            buckets=_SECONDS,
        )
        self._under_way = Gauge(
            "simdist_requests_under_way",
            "Requests at the moment",
            ["worker"],
            registry=self._registry,
        )
        self._searches = Counter(
            "simdist_searches",
            "Searches",
            ["worker", "collection", "recall"],
            registry=self._registry,
        )
        self._rows_read = Gauge(
            "simdist_rows_read",
            "Vectors scored",
            ["worker", "collection"],
            registry=self._registry,
        )
        self._cache_misses = Gauge(
            "simdist_cache_misses",
            "Searches that read from Redis",
            ["worker", "collection"],
            registry=self._registry,
        )

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._one(self._requests, route, str(status)).inc()
        self._one(self._seconds, route).observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        """Count what a stage of a request took."""
        self._one(self._stages, stage).observe(seconds)

    def under_way(self, count: Callable[[], int]) -> None:
        """Have a function tell how many requests there are at the moment, when somebody asks."""
        self._one(self._under_way).set_function(count)

    def searched(self, searcher: Searcher, recall: float | None, searches: int = 1) -> None:
        """Count searches."""
        # Two digits: whatever callers ask for, there are a hundred series at most.
        wish = "default" if recall is None else f"{recall:.2f}"
        name = searcher.collection.name
        self._one(self._searches, name, wish).inc(searches)
        self._one(self._rows_read, name).set(searcher.rows_read)
        self._one(self._cache_misses, name).set(searcher.cache_misses)

    def _one(self, family: M, *labels: str) -> M:
        """What is counted under these labels; `labels()` takes longer than counting."""
        key = family, labels
        if key not in self._known:
            self._known[key] = family.labels(self._worker, *labels)
        return cast(M, self._known[key])

    def collect(self) -> list[Metric]:
        """All of them, as they are now."""
        return list(self._registry.collect())


class _Given(Collector):
    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


def exposition(workers: Iterable[Sequence[Metric]]) -> bytes:
    """The metrics of several workers in Prometheus's text format."""
    families: dict[str, Metric] = {}
    for metrics in workers:
        for metric in metrics:
            if metric.name in families:
                families[metric.name].samples.extend(metric.samples)
            else:
                families[metric.name] = metric
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given(families.values()))
    return generate_latest(registry)
