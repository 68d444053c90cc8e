"""A service under load, parts of which are killed, stopped or added: nothing wrong is answered."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import simdist
from simdist.embedding import Embedder
from simdist.search.searcher import Searcher
from simdist.sources import file_uri
from simdist.store import connect
from tests.conftest import LONG, PHOTOS, QUERIES
from tests.load import Ask, Load
from tests.servers import Server, running, valkey
from tests.service import COLLECTION, Service, index_photos, running_service

CLIENTS = 32
WORKER, EMBEDDER = "ServeReplica:simdist:QueryWorker", "ServeReplica:simdist:Embedder"
BACK_SECONDS = 180
# How long to look at the service after each fault; SIMDIST_LONG=1 with -s tells the latencies of
# docs/reliability.md.
QUIET_SECONDS = 20 if LONG else 1
# How long Redis is away.
AWAY_SECONDS = 5 if LONG else 2

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    with running(valkey(), tmp_path / "redis") as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """The example photographs but for the tools, which come later."""
    folder = tmp_path / "photos"
    shutil.copytree(PHOTOS, folder, ignore=shutil.ignore_patterns("tools"))
    return folder


def asks(redis: Server, embedder: Embedder, folder: Path) -> list[Ask]:
    """A search by vector, by URI and by image, with the answers that this process finds."""
    store = connect(redis.url)
    searcher = Searcher(simdist.Collection.open(store, COLLECTION))
    fish = QUERIES / "fish.jpg"
    [vector] = embedder.embed_files([fish])
    uri = file_uri(folder / "animals" / "horses.jpg")
    image = searcher.collection.get(uri)
    assert image is not None
    by_image = [hit.uri for hit in searcher.search(vector)]
    by_uri = [hit.uri for hit in searcher.search(image.vector)]
    store.close()
    kind = "application/json"
    return [
        Ask("/v1/search", kind, json.dumps({"vector": vector.tolist()}).encode(), by_image),
        Ask("/v1/search", kind, json.dumps({"uri": uri}).encode(), by_uri),
        Ask("/v1/search", "image/jpeg", fish.read_bytes(), by_image),
    ]


@contextmanager
def loaded(service: Service, asked: list[Ask], clients: int) -> Iterator[Load]:
    load = Load(service.url, asked)
    load.add(clients)
    try:
        yield load
    finally:
        load.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BACK_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it does not come back"
        time.sleep(0.2)


def assert_good_again(load: Load, when: str) -> None:
    """From now on every request is answered, and rightly."""
    moment = time.monotonic()
    time.sleep(QUIET_SECONDS)
    wait_until(lambda: len(load.since(moment)) >= 3 * CLIENTS)
    answers = load.since(moment)
    assert [answer for answer in answers if answer.status != 200] == []
    p50, p99 = np.percentile([answer.seconds for answer in answers], [50, 99])
    print(f"{when}: {len(answers)} requests, p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms")


def test_faults_under_load(redis: Server, photos: Path, embedder: Embedder, tmp_path: Path) -> None:
    index_photos(redis.url, embedder, photos)
    asked = asks(redis, embedder, photos)
    with (
        running_service(redis.url, "--workers", "2") as service,
        loaded(service, asked, CLIENTS) as load,
    ):
        answers_all = partial(_answers_all, service, asked)
        wait_until(answers_all)
        assert_good_again(load, "before")

        killed = service.processes(WORKER)[0]
        killed.kill()
        wait_until(lambda: len(service.processes(WORKER)) == 2 and answers_all())
        assert_good_again(load, "a worker was killed")

        service.processes(EMBEDDER)[0].kill()
        wait_until(answers_all)
        assert_good_again(load, "the embedder was killed")

        redis.kill()
        time.sleep(AWAY_SECONDS)
        redis.start()
        wait_until(answers_all)
        assert_good_again(load, "Redis was killed")

        with redis.frozen():
            time.sleep(AWAY_SECONDS)
        wait_until(answers_all)
        assert_good_again(load, "Redis stood still")

        shutil.copytree(PHOTOS / "tools", tmp_path / "tools")
        tool = [json.dumps({"vector": embedder.embed_files([QUERIES / "tool.jpg"])[0].tolist()})]
        redis.back_up(tmp_path / "backup")
        moment = time.monotonic()
        ingest(redis, tmp_path / "tools")
        assert [answer for answer in load.since(moment) if answer.status != 200] == []
        assert_good_again(load, "an ingest ran beside it")
        # Of both workers, whichever answers.
        assert all(tools_found(service, tool * 20))

        redis.die_and_restore(tmp_path / "backup")
        redis.start()
        wait_until(answers_all)
        assert_good_again(load, "Redis went back in time")
        assert not any(tools_found(service, tool * 20))
        if LONG:
            ingest(redis, tmp_path / "tools")
        else:
            index_photos(redis.url, embedder, tmp_path / "tools")
        assert_good_again(load, "the same ingest ran again")
        assert all(tools_found(service, tool * 20))
    assert [answer for answer in load.answers if answer.fault] == []


def ingest(redis: Server, folder: Path) -> None:
    command = ["ingest", str(folder), "--collection", COLLECTION, "--redis", redis.url]
    command += ["--model", "efficientnet-lite0"]
    subprocess.run([sys.executable, "-m", "simdist", *command], check=True, capture_output=True)


def tools_found(service: Service, bodies: list[str]) -> Iterator[bool]:
    """For each question whether the best hit is one of the tools."""
    for body in bodies:
        answer = service.post("/v1/search", data=body, headers={"Content-Type": "application/json"})
        yield "/tools/" in answer.json()["hits"][0]["uri"]


def test_scaling_under_load_loses_nothing(redis: Server, photos: Path, embedder: Embedder) -> None:
    index_photos(redis.url, embedder, photos)
    asked = asks(redis, embedder, photos)[:2]
    # In two minutes, or in half of one.
    module = "simdist" if LONG else "tests.cluster.hasty"
    with running_service(redis.url, "--workers", "1:4", module=module) as service:
        with loaded(service, asked, 1) as steady:
            assert len(service.processes(WORKER)) == 1
            with loaded(service, asked, CLIENTS - 1) as peak:
                wait_until(lambda: len(service.processes(WORKER)) == 4)
                assert_good_again(peak, "four workers")
            wait_until(lambda: len(service.processes(WORKER)) == 1)
            moment = time.monotonic()
            wait_until(lambda: len(steady.since(moment)) >= 10)
        for answer in [*steady.answers, *peak.answers]:
            assert (answer.status, answer.fault) == (200, ""), answer


def _answers_all(service: Service, asked: list[Ask]) -> bool:
    """Whether every kind of search is answered now."""
    return all(
        service.post(ask.path, data=ask.body, headers={"Content-Type": ask.content_type}).ok
        for ask in asked
    )
