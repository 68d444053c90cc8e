"""What one token, or none, does to a service, costs the others no answer."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count

import numpy as np
import pytest
import requests
from PIL import Image

from cluster.service.config import FETCH_LOOPBACK_VARIABLE
from simdist.embedding import Embedder
from tests.cluster.conftest import guarded_service
from tests.conftest import LONG, QUERIES
from tests.hostile import READ_TOKEN, WRITE_TOKEN, connected
from tests.service import Service
from tests.web_site import serve

pytestmark = pytest.mark.slow

ATTACKER = {"Authorization": f"Bearer {READ_TOKEN}"}
CLIENT = {"Authorization": f"Bearer {WRITE_TOKEN}"}
IMAGE = {"Content-Type": "image/jpeg"}
FISH = (QUERIES / "fish.jpg").read_bytes()
SECONDS = 8.0 if LONG else 3.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Service]:
    fetching = {FETCH_LOOPBACK_VARIABLE: "1"}
    with guarded_service(tmp_path_factory.mktemp("attacked"), embedder, **fetching) as started:
        yield started


def picture(side: int, kind: str) -> bytes:
    """A picture of few bytes and many pixels."""
    data = io.BytesIO()
    mode = "RGBA" if kind == "WEBP" else "RGB"
    options = {"lossless": True, "method": 0} if kind == "WEBP" else {}
    Image.new(mode, (side, side), "red").save(data, kind, **options)
    return data.getvalue()


def countless_scans(side: int) -> bytes:
    """A JPEG whose every scan passes over all pixels."""
    data = io.BytesIO()
    Image.new("RGB", (side, side)).save(data, "JPEG", progressive=True, quality=50)
    whole = data.getvalue()
    scan = whole[whole.rindex(b"\xff\xda") : -2]
    return whole[:-2] + 20 * scan + whole[-2:]


@contextmanager
def attack(*ways: tuple[Callable[[int], requests.Response], int]) -> Iterator[None]:
    """Do each of some things over and over, in so many threads, while the context lasts."""
    stop, numbers = threading.Event(), count()

    def work(once: Callable[[int], requests.Response]) -> None:
        while not stop.is_set():
            if once(next(numbers)).status_code == 429:
                time.sleep(0.2)

    workers = [
        threading.Thread(target=work, args=[once]) for once, threads in ways for _ in range(threads)
    ]
    for worker in workers:
        worker.start()
    time.sleep(1)
    yield
    stop.set()
    for worker in workers:
        worker.join()


def assert_client_is_answered(service: Service, name: str) -> None:
    """An ordinary client asks by an image, by a URI and for a thumbnail, all the while."""
    seconds: dict[str, list[float]] = {"image": [], "id": [], "thumbnail": []}
    with requests.Session() as session:
        session.headers.update(CLIENT)
        url = f"{service.url}/v1"
        hits = session.post(f"{url}/search?n=50", data=FISH, headers=IMAGE, timeout=60)
        assert hits.status_code == 200, hits.text
        ids = [hit["id"] for hit in hits.json()["hits"]]
        ends_at = time.monotonic() + SECONDS
        for number in count():
            if time.monotonic() > ends_at:
                break
            one = ids[number % len(ids)]
            asks: dict[str, Callable[[], requests.Response]] = {
                "image": partial(session.post, f"{url}/search", data=FISH, headers=IMAGE),
                "id": partial(session.post, f"{url}/search", json={"id": one}),
                "thumbnail": partial(session.get, f"{url}/images/{one}/thumbnail"),
            }
            for what, ask in asks.items():
                started = time.monotonic()
                answer = ask()
                seconds[what].append(time.monotonic() - started)
                assert answer.status_code == 200, (what, answer.status_code, answer.text)
            time.sleep(0.05)
    for what, taken in seconds.items():
        p50, p99 = np.percentile(taken, [50, 99])
        print(f"{name}, {what}: {len(taken)} answers, p50 {p50:.3f} s, p99 {p99:.3f} s")


def test_an_ordinary_client_alone(service: Service) -> None:
    assert_client_is_answered(service, "nothing")


@pytest.mark.parametrize(
    ("name", "bomb"),
    [
        ("WebP", picture(4990, "WEBP")),
        ("PNG", picture(4990, "PNG")),
        ("scans", countless_scans(4990)),
        ("too large", picture(8900, "WEBP")),
    ],
)
def test_images_that_take_long_to_decode(service: Service, name: str, bomb: bytes) -> None:
    def once(_: int) -> requests.Response:
        return service.post("/v1/search", data=bomb, headers=ATTACKER | IMAGE)

    with attack((once, 48)):
        assert_client_is_answered(service, name)


def test_addresses_that_trickle(service: Service) -> None:
    with serve() as site:

        def once(number: int) -> requests.Response:
            url = f"{site.url}/{('slow-body', 'slow-headers', 'silence')[number % 3]}"
            return service.post("/v1/search", json={"url": url}, headers=ATTACKER)

        def in_batches(_: int) -> requests.Response:
            queries = [{"url": f"{site.url}/slow-body?{i}"} for i in range(64)]
            return service.post("/v1/search/batch", json={"queries": queries}, headers=ATTACKER)

        with attack((once, 24), (in_batches, 2)):
            assert_client_is_answered(service, "trickling addresses")


def test_connections_that_idle(service: Service) -> None:
    asks = b"GET /healthz HTTP/1.1\r\nHost: service.example\r\n\r\n"
    with ExitStack() as idle:
        for _ in range(900):
            idle.enter_context(connected(service.url)).sendall(asks)
        assert_client_is_answered(service, "900 idle connections")


def test_an_image_has_at_most_25_megapixels(service: Service) -> None:
    answer = service.post("/v1/search", data=picture(5001, "PNG"), headers=CLIENT | IMAGE)
    assert answer.status_code == 422
    assert "5001 x 5001 is more than 25,000,000 pixels" in answer.json()["detail"]
    answer = service.post("/v1/search?n=1", data=picture(5000, "PNG"), headers=CLIENT | IMAGE)
    assert answer.status_code == 200
