"""Ray clusters of several nodes, all of them on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray.cluster_utils import Cluster

# With these a node that dies is missed within seconds, not half a minute.
WATCHFUL = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}


@contextmanager
def ray_cluster(
    *nodes: dict[str, Any], settings: dict[str, Any] | None = None
) -> Iterator[Cluster]:
    """Ray's nodes with these resources, a head first.

    Without the processes of the head that serve people: they start with every cluster, and each
    takes as long as a worker.

    Args:
        settings: of Ray's own.
    """
    unwatched = {"include_dashboard": False, "include_log_monitor": False, "no_monitor": True}
    cluster = Cluster()
    try:
        cluster.add_node(**unwatched | nodes[0], _system_config=settings)
        for node in nodes[1:]:
            cluster.add_node(**node)
        yield cluster
    finally:
        cluster.shutdown()  # type: ignore[no-untyped-call]
