"""Requests of a hostile kind: all are refused, as problems, and the service goes on."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import product
from pathlib import Path
from urllib.parse import quote

import pytest
import requests

from simdist.index.collection import Collection
from simdist.store import connect
from tests import hostile
from tests.conftest import QUERIES
from tests.hostile import PORT, READ_TOKEN, WRITE_TOKEN, Case, Listener, connected, head
from tests.service import COLLECTION, Service

CASES = hostile.cases()
FISH = (QUERIES / "fish.jpg").read_bytes()
# Seconds that a request may take (`ServiceConfig.deadline`), and what a loaded machine adds.
DEADLINE, SLACK = 10, 20


@pytest.fixture(scope="module")
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


def test_there_are_200_hostile_requests() -> None:
    assert len({case.data for case in CASES}) >= 200


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused(guarded: Service, listener: Listener, case: Case) -> None:
    port = str(listener.port).encode()
    assert len(port) == len(PORT)
    answer = hostile.send(guarded.url, case.data.replace(PORT.encode(), port))
    problem = answer.problem
    assert answer.status in case.statuses, answer
    assert case.detail in problem["detail"]
    assert listener.visitors == []
    for secret in (WRITE_TOKEN, "Traceback", str(Path(__file__).parents[2])):
        assert secret.encode() not in answer.body


def test_no_byte_in_a_path_lets_a_read_token_write(guarded: Service) -> None:
    """Each byte before, behind and within the path of each route that writes, by every method."""
    with closing(connect(guarded.redis_url)) as store:
        collection = Collection.open(store, COLLECTION)
        before = [partition.state() for partition in collection.partitions]
        uri = quote(next(image.uri for image in collection.images()), safe="")
        with requests.Session() as session:
            for token, byte in product((READ_TOKEN, None), range(256)):
                strange = f"%{byte:02X}"
                paths = (f"/v1/images{strange}", f"/{strange}v1/images", f"/v1/ima{strange}ges")
                for path, method in product(paths, ("DELETE", "POST", "PUT", "PATCH")):
                    answer = session.request(
                        method,
                        f"{guarded.url}{path}?uri={uri}",
                        data=FISH if method == "POST" else None,
                        headers={"Content-Type": "image/jpeg"}
                        | ({"Authorization": f"Bearer {token}"} if token else {}),
                        timeout=30,
                    )
                    assert 400 <= answer.status_code < 500, (method, path, answer.text)
        assert [partition.state() for partition in collection.partitions] == before


def test_an_address_that_takes_other_methods_names_them(guarded: Service) -> None:
    for method, path, allowed in (
        ("PUT", "/v1/images", "DELETE, GET, HEAD, PATCH, POST"),
        ("GET", "/v1/search", "POST"),
        ("DELETE", "/v1/collections", "GET, HEAD"),
    ):
        answer = requests.request(
            method,
            f"{guarded.url}{path}",
            headers={"Authorization": f"Bearer {WRITE_TOKEN}"},
            timeout=30,
        )
        assert (answer.status_code, answer.headers["Allow"]) == (405, allowed)
        assert f"takes {allowed} only" in answer.json()["detail"]


SLOW = {
    "an endless header": (b"GET /healthz HTTP/1.1\r\nA: ", b"b"),
    "endless headers": (b"GET /healthz HTTP/1.1\r\nHost: a\r\n", b"A: b\r\n"),
    "a slow image": (
        head("POST", "/v1/search", Content_Type="image/png", Content_Length=1000),
        b"\0",
    ),
    "a slow large image": (
        head("POST", "/v1/search", Content_Type="image/png", Content_Length=10_000_000)
        + bytes(1_000_000),
        b"\0",
    ),
    "slow chunks": (
        head("POST", "/v1/search", Content_Type="image/png", Transfer_Encoding="chunked"),
        b"1\r\n\0\r\n",
    ),
    "slow JSON": (
        head("POST", "/v1/search", Content_Type="application/json", Content_Length=1000),
        b" ",
    ),
    "nothing": (head("POST", "/v1/search", Content_Type="image/png", Content_Length=1000), b""),
    "too long a length": (
        head("POST", "/v1/search", Content_Type="image/png", Content_Length=10**9),
        b"",
    ),
}


def test_slow_requests_end_and_hold_nobody(guarded: Service) -> None:
    """All at once, ten of each: more than a worker takes at a time."""
    answers: list[tuple[str, hostile.Answer, float]] = []

    def dribble(name: str) -> None:
        first, more = SLOW[name]
        started = time.monotonic()
        with connected(guarded.url) as connection:
            connection.sendall(first)
            connection.settimeout(0.5)
            while time.monotonic() < started + DEADLINE + SLACK:
                try:
                    if connection.recv(1, hostile.PEEK):
                        break
                except TimeoutError:
                    connection.sendall(more)
            connection.settimeout(SLACK)
            answers.append((name, hostile.read_answer(connection), time.monotonic() - started))

    threads = [threading.Thread(target=dribble, args=(name,)) for name in SLOW for _ in range(10)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    # While they are under way, others are answered.
    for _ in range(3):
        started = time.monotonic()
        assert_answers(guarded)
        assert time.monotonic() - started < DEADLINE
    for thread in threads:
        thread.join()
    assert len(answers) == len(threads)
    for name, answer, seconds in answers:
        assert answer.status == 408, (name, answer)
        assert answer.problem
        assert seconds < DEADLINE + SLACK, name


def test_idle_connections_make_room(guarded: Service) -> None:
    """More than HAProxy takes: 90 s as Ray keeps them, nobody else would be served."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    asks = b"GET /healthz HTTP/1.1\r\nHost: service.example\r\n\r\n"
    with ExitStack() as idle:
        for _ in range(1_100):
            idle.enter_context(connected(guarded.url)).sendall(asks)
        assert guarded.get("/healthz").json() == {"status": "ok"}
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_service_goes_on(guarded: Service) -> None:
    """The last of this file: nothing was broken, added or deleted by all that."""
    assert_answers(guarded)
    assert guarded.get("/healthz").json() == {"status": "ok"}
    assert guarded.get("/readyz").json() == {"status": "ready"}
    with_token = {"Authorization": f"Bearer {READ_TOKEN}"}
    [collection] = guarded.get("/v1/collections", headers=with_token).json()["collections"]
    opened = Collection.open(connect(guarded.redis_url), COLLECTION)
    assert collection["images"] == opened.count() == 154
    metrics = guarded.get("/metrics", headers=with_token).text
    assert 'status="500"' not in metrics
    assert 'status="413"' in metrics


def assert_answers(service: Service) -> None:
    headers = {"Content-Type": "image/jpeg", "Authorization": f"Bearer {READ_TOKEN}"}
    answer = service.post("/v1/search?n=3", data=FISH, headers=headers)
    assert answer.status_code == 200, answer.text
    assert [hit["label"] for hit in answer.json()["hits"]] == ["fish"] * 3
