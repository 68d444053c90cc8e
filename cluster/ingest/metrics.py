"""An ingest's counts as metrics of the Ray cluster, for Prometheus to scrape."""

from __future__ import annotations

from typing import Any

from simdist.ingest.progress import Progress

_PREFIX = "simdist_ingest_"


class Exporter:
    """Sets the metrics; Ray's agent on the driver's node serves them, with `ray_` before the names.

    simdist_ingest_images: images by `outcome` (done, failed, skipped), a counter.
    simdist_ingest_listed: entries met in the source, a counter.
    simdist_ingest_busy: by `stage`, see `Progress.stages`.
    simdist_ingest_shards: by `queue`, see `Progress.queues`.
    """

    def __init__(self, collection: str) -> None:
        from ray.util.metrics import Counter, Gauge

        self._tags = {"collection": collection}
        self._counters: dict[str, Any] = {
            "images": Counter(_PREFIX + "images", "Images", tag_keys=("collection", "outcome")),
            "listed": Counter(_PREFIX + "listed", "Entries listed", tag_keys=("collection",)),
        }
        self._gauges: dict[str, Any] = {
            "busy": Gauge(
                _PREFIX + "busy",
                "Share of the time that a stage is busy",
                tag_keys=("collection", "stage"),
            ),
            "shards": Gauge(
                _PREFIX + "shards", "Shards in a queue", tag_keys=("collection", "queue")
            ),
        }
        self._counted: dict[tuple[str, str], int] = {}

    def export(self, progress: Progress) -> None:
        """Set the metrics to what they are now."""
        self._count("listed", "", progress.listed)
        for outcome in ("done", "failed", "skipped"):
            self._count("images", outcome, getattr(progress, outcome))
        for stage, share in progress.stages.items():
            self._gauges["busy"].set(share, self._tags | {"stage": stage})
        for queue, length in progress.queues.items():
            self._gauges["shards"].set(length, self._tags | {"queue": queue})

    def _count(self, name: str, outcome: str, total: int) -> None:
        more = total - self._counted.get((name, outcome), 0)
        if more:
            tags = self._tags | ({"outcome": outcome} if outcome else {})
            self._counters[name].inc(more, tags)
            self._counted[name, outcome] = total
