"""The neighbours of all images, a range of buckets a task."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

from cluster.runtime import ray_session
from simdist.errors import ClusterError
from simdist.joining.job import Job, Part
from simdist.settings import Settings

# A collection of fewer images is done before Ray has started.
FEW = 100_000
# Tasks that are under way for each that can run.
_AHEAD = 2


def run_all(
    job: Job, *, done: Collection[int], images: int, settings: Settings
) -> Iterator[tuple[int, Part]]:
    """Work on all ranges that are not done yet; yields each when it is finished.

    Args:
        images: how many there are in all: few are worked on here, unless a cluster is named.

    Raises:
        ClusterError: Ray cannot be reached, or was lost.
    """
    left = [number for number in range(len(job.bounds) - 1) if number not in done]
    if images < FEW and settings.ray_address is None:
        for number in left:
            yield number, job.run(number)
    elif left:
        with ray_session(settings):
            yield from _on_ray(job, left)


def _on_ray(job: Job, left: list[int]) -> Iterator[tuple[int, Part]]:
    import ray

    # The vectors lie in the memory that a node's tasks share.
    shared = ray.put(job)
    task = ray.remote(num_cpus=1, max_retries=3)(_run)
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    room = max(1, int(resources.get("CPU", 1))) * _AHEAD
    waiting, running = list(reversed(left)), dict[Any, int]()
    try:
        while waiting or running:
            while waiting and len(running) < room:
                number = waiting.pop()
                running[task.remote(shared, number)] = number
            [ready], _ = ray.wait(list(running), num_returns=1)
            number = running.pop(ready)
            yield number, ray.get(ready)
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"Ray was lost: {str(error).splitlines()[0]}; run the same command again to go on"
        ) from error


def _run(job: Job, number: int) -> Part:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        return job.run(number)
