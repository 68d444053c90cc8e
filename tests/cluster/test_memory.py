"""An ingest holds only a part of the images at a time; `bench.memory` has the megabytes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.memory import CheapActor, write_images
from cluster.ingest import pipeline, stages
from cluster.ingest.driver import ingest_images
from cluster.runtime import ray_session
from simdist.embedding import Model
from simdist.index.collection import FIT_SAMPLE, Collection
from simdist.ingest import listing
from simdist.ingest.progress import Progress
from simdist.ingest.shards import Shard
from simdist.settings import Settings
from simdist.sources import ImageRef, open_source
from tests.cluster.conftest import refs_of

IMAGES = 4000


@pytest.fixture
def session() -> Iterator[None]:
    with ray_session(Settings.resolve()):
        yield


@pytest.fixture
def afresh() -> Iterator[None]:
    """Objects that other tests left are out of the collector's sight, and so not counted."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("session", "afresh")
def test_the_driver_knows_only_what_is_under_way(
    tmp_path: Path, collection: Collection, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "PAGE", 100)
    monkeypatch.setattr(listing, "AHEAD", 500)
    monkeypatch.setattr(pipeline, "EmbedActor", CheapActor)
    write_images(tmp_path / "images", IMAGES)
    most = 0

    def count(_: Progress) -> None:
        nonlocal most
        most = max(most, sum(type(thing) is ImageRef for thing in gc.get_objects()))

    summary = ingest_images(
        open_source(str(tmp_path / "images")),
        collection=collection,
        model=model,
        on_progress=count,
    )
    assert (summary.added, summary.failed) == (IMAGES, 0)
    # Listed ahead, three pages on their way, in the pipeline, held back for the sample.
    assert 100 < most < 500 + 300 + 500 + FIT_SAMPLE


def test_an_actor_forgets(tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "REMEMBERED", 10)
    write_images(tmp_path, 30)
    actor = CheapActor()
    actor.load(model)
    refs = tuple(refs_of(tmp_path))
    _, vectors = actor.embed(Shard(refs), None)
    assert len(actor._known) == 10
    _, again = actor.embed(Shard(refs[-10:]), None)
    np.testing.assert_array_equal(again, vectors[-10:])
