"""A service whose workers hold a part of the partitions each: it answers as one that holds all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

import simdist
from simdist.embedding import Embedder
from simdist.errors import CollectionError, ServiceError, UnknownImageError
from simdist.index.names import set_alias
from simdist.search.question import Hit, Question
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import connect
from tests.callers import asking, labels
from tests.command_line import CommandLine
from tests.conftest import PHOTOS, QUERIES
from tests.load import Ask, Load
from tests.servers import Server, eventually, running, valkey
from tests.service import COLLECTION, Service, embedded_once, running_service

PARTITIONS, PARTS, NUMBER = 5, 2, 3
LIVE, BLUE, GREEN = "live", "blue", "green"
PART = "ServeReplica:simdist:Part{}"
CLIENTS = 16
BACK_SECONDS = 120

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Server]:
    with running(valkey(), tmp_path_factory.mktemp("parts")) as server:
        refs = [ref for ref in list_folder(PHOTOS) if isinstance(ref, ImageRef)]
        collection = simdist.Collection.ensure(
            connect(server.url), COLLECTION, model=embedder.model, partitions=PARTITIONS
        )
        vectors = embedded_once(embedder, [uri_path(ref.uri) for ref in refs])
        collection.add(vectors, refs)
        # The same images, said to be others.
        for name in BLUE, GREEN:
            other = simdist.Collection.ensure(
                connect(server.url), name, model=embedder.model, partitions=PARTITIONS
            )
            other.add(vectors, [replace(ref, label=name) for ref in refs])
        set_alias(connect(server.url), LIVE, BLUE)
        yield server


@pytest.fixture(scope="module")
def service(redis: Server) -> Iterator[Service]:
    # Two of each: where one dies, the other answers, however long a new one takes to start.
    names = ("--collection", COLLECTION, "--collection", LIVE)
    with running_service(redis.url, "--parts", str(PARTS), "--workers", "2", *names) as service:
        yield service


@pytest.fixture(scope="module")
def searcher(redis: Server) -> Searcher:
    return Searcher(simdist.Collection.open(connect(redis.url), COLLECTION))


def test_every_way_finds_what_one_searcher_finds(
    service: Service, searcher: Searcher, embedder: Embedder
) -> None:
    fish = QUERIES / "fish.jpg"
    [vector] = embedder.embed_files([fish])
    with simdist.Client(service.url) as client:
        for n in (1, 10, 50):
            assert client.search(vector=vector, n=n) == searcher.search(vector, n=n)
        assert client.search(vector=vector, recall=1) == searcher.search(vector, recall=1)
        found = client.search(image=fish)
        assert [hit.uri for hit in found] == [hit.uri for hit in searcher.search(vector)]
        first = found[0]
        stored = searcher.collection.get(first.uri)
        assert stored is not None
        assert client.search(uri=first.uri) == searcher.search(stored.vector)
        alike = client.search(vector=vector, label=first.label)
        assert alike
        assert {hit.label for hit in alike} == {first.label}
        with pytest.raises(UnknownImageError):
            client.search(uri="file:///nowhere.jpg")
        with pytest.raises(ServiceError, match="vector"):
            client.search(vector=vector[:-1])


def test_pages_and_groups_are_those_of_one_searcher(service: Service, searcher: Searcher) -> None:
    question = Question(vector=np.ones(searcher.collection.dim), n=20, recall=1)
    every = searcher.ask(replace(question, n=200))
    with simdist.Client(service.url) as client:
        found: list[Hit] = []
        page = client.ask(question)
        assert page == every[:20]
        while page.next is not None:
            found += page
            page = client.ask(replace(question, after=page.next))
        assert found + page == every
        assert client.ask(replace(question, offset=30)) == every[30:50]
        low = replace(question, n=200, min_score=every[60].score)
        assert client.ask(low) == every[:61]
        for size in (1, 4):
            grouped = replace(question, n=5, group_by="folder", group_size=size)
            assert client.ask(grouped) == searcher.ask(grouped)
            assert len(client.ask(grouped)) == 5 * size
        with pytest.raises(ServiceError, match="no page begins"):
            client.ask(replace(question, after="_" * 22))


def test_batches_are_answered_alike(service: Service, searcher: Searcher) -> None:
    vectors = np.random.default_rng(1).normal(size=(40, searcher.collection.dim))
    queries = [{"vector": vector.tolist(), "n": 5} for vector in vectors]
    answer = service.post("/v1/search/batch", json={"queries": queries}).json()
    found = [[hit["uri"] for hit in result["hits"]] for result in answer["results"]]
    assert found == [[hit.uri for hit in hits] for hits in searcher.search_many(vectors, n=5)]


def test_each_part_reads_its_own(service: Service, searcher: Searcher) -> None:
    """So that a worker of a part needs a part of the memory."""
    vector = np.ones(searcher.collection.dim, np.float32)
    with simdist.Client(service.url) as client:
        before = rows_read(service)
        client.search(vector=vector, recall=1)
        after = rows_read(service)
    read = [rows - before.get(worker, 0) for worker, rows in after.items()]
    assert sum(read) == searcher.collection.count()
    assert sum(rows > 0 for rows in read) == PARTS


def rows_read(service: Service) -> dict[str, float]:
    """The vectors that each worker has scored."""
    lines = service.get("/metrics").text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("simdist_rows_read{")]
    return {worker: float(rows) for worker, rows in pairs}


def test_no_answer_is_of_two_collections(
    service: Service, redis: Server, embedder: Embedder
) -> None:
    """An alias is switched 20 times under 32 clients; each part follows it by itself."""
    [vector] = embedder.embed_files([QUERIES / "fish.jpg"])
    body = {"vector": vector.tolist(), "n": 50, "collection": LIVE}
    with closing(connect(redis.url)) as store, asking(service.url, body) as answers:
        for turn in range(20):
            more = len(answers) + 64
            set_alias(store, LIVE, (GREEN, BLUE)[turn % 2])
            eventually(partial(lambda more: len(answers) > more, more))
    assert labels(answers) == {(200, (BLUE,)), (200, (GREEN,))}


def test_no_search_fails_where_a_part_dies(
    service: Service, searcher: Searcher, embedder: Embedder
) -> None:
    [vector] = embedder.embed_files([QUERIES / "fish.jpg"])
    uris = [hit.uri for hit in searcher.search(vector)]
    body = json.dumps({"vector": vector.tolist()}).encode()
    load = Load(service.url, [Ask("/v1/search", "application/json", body, uris)])
    load.add(CLIENTS)
    try:
        for part in range(1, PARTS + 1):
            [worker, _] = service.processes(PART.format(part))
            moment = time.monotonic()
            worker.kill()
            wait_until_answered(load, moment)
            # On a busy machine it takes a while to end, others having answered.
            worker.wait(BACK_SECONDS)
    finally:
        load.stop()
    assert [answer for answer in load.answers if (answer.status, answer.fault) != (200, "")] == []


def wait_until_answered(load: Load, moment: float) -> None:
    """Wait until more was answered since then than was under way."""
    while len(load.since(moment)) <= 2 * CLIENTS:
        assert time.monotonic() < moment + BACK_SECONDS
        time.sleep(0.1)


def test_new_images_are_found(service: Service, embedder: Embedder) -> None:
    """Last: for a second, workers still show what was deleted."""
    fish = QUERIES / "fish.jpg"
    with simdist.Client(service.url) as client:
        client.add("urn:here:fish", fish)
        deadline = time.monotonic() + 10
        while client.search(image=fish, n=1)[0].uri != "urn:here:fish":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        client.delete("urn:here:fish")


def test_a_collection_of_fewer_partitions_is_refused(redis: Server, cli: CommandLine) -> None:
    """It says how many parts there can be."""
    words = ("serve", "-c", COLLECTION, "--parts", "6", "--redis", redis.url)
    assert "at most 5 parts" in cli.fail(*words, code=2)


def only(number: int) -> Callable[[int], Sequence[int]]:
    """Of all partitions the one of a number."""
    return lambda _count: [number]


def test_nothing_is_found_in_a_part_without_images(redis: Server) -> None:
    """A collection of one image in five partitions: four of them are empty."""
    store = connect(redis.url)
    made = simdist.Collection.create(
        store, "one", model="m", model_id="m", dim=8, partitions=PARTITIONS
    )
    vector = np.ones(8, np.float32)
    parts = [Searcher(made, partitions=only(number)) for number in range(PARTITIONS)]
    with pytest.raises(CollectionError, match="empty"):
        parts[0].search(vector)
    made.add(vector[None], [ImageRef("here:one", "f", 1, None)])
    assert sorted(len(part.search(vector)) for part in parts) == [0, 0, 0, 0, 1]
    assert Searcher(made, partitions=lambda _count: []).search(vector) == []
