"""What `bench.ingest` measures of simdist: decoding alone, the network alone, and the whole.

All with the same actors, threads and allocator.
"""

from __future__ import annotations

import itertools
import os
import random
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from cluster.ingest.driver import ingest_images
from cluster.ingest.pipeline import ACTOR_SHARDS, actor_class
from cluster.ingest.stages import EmbedActor, Placement, decode_shard
from simdist.embedding import Model
from simdist.index.collection import Collection
from simdist.ingest.progress import Progress
from simdist.ingest.shards import Shard
from simdist.settings import Settings
from simdist.sources import (
    Access,
    ImageRef,
    Source,
    list_folder,
    open_source,
    uri_path,
)
from simdist.store import open_store

NETWORK_SECONDS = 10.0
READY_SHARDS = 16
SEED = 0

Batches = list[tuple[Shard, Any]]


@dataclass(frozen=True)
class Speed:
    """Images a second, and the seconds of a core that each took; other programs do not count."""

    per_s: float
    core_s: float

    @classmethod
    def of(cls, images: int, start: Mark) -> Speed:
        """What was done since a mark, by processes that are there still."""
        end = Mark.now()
        core_s = sum(spent - start.core_s.get(who, 0.0) for who, spent in end.core_s.items())
        return cls(images / (end.at - start.at), core_s / images)

    def __str__(self) -> str:
        return f"{self.per_s:.1f}/s ({1000 * self.core_s:.2f} ms of a core each)"


@dataclass(frozen=True)
class Mark:
    """A moment: seconds, and those of a core that this process and all that it started had.

    `core_s` is by process, for Ray loses count of those that have ended.
    """

    at: float
    core_s: Mapping[psutil.Process, float]

    @classmethod
    def now(cls) -> Mark:
        """The present one."""
        core_s = {}
        this = psutil.Process()
        for process in [this, *this.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                core_s[process] = sum(process.cpu_times()[:2])
        return cls(time.perf_counter(), core_s)


@dataclass(frozen=True)
class Place:
    """Where the sample is read from: `uri`, and of a bucket its endpoint."""

    name: str
    uri: str
    endpoint: str | None = None

    def open(self) -> Source:
        """A listing of it."""
        return open_source(self.uri, access=Access.resolve(endpoint_url=self.endpoint))


def sample(source: Path, size: int, folder: Path) -> Path:
    """A folder of links to some of a folder's images."""
    images = sorted(ref.uri for ref in list_folder(source) if isinstance(ref, ImageRef))
    for uri in random.Random(SEED).sample(images, min(size, len(images))):
        path = uri_path(uri)
        link = folder / path.parent.name / path.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)
    return folder


def decoding(placement: Placement, place: Place, model: Model) -> tuple[Speed, Batches]:
    """Images fetched and decoded a second, and some shards with their pixels in Ray's store."""
    import ray

    source = place.open()
    refs = [ref for ref in source.entries if isinstance(ref, ImageRef)]
    shards = [
        Shard(tuple(refs[start : start + placement.shard_size]), access=source.access)
        for start in range(0, len(refs), placement.shard_size)
    ]
    task: Any = ray.remote(num_cpus=placement.decoder_cpus, num_returns=2)
    decode: Any = task(decode_shard)

    def run(shards: list[Shard]) -> list[tuple[Any, Any]]:
        outcomes = [decode.remote(shard, preprocessing=model.preprocessing) for shard in shards]
        ray.wait([done for done, _ in outcomes], num_returns=len(outcomes))
        return outcomes

    run(shards[: 4 * placement.decoders])  # starts the workers
    start = Mark.now()
    outcomes = run(shards)
    speed = Speed.of(len(refs), start)
    ready = [(ray.get(done), pixels) for done, pixels in outcomes[:READY_SHARDS]]
    failed = sum(len(shard.failures) for shard, _ in ready)
    assert not failed, f"{failed} images from {place.name} cannot be decoded"
    print(f"  decode {speed} from {place.name}", flush=True)
    return speed, ready


def network(placement: Placement, model: Model, batches: Batches) -> Speed:
    """Images embedded a second by the actors alone, from pixels that lie ready."""
    import ray

    started: Any = actor_class(placement, EmbedActor)
    actors = [started.remote() for _ in range(placement.actors)]
    weights = ray.put(model)
    ray.get([actor.load.remote(weights) for actor in actors])
    turns = map(_as_new, itertools.cycle(batches))
    pending = {
        actor.embed.remote(*next(turns)): actor for actor in actors for _ in range(ACTOR_SHARDS)
    }
    done, start = 0, None
    while start is None or time.perf_counter() - start.at < NETWORK_SECONDS:
        (ref,), _ = ray.wait(list(pending))
        actor = pending.pop(ref)
        pending[actor.embed.remote(*next(turns))] = actor
        if start:
            done += len(ray.get(ref)[1])
        else:
            start = Mark.now()
    speed = Speed.of(done, start)
    for actor in actors:
        ray.kill(actor)
    print(f"  network {speed}", flush=True)
    return speed


def _as_new(batch: tuple[Shard, Any]) -> tuple[Shard, Any]:
    """The batch under digests that no actor has met: it would not embed the same bytes again."""
    shard, pixels = batch
    return replace(shard, digests=tuple(os.urandom(16) for _ in shard.refs)), pixels


def whole(settings: Settings, place: Place, model: Model) -> Speed:
    """Images ingested, once the first is."""
    first: tuple[Progress, Mark] | None = None

    def note(progress: Progress) -> None:
        nonlocal first
        if first is None and progress.done:
            first = progress, Mark.now()

    # An empty data folder each time: an embedded server of its own.
    with (
        # The server may still be writing as it stops.
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data_dir,
        open_store(replace(settings, redis_url=None, data_dir=Path(data_dir))) as store,
    ):
        collection = Collection.ensure(store, "bench", model=model)
        summary = ingest_images(
            place.open(),
            collection=collection,
            model=model,
            settings=settings,
            on_progress=note,
        )
        assert first is not None, summary
        progress, start = first
        speed = Speed.of(summary.added - progress.done, start)
    print(
        f"  whole {speed} from {place.name}; {summary.added} images in {summary.seconds:.1f} s, "
        f"the first after {progress.seconds:.1f} s; {summary.failed} failed",
        flush=True,
    )
    return speed
