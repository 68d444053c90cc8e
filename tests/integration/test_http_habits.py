"""How browsers, scripts and monitors speak HTTP to the service, beyond what its document says."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from cluster.service.config import ServiceConfig, Tokens, token_digest
from cluster.service.http.routes import build_app
from cluster.service.worker import QueryWorker
from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.store import connect
from tests.collections import filled, ref
from tests.conftest import QUERIES
from tests.hostile import READ_TOKEN

SHOP = "https://shop.example"
JPEG = (QUERIES / "fish.jpg").read_bytes()
PREFLIGHT = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}


@pytest.fixture(scope="module")
def collection(valkey_url: str) -> Iterator[Collection]:
    store = connect(valkey_url)
    store.call("FLUSHALL")
    yield filled(store)
    store.close()


class Site:
    """The application of a worker, whose embedder is never asked."""

    def __init__(self, collection: Collection, url: str, **settings: Any) -> None:
        names = (collection.name,)
        config = ServiceConfig(url, collections=names, loopback=True, rate=1e9, **settings)
        embedder: Any = object()
        self._app = build_app(QueryWorker(config, embedder, name="one"), peers=[])

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1"
            ) as client:
                return await client.request(method, path, **request)

        return asyncio.run(send())


@pytest.fixture(scope="module")
def site(collection: Collection, valkey_url: str) -> Site:
    return Site(collection, valkey_url)


@pytest.fixture(scope="module")
def shop(collection: Collection, valkey_url: str) -> Site:
    return Site(collection, valkey_url, cors_origins=(SHOP,))


@pytest.mark.parametrize("path", ["/", "/page/style.css", "/healthz", "/readyz", "/v1/collections"])
def test_head_is_get_without_its_body(site: Site, path: str) -> None:
    got, headed = site.ask("GET", path), site.ask("HEAD", path)
    assert got.status_code == headed.status_code == 200
    assert headed.headers == got.headers
    assert got.content
    assert not headed.content


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/search", "POST"),
        ("HEAD", "/v1/search/batch", "POST"),
        ("OPTIONS", "/v1/search", "POST"),
        ("POST", "/", "GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("PUT", "/v1/images", "DELETE, GET, HEAD, PATCH, POST"),
        ("DELETE", "/v1/images/" + "0" * 24, "GET, HEAD, PATCH"),
        ("GET", "/v1/aliases/shop", "DELETE, PUT"),
    ],
)
def test_what_a_path_takes_is_said(site: Site, method: str, path: str, allowed: str) -> None:
    answer = site.ask(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    if method != "HEAD":
        assert f"takes {allowed} only" in answer.json()["detail"]


class TestOtherSites:
    """Pages that call the service from a browser."""

    def test_without_leave_nobody_is_let_in(self, site: Site) -> None:
        answer = site.ask("OPTIONS", "/v1/search", headers=PREFLIGHT)
        assert answer.status_code == 405
        assert "access-control-allow-origin" not in answer.headers

    def test_a_page_of_an_origin_that_may(self, shop: Site) -> None:
        asked = shop.ask("OPTIONS", "/v1/search", headers=PREFLIGHT)
        assert asked.status_code == 200
        assert asked.headers["access-control-allow-origin"] == SHOP
        headers = {"Origin": SHOP, "Sec-Fetch-Site": "cross-site"}
        for path, status in (("/v1/search", 200), ("/v1/nowhere", 404)):
            found = shop.ask("POST", path, json={"uri": ref(1).uri}, headers=headers)
            assert found.status_code == status
            assert found.headers["access-control-allow-origin"] == SHOP

    @pytest.mark.parametrize(
        "origin", ["https://shop.example.evil", "http://shop.example", "https://evil", "null"]
    )
    def test_all_others_are_refused(self, shop: Site, origin: str) -> None:
        asked = shop.ask("OPTIONS", "/v1/search", headers=PREFLIGHT | {"Origin": origin})
        assert asked.status_code == 400
        assert "access-control-allow-origin" not in asked.headers
        # A browser of before 2023 does not say that the page is another site's.
        for more in ({}, {"Sec-Fetch-Site": "cross-site"}):
            headers = {"Origin": origin} | more
            answer = shop.ask("POST", "/v1/images", files={"file": JPEG}, headers=headers)
            assert answer.status_code == 403
            assert "access-control-allow-origin" not in answer.headers

    def test_its_pages_need_a_token_as_all_do(
        self, collection: Collection, valkey_url: str
    ) -> None:
        tokens = Tokens((token_digest(READ_TOKEN),))
        site = Site(collection, valkey_url, cors_origins=(SHOP,), tokens=tokens)
        headers = {"Origin": SHOP}
        asked = {"uri": ref(1).uri}
        assert site.ask("POST", "/v1/search", json=asked, headers=headers).status_code == 401
        assert site.ask("OPTIONS", "/v1/search", headers=PREFLIGHT).status_code == 200
        headers |= {"Authorization": f"Bearer {READ_TOKEN}"}
        assert site.ask("POST", "/v1/search", json=asked, headers=headers).status_code == 200

    @pytest.mark.parametrize("origin", ["*", "shop.example", f"{SHOP}/", "null", "https://a b"])
    def test_what_is_no_origin(self, origin: str) -> None:
        with pytest.raises(UsageError, match="not the origin of a page"):
            ServiceConfig("redis://nowhere", loopback=True, cors_origins=(origin,))


class TestBodies:
    """What is refused, and with which words; tests/cluster/test_service.py sends what is taken."""

    @pytest.mark.parametrize(
        ("given", "status", "words"),
        [
            ({"image": "no base64!"}, 422, "not base64"),
            ({"image": "data:image/jpeg,xyz"}, 422, "not a data URL of base64"),
            ({"image": ""}, 422, "image"),
            ({"url": "data:image/jpeg;base64,AAAA"}, 422, "give it as image"),
            ({"image": "AAAA", "uri": "urn:a"}, 422, "exactly one of"),
        ],
    )
    def test_images_in_json(
        self, site: Site, given: dict[str, str], status: int, words: str
    ) -> None:
        answer = site.ask("POST", "/v1/search", json=given)
        assert answer.status_code == status
        assert words in answer.json()["detail"]

    @pytest.mark.parametrize(
        "form",
        [
            {"files": {"a": JPEG, "b": JPEG}},
            {"files": {"a": JPEG}, "data": {"n": "3"}},
            {"files": {"a": (None, b"text")}},
            {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data"}},
            {
                "content": b"nothing",
                "headers": {"Content-Type": "multipart/form-data; boundary=x"},
            },
            {
                "content": b"--x\r\n" * 1000,
                "headers": {"Content-Type": "multipart/form-data; boundary=x"},
            },
        ],
    )
    def test_forms(self, site: Site, form: dict[str, Any]) -> None:
        answer = site.ask("POST", "/v1/search", **form)
        assert answer.status_code == 422
        assert "form" in answer.json()["detail"]

    @pytest.mark.parametrize("body", [b"n=3", b"{}", b""])
    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", None])
    def test_bytes_that_are_no_image_and_say_nothing(
        self, site: Site, body: bytes, kind: str | None
    ) -> None:
        headers = {"Content-Type": kind} if kind else {}
        answer = site.ask("POST", "/v1/search", content=body, headers=headers)
        assert answer.status_code == 415
        assert "multipart/form-data" in answer.json()["detail"]

    def test_a_numpy_file_as_curl_sends_it(self, site: Site, collection: Collection) -> None:
        vector, file = np.ones(collection.dim, "<f4"), io.BytesIO()
        np.save(file, vector)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        found = site.ask("POST", "/v1/search", content=file.getvalue(), headers=headers)
        assert (
            found.json() == site.ask("POST", "/v1/search", json={"vector": vector.tolist()}).json()
        )
