"""An ingest on a cluster that others have filled: it says what it waits for, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import ray

from cluster.ingest import room
from cluster.ingest.driver import ingest_images
from cluster.ingest.stages import Placement
from cluster.runtime import ray_session
from simdist.embedding import Model
from simdist.index.collection import Collection
from simdist.ingest.progress import Progress
from simdist.settings import Settings
from simdist.sources import open_source
from simdist.sources.background import in_background
from tests.cluster.nodes import ray_cluster

CPUS = 2


class Tenant:
    """It holds what it holds."""

    def here(self) -> None:
        """Answer, once it has that."""


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    """A cluster with its dashboard, which says who holds what."""
    with (
        ray_cluster({"num_cpus": CPUS, "include_dashboard": True}) as cluster,
        ray_session(Settings.resolve(ray_address=cluster.address)),
    ):
        yield


def test_it_says_who_holds_what_it_waits_for(
    collection: Collection, folder: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "PATIENCE_SECONDS", 0.5)
    remote: Any = ray.remote(num_cpus=1)
    tenants = [remote(Tenant).remote() for _ in range(CPUS)]
    ray.get([tenant.here.remote() for tenant in tenants])
    said, seen = Event(), list[Progress]()

    def note(progress: Progress) -> None:
        seen.append(progress)
        if progress.waits_for:
            said.set()

    run = in_background(
        ingest_images,
        open_source(str(folder)),
        collection=collection,
        model=model,
        on_progress=note,
    )
    assert said.wait(60)
    told = next(progress.waits_for for progress in seen if progress.waits_for)
    assert "takes 0.5 CPU, and 0 of 2 are free" in told
    assert "held by 2 Tenant: 2" in told
    for tenant in tenants:
        ray.kill(tenant)
    assert run.result(120).added > 0
    assert seen[-1].waits_for is None


def test_where_there_is_room_nothing_is_said() -> None:
    placement = Placement.of(ray.cluster_resources())  # type: ignore[no-untyped-call]
    assert room.shortage(placement) is None
