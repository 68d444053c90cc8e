"""A cluster of two nodes on this machine, with logical GPUs: each actor holds one of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

from cluster.ingest.driver import ingest_images
from cluster.ingest.pipeline import Pipeline
from cluster.ingest.stages import EmbedActor, Placement
from cluster.runtime import ray_session
from simdist.embedding import Embedder, Model
from simdist.index.collection import Collection
from simdist.ingest.listing import Listing
from simdist.settings import Settings
from simdist.sources import open_source, uri_path
from tests.cluster.conftest import assert_holds_exactly, refs_of
from tests.cluster.nodes import ray_cluster

NODES, GPUS = 2, 2


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with (
        ray_cluster(*NODES * [{"num_cpus": 2, "num_gpus": GPUS}]) as cluster,
        ray_session(Settings.resolve(ray_address=cluster.address)),
    ):
        yield


class Noted(EmbedActor):
    """The real actor, which notes where it runs and which GPUs it sees."""

    folder: Path

    def load(self, model: Model) -> None:
        context = ray.get_runtime_context()
        place = f"{context.get_node_id()} {os.environ['CUDA_VISIBLE_DEVICES']}"
        (self.folder / str(context.get_actor_id())).write_text(place)
        super().load(model)


def test_each_actor_sees_one_gpu_that_no_other_has(
    tmp_path: Path, folder: Path, collection: Collection, model: Model
) -> None:
    placement = Placement.of(ray.cluster_resources())  # type: ignore[no-untyped-call]
    assert (placement.actors, placement.actor_gpus) == (NODES * GPUS, 1)
    noted = type("NotedHere", (Noted,), {"folder": tmp_path})
    with (
        Listing(open_source(str(folder)), collection=collection) as listing,
        Pipeline(placement, model, actor=noted) as pipeline,
    ):
        done = [shard for shard in pipeline.embed(listing) if shard is not None]
        places = wait_for_notes(tmp_path, placement.actors)
    assert sum(len(shard.refs) for shard in done) == len(refs_of(folder))
    assert len({node for node, _ in places}) == NODES
    # On each node the GPUs are 0 and 1, and nobody has both.
    assert sorted(gpu for _, gpu in places) == ["0", "0", "1", "1"]
    assert len({(node, gpu) for node, gpu in places}) == NODES * GPUS


def wait_for_notes(folder: Path, count: int) -> list[list[str]]:
    """What the actors noted; a slow one may still be starting when the others have done all."""
    for _ in range(600):
        notes = [path.read_text().split() for path in folder.iterdir() if path.is_file()]
        if len([note for note in notes if note]) == count:
            return notes
        time.sleep(0.1)
    raise AssertionError(f"of {count} actors these have noted their place: {notes}")


def test_an_ingest_over_two_nodes_is_that_of_one_process(
    folder: Path, collection: Collection, model: Model
) -> None:
    summary = ingest_images(
        open_source(str(folder)),
        collection=collection,
        model=model,
        on_progress=lambda _: None,
    )
    refs = refs_of(folder)
    assert (summary.added, summary.failed) == (len(refs), 0)
    assert_holds_exactly(collection, refs)
    [first] = Embedder(model).embed_files([uri_path(refs[0].uri)])
    stored = collection.get(refs[0].uri)
    assert stored is not None
    assert float(np.dot(stored.vector, first)) > 0.999
