"""The stages as one streaming Ray dataset, seen from the driver."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cluster.shards import Shard, from_table
from simdist.collection import Collection
from simdist.embedding.model import Model
from simdist.errors import ClusterError, SimdistError

if TYPE_CHECKING:
    import ray.data

    from cluster.stages import Count, Plan

TICK_SECONDS = 0.5
# Nothing moves for so long: the cluster has no room for a stage, or a stage hangs.
STALL_SECONDS = 900
# Times that a killed worker's task, or a killed actor, is started again. Bounded, so that an image
# that kills its decoder ends the job with an error instead of never.
RETRIES = 3


class Pipeline:
    """What turns the missing images of a folder into embedded shards.

    Attributes:
        plan: how its stages share the cluster.
    """

    def __init__(self, folder: Path, *, collection: Collection, model: Model) -> None:
        import ray

        from cluster.stages import Listing, Plan, Tally

        self.plan = Plan.of(ray.cluster_resources())
        self._tally = ray.remote(num_cpus=0)(Tally).remote()
        listing = Listing(
            folder,
            store_url=collection.store.url,
            collection=collection.name,
            shard=self.plan.shard,
            tally=self._tally,
        )
        self._dataset = _dataset(listing, self.plan, model)

    def count(self) -> Count:
        """How far the listing has come."""
        import ray

        with ray_errors():
            count: Count = ray.get(self._tally.read.remote())
        return count

    def shards(self) -> Iterator[Shard | None]:
        """Embedded shards as they come, and None whenever none came for `TICK_SECONDS`.

        Raises:
            SimdistError: a stage raised it.
            ClusterError: Ray lost a part of the work.
        """
        batches = iter(
            self._dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        )
        puller = ThreadPoolExecutor(1, "simdist-ingest")
        try:
            with ray_errors():
                while True:
                    pull = puller.submit(next, batches, None)
                    while not wait([pull], TICK_SECONDS).done:
                        yield None
                    if (table := pull.result()) is None:
                        return
                    yield from from_table(table)
        finally:
            # Not waiting: on Ctrl-C the pull may last until Ray is shut down.
            puller.shutdown(wait=False, cancel_futures=True)


def _dataset(listing: object, plan: Plan, model: Model) -> ray.data.Dataset:
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    from cluster.stages import EmbedShards, decode_shards

    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.raise_original_map_exception = True
    context.execution_no_progress_timeout_s = STALL_SECONDS
    # Smaller than any row, so that each row, a shard, is a block and a task of its own.
    context.target_max_block_size = 1
    with DataContext.current(context):
        # A listing that is started again finds other images missing, and Ray would take its n-th
        # shard for the n-th that was lost: so it is not started again.
        shards = ray.data.read_datasource(
            listing,
            override_num_blocks=1,
            num_cpus=0,
            ray_remote_args={"max_retries": 0},
        )
    pixels = shards.map_batches(
        partial(decode_shards, size=model.preprocessing.size),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=plan.decode_cpus,
        max_retries=RETRIES,
    )
    return pixels.map_batches(
        EmbedShards,
        fn_constructor_args=(ray.put(model),),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(min_size=1, initial_size=plan.actors, max_size=plan.actors),
        num_cpus=plan.actor_cpus,
        num_gpus=plan.actor_gpus,
        max_restarts=RETRIES,
        max_task_retries=RETRIES,
    )


@contextmanager
def ray_errors() -> Iterator[None]:
    """Raise simdist's own errors for what Ray raises, wraps or loses."""
    from ray.data.exceptions import ExecutionTimeoutError, SystemException
    from ray.exceptions import RayError

    try:
        yield
    except (RayError, SystemException, ExecutionTimeoutError) as error:
        if (own := _own(error)) is not None:
            raise own from error
        raise ClusterError(
            f"Ray lost a part of the work ({type(error).__name__}); what was indexed so far is "
            "safe: run the same command again to go on"
        ) from error


def _own(error: BaseException | None) -> SimdistError | None:
    """The simdist error that a Ray error stands for, if there is one."""
    from ray.exceptions import RayError

    while error is not None:
        if isinstance(error, SimdistError) and not isinstance(error, RayError):
            return error
        error = getattr(error, "cause", None) or error.__cause__
    return None
