"""The plan on paper against what really happens with 10,000 and 100,000 images."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from simdist.hashing.kmeans import centroids_for
from simdist.index.collection import Collection
from simdist.index.offloading import offload
from simdist.index.rehash import rehash
from simdist.planning import (
    Workload,
    bytes_an_image,
    plan,
    rows_a_query,
)
from simdist.prints.prints import BYTES
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import Store, connect
from tests.command_line import CommandLine
from tests.servers import eventually, redis7, running, valkey

BATCH = 4096


def embeddings(count: int, dim: int) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Like a network's: in clusters, and no feature below zero."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((200, dim), np.float32)
    noise = generator.standard_normal((count, dim), np.float32)
    return np.maximum(centres[generator.integers(0, 200, count)] + 0.7 * noise, 0)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with running(valkey(), tmp_path) as server:
        opened = connect(server.url)
        yield opened
        opened.close()


def filled(store: Store, images: int, dim: int = 512, uri_bytes: int = 60) -> Collection:
    vectors = embeddings(images, dim)
    look = bytes(BYTES)
    refs = [
        ImageRef(f"s3://b/{i:0{uri_bytes - 7}d}", f"{i:016x}", 1, None, look=look)
        for i in range(images)
    ]
    collection = Collection.create(
        store, "planned", model="m", model_id="m", dim=dim, expect=images
    )
    for start in range(0, images, BATCH):
        part = slice(start, start + BATCH)
        collection.add(vectors[part], refs[part])
    return collection


@pytest.mark.slow
@pytest.mark.parametrize(
    ("images", "dim", "uri_bytes"), [(10_000, 512, 60), (10_000, 1280, 120), (100_000, 512, 60)]
)
def test_memory_is_as_planned(
    store: Store, tmp_path: Path, images: int, dim: int, uri_bytes: int
) -> None:
    before = store.used_memory()

    def used() -> float:
        return (store.used_memory() - before) / images

    collection = filled(store, images, dim, uri_bytes)
    planned = bytes_an_image(images, dim=dim, uri_bytes=uri_bytes)
    # What waits for a slow disk is counted by the server, too, until it is written.
    eventually(lambda: used() == pytest.approx(planned, rel=0.1))
    offload(collection, str(tmp_path / "files"), bits=2)
    planned = bytes_an_image(images, dim=dim, uri_bytes=uri_bytes, bits=2)
    eventually(lambda: used() == pytest.approx(planned, rel=0.2))


@pytest.mark.slow
@pytest.mark.parametrize("dim", [512, 768, 1024, 1280])
def test_redis_takes_little_more_than_is_asked_for(tmp_path: Path, dim: int) -> None:
    """Its allocator gives out memory in steps, just above which blocks would often be."""
    with running(redis7(), tmp_path) as server, closing(connect(server.url)) as store:
        before = store.used_memory()
        filled(store, 10_000, dim)
        planned = bytes_an_image(10_000, dim=dim, uri_bytes=60)
        # As above: what waits for the disk is counted until it is written.
        eventually(lambda: planned < (store.used_memory() - before) / 10_000 < 1.15 * planned)


@pytest.mark.slow
def test_rows_are_as_planned(store: Store) -> None:
    collection = filled(store, 10_000)
    # Between two rebuilds tables may be small for what they hold.
    rehash(collection)
    searcher = Searcher(collection)
    for vector in embeddings(100, 512):
        searcher.search(vector, probes=24)
    assert searcher.rows_read / 100 == pytest.approx(rows_a_query(10_000), rel=0.5)


def test_more_of_everything_asks_for_more() -> None:
    small = plan(Workload(10**6, queries_per_s=100, gpus=1))
    large = plan(Workload(10**9, queries_per_s=100, gpus=1))
    assert (small.nodes, small.partitions) == (1, 1)
    assert large.nodes > 10
    assert large.partitions == 2 * large.nodes
    assert large.parts * large.query_workers > small.parts * small.query_workers
    assert large.ingest_hours == pytest.approx(1000 * (small.ingest_hours or 0))
    assert plan(Workload(10**6)).ingest_hours is None
    # What no cluster holds is planned all the same: the collection has as many parts as it can.
    assert plan(Workload(10**11)).partitions == 1024


def test_who_answers_http_is_counted_too() -> None:
    """Of an answer by image the search is the smaller part: three cores and a half of these."""
    few = plan(Workload(10**6, queries_per_s=700))
    assert few.parts == 1
    assert few.query_ms < 0.2
    assert few.query_workers == 4
    many = plan(Workload(10**8, queries_per_s=700))
    assert many.parts == 2
    assert many.query_workers == 4


def test_buckets_grow_with_the_images() -> None:
    sizes = [centroids_for(10**power) for power in range(1, 10)]
    assert sizes == sorted(sizes)
    # A query of a hundred million would score 88,000 vectors if there were 32,768 buckets at most.
    assert plan(Workload(10**8)).rows_a_query < 15_000


def test_fewer_bits_in_redis_ask_for_less_of_it() -> None:
    plans = [plan(Workload(10**8, bits=bits)) for bits in (8, 4, 2, 1)]
    assert plans[0].file_bytes == 0
    assert [one.redis_bytes for one in plans] == sorted(
        (one.redis_bytes for one in plans), reverse=True
    )
    # A third of it in a worker.
    assert plans[1].cache_bytes * plans[1].parts / 3 < 10e9


def test_the_command(cli: CommandLine) -> None:
    printed = cli.run("plan", "--images", "100M", "--gpus", "8", "--qps", "500").out
    assert "--expect 100000000 --partitions 6" in printed
    assert "27.8 hours of a GPU: 3.5 hours in all" in printed
    printed = cli.run("plan", "--images", "100M", "--bits", "4").out
    assert "simdist offload FOLDER --bits 4" in printed
    assert "not 3" in cli.fail("plan", "--images", "100M", "--bits", "3", code=2)
    made = json.loads(cli.run("plan", "--images", "1.5K", "--json").out)
    assert made["workload"]["images"] == 1500
    assert made["plan"]["nodes"] == 1


@pytest.mark.parametrize("images", ["0", "-5", "many", "5X", "1e400", "nan", "", "10000G"])
def test_invalid_numbers(cli: CommandLine, images: str) -> None:
    assert "100M" in cli.fail("plan", f"--images={images}", code=2)
