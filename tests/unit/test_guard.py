"""What every request passes first, around a small application."""

from __future__ import annotations

import asyncio
import hmac
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import product
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from cluster.service.config import ServiceConfig, Tokens, token_digest
from cluster.service.http import guard
from cluster.service.http.bearers import charge
from cluster.service.http.guard import Guard
from cluster.service.http.problems import ProblemError
from cluster.service.metrics import ServiceMetrics, exposition
from cluster.service.turns import ASKED_BY, Turns

READ, WRITE = "a-token-that-may-read", "a-token-that-may-write"
TOKENS = Tokens((token_digest(READ),), (token_digest(WRITE),))
BEARER = {"Authorization": f"Bearer {READ}"}
WRITER = {"Authorization": f"Bearer {WRITE}"}


class Site:
    """The guard around an application that counts who came through."""

    def __init__(self, **settings: Any) -> None:
        self.passed: list[str] = []
        self.go_on = asyncio.Event()
        routes = [
            Route("/", self._show),
            Route("/page/{name}", self._show),
            Route("/healthz", self._show),
            Route("/v1/images", self._show, methods=["GET", "POST", "DELETE", "PUT"]),
            Route("/v1/search", self._read, methods=["POST"]),
            Route("/v1/wait", self._wait),
            Route("/v1/cost/{cost:int}", self._cost),
        ]
        self.config = ServiceConfig(redis_url="redis://nowhere", loopback=True, **settings)
        self.metrics = ServiceMetrics("one")
        self._site = Starlette(routes=routes, exception_handlers={ProblemError: _as_in_the_api})
        self.app = Guard(self._answer, config=self.config, metrics=self.metrics)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope.get("path") == "/v1/fail":
            raise RuntimeError("a secret of the machine")
        await self._site(scope, receive, send)

    async def _show(self, request: Request) -> Response:
        self.passed.append(f"{request.method} {request.url.path}")
        return PlainTextResponse("shown")

    async def _read(self, request: Request) -> Response:
        return PlainTextResponse(str(len(await request.body())))

    async def _wait(self, _: Request) -> Response:
        self.passed.append("waits")
        await self.go_on.wait()
        return PlainTextResponse("waited")

    async def _cost(self, request: Request) -> Response:
        charge(request, request.path_params["cost"] - 1)
        return PlainTextResponse("paid")

    def client(self, root_path: str = "") -> httpx.AsyncClient:
        transport = httpx.ASGITransport(self.app, root_path=root_path)
        return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1")


async def _as_in_the_api(_: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


def within(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine."""
    asyncio.run(work())


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of a refusal."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body["status"] == status
    assert body["title"] and body["detail"]
    return body


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        f"Bearer {READ}x",
        f"Bearer {READ[:-1]}",
        f"Bearer {READ.upper()}",
        f"Basic {READ}",
        READ,
        f"Bearer {token_digest(READ)}",
    ],
)
def test_without_its_token_nothing_passes(header: str | None) -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS)
        headers = {} if header is None else {"Authorization": header}
        async with site.client() as client:
            for path in ("/v1/images", "/metrics", "/page", "/healthz/", "/nowhere"):
                answer = await client.get(path, headers=headers, params={"token": READ})
                problem(answer, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer")
        assert site.passed == []

    within(work)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.0.0.1:8000", "localhost:1", "[::1]:8000", "[::1]"]
)
def test_without_tokens_its_own_machine_is_answered(host: str) -> None:
    async def work() -> None:
        site = Site()
        async with site.client() as client:
            answer = await client.post("/v1/images", headers={"Host": host})
        assert answer.text == "shown"

    within(work)


@pytest.mark.parametrize(
    "host",
    [
        *(
            "",
            "evil.example",
            "evil.example:8000",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
        ),
        *("0.0.0.0", "10.0.0.1:8000", "[::1", "127.0.0.1@evil.example", "[::ffff:10.0.0.1]"),
    ],
)
def test_without_tokens_no_other_name_is_answered(host: str) -> None:
    """A page whose name is rebound to 127.0.0.1 is of the same origin to its browser."""

    async def work() -> None:
        site = Site()
        async with site.client() as client:
            for path, method in (("/v1/images", "GET"), ("/v1/images", "DELETE"), ("/", "GET")):
                problem(await client.request(method, path, headers={"Host": host}), 421)
        assert site.passed == []

    within(work)


def test_with_tokens_any_name_is_answered() -> None:
    async def work() -> None:
        async with Site(tokens=TOKENS).client() as client:
            answer = await client.get("/v1/images", headers={**BEARER, "Host": "photos.example"})
        assert answer.text == "shown"

    within(work)


@pytest.mark.parametrize("tokens", [Tokens(), TOKENS])
def test_a_page_of_another_site_cannot_write(tokens: Tokens) -> None:
    async def work() -> None:
        site = Site(tokens=tokens)
        async with site.client() as client:
            for where, method in product(
                ("cross-site", "same-site", "new"), ("POST", "DELETE", "PUT")
            ):
                headers = {**WRITER, "Sec-Fetch-Site": where}
                problem(await client.request(method, "/v1/images", headers=headers), 403)
            assert site.passed == []
            for where in ("same-origin", "none"):
                headers = {**WRITER, "Sec-Fetch-Site": where}
                assert (await client.post("/v1/images", headers=headers)).text == "shown"

    within(work)


def test_the_page_and_the_health_are_open() -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS)
        async with site.client() as client:
            for path in ("/", "/page/page.js", "/healthz"):
                assert (await client.get(path)).status_code == 200

    within(work)


@pytest.mark.parametrize("kind", ["Bearer", "bearer", "BEARER"])
def test_a_read_token_reads_and_a_write_token_does_both(kind: str) -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS)
        async with site.client() as client:
            for token, allowed in (
                (READ, {"GET"}),
                (WRITE, {"GET", "PUT", "POST", "DELETE"}),
            ):
                for method in ("GET", "PUT", "POST", "DELETE"):
                    headers = {"Authorization": f"{kind} {token}"}
                    answer = await client.request(method, "/v1/images", headers=headers)
                    if method in allowed:
                        assert answer.status_code == 200
                    else:
                        assert "write token" in problem(answer, 403)["detail"]

    within(work)


def test_without_tokens_all_pass() -> None:
    async def work() -> None:
        site = Site()
        async with site.client() as client:
            assert (await client.delete("/v1/images")).status_code == 200

    within(work)


@pytest.mark.parametrize("prefix", ["", "/similar", "/a/b"])
def test_a_prefix_changes_nothing(prefix: str) -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS)
        async with site.client(root_path=prefix) as client:
            assert (await client.get(f"{prefix}/healthz")).status_code == 200
            problem(await client.get(f"{prefix}/v1/images"), 401)
            answer = await client.post(f"{prefix}/v1/images", headers=BEARER)
            problem(answer, 403)
            if prefix:  # what looks open beside the prefix is not
                problem(await client.get(f"{prefix}{prefix}/healthz"), 401)

    within(work)


def test_a_token_that_asks_too_often_waits() -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS, rate=5)
        async with site.client() as client:
            answers = [await client.get("/v1/images", headers=BEARER) for _ in range(30)]
            refused = [answer for answer in answers if answer.status_code != 200]
            # Two seconds' worth at once, and what came in meanwhile.
            assert 10 <= len(answers) - len(refused) < 30
            for answer in refused:
                assert "5 requests a second" in problem(answer, 429)["detail"]
                assert int(answer.headers["retry-after"]) >= 1
            other = {"Authorization": f"Bearer {WRITE}"}
            assert (await client.get("/v1/images", headers=other)).status_code == 200
            await asyncio.sleep(0.5)
            assert (await client.get("/v1/images", headers=BEARER)).status_code == 200

    within(work)


def test_what_costs_more_is_counted_as_more() -> None:
    async def work() -> None:
        async with Site(tokens=TOKENS, rate=5).client() as client:
            # Two seconds' worth: a request that costs it all leaves nothing, for half a minute.
            assert (await client.get("/v1/cost/150", headers=BEARER)).text == "paid"
            for path in ("/v1/cost/1", "/v1/images"):
                problem(await client.get(path, headers=BEARER), 429)
            assert (await client.get("/v1/cost/5", headers=WRITER)).text == "paid"
            assert (await client.get("/v1/cost/10", headers=WRITER)).text == "paid"
            problem(await client.get("/v1/images", headers=WRITER), 429)

    within(work)


def test_one_token_holds_a_quarter_of_the_places() -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS, queue=12)
        async with site.client() as client:
            waiting = [
                asyncio.create_task(client.get("/v1/wait", headers=BEARER)) for _ in range(3)
            ]
            while len(site.passed) < 3:
                await asyncio.sleep(0.01)
            answer = await client.get("/v1/images", headers=BEARER)
            assert "has 3 requests under way" in problem(answer, 429)["detail"]
            assert answer.headers["retry-after"] == "1"
            assert (await client.get("/v1/images", headers=WRITER)).text == "shown"
            site.go_on.set()
            await asyncio.gather(*waiting)
            assert (await client.get("/v1/images", headers=BEARER)).text == "shown"

    within(work)


def test_a_token_that_is_the_only_one_may_have_all_places() -> None:
    async def work() -> None:
        site = Site(tokens=Tokens(read=TOKENS.read), queue=12)
        async with site.client() as client:
            waiting = [
                asyncio.create_task(client.get("/v1/wait", headers=BEARER)) for _ in range(12)
            ]
            while len(site.passed) < 12:
                await asyncio.sleep(0.01)
            problem(await client.get("/v1/images", headers=BEARER), 503)
            site.go_on.set()
            await asyncio.gather(*waiting)

    within(work)


def test_no_bearer_holds_all_threads() -> None:
    """Not even by requests that are given up: their threads are busy all the same."""
    release = threading.Event()

    async def ask(turns: Turns, bearer: str) -> None:
        ASKED_BY.set(bearer)
        await turns.run(lambda: release.wait(10))

    async def work() -> None:
        turns = Turns(3, each=2, name="test")
        many = [asyncio.create_task(ask(turns, "one")) for _ in range(20)]
        await asyncio.sleep(0.05)
        for task in many[:10]:
            task.cancel()
        await asyncio.sleep(0.05)
        ASKED_BY.set("other")
        assert await turns.run(lambda: "answered") == "answered"
        release.set()
        done = await asyncio.gather(*many, return_exceptions=True)
        assert done.count(None) == 10

    within(work)


def test_the_limits_are_those_of_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MAX_UPLOAD", 100)
    monkeypatch.setattr(guard, "MAX_JSON", 10)

    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(size):
            yield b"x"

    async def work() -> None:
        site = Site()
        async with site.client() as client:
            for media_type, limit in {
                "image/png": 100,
                "application/json; charset=utf-8": 10,
            }.items():
                headers = {"Content-Type": media_type}
                for body in (bytes, chunks):
                    answer = await client.post("/v1/search", content=body(limit), headers=headers)
                    assert answer.text == str(limit)
                    more = body(limit + 1)
                    answer = await client.post("/v1/search", content=more, headers=headers)
                    assert f"more than {limit} bytes" in problem(answer, 413)["detail"]
                lying = headers | {"Content-Length": "5"}
                answer = await client.post("/v1/search", content=chunks(limit + 1), headers=lying)
                problem(answer, 413)
            headers = {"Content-Length": "-1"}
            problem(await client.post("/v1/search", content=b"x", headers=headers), 400)

    within(work)


@pytest.mark.parametrize("path", ["/v1/images%0A", "/v1/search%0D", "/%00", "/healthz%20", "/%7F"])
def test_an_ambiguous_path_is_refused(path: str) -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS)
        async with site.client() as client:
            for method in ("GET", "POST", "DELETE"):
                answer = await client.request(method, path, headers=WRITER)
                assert "cannot be printed" in problem(answer, 400)["detail"]
        assert site.passed == []

    within(work)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v1/search", {}, 401),
        ("/v1/search", BEARER, 413),
        ("/v1/nothing", BEARER, 403),
        ("/v1/nothing", WRITER, 404),
        ("/v1/wait", WRITER, 405),
        ("/page/app.js", {}, 405),
    ],
)
def test_a_body_is_read_before_it_is_refused(
    path: str, headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the connection would be reset, and the answer lost; but no endless one is read."""
    monkeypatch.setattr(guard, "MAX_UPLOAD", 100)
    monkeypatch.setattr(guard, "_REFUSED_BYTES", 1000)
    sent = 0

    async def body(size: int) -> AsyncIterator[bytes]:
        nonlocal sent
        sent = 0
        for _ in range(size):
            sent += 1
            yield b"x"

    async def work() -> None:
        site = Site(tokens=TOKENS)
        async with site.client() as client:
            for size, read in {500: 500, 5000: 1000}.items():
                answer = await client.post(path, content=body(size), headers=headers)
                assert answer.status_code == status
                assert sent == read

    within(work)


def test_a_busy_worker_says_so_at_once() -> None:
    async def work() -> None:
        site = Site(queue=3)
        async with site.client() as client:
            waiting = [asyncio.create_task(client.get("/v1/wait")) for _ in range(3)]
            while len(site.passed) < 3:
                await asyncio.sleep(0.01)
            answer = await client.get("/v1/images")
            problem(answer, 503)
            assert answer.headers["retry-after"] == "1"
            assert (await client.get("/healthz")).status_code == 200
            site.go_on.set()
            assert [answer.text for answer in await asyncio.gather(*waiting)] == ["waited"] * 3
            assert (await client.get("/v1/images")).status_code == 200

    within(work)


def test_an_answer_that_does_not_come_in_time_is_503() -> None:
    async def work() -> None:
        site = Site(deadline=0.05, queue=1)
        async with site.client() as client:
            for _ in range(2):  # the place is free again
                answer = await client.get("/v1/wait")
                assert "0.05 s" in problem(answer, 503)["detail"]
                assert answer.headers["retry-after"] == "1"

    within(work)


def test_a_body_that_arrives_too_late_is_answered_408() -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    async def work() -> None:
        site = Site(deadline=0.05)
        async with site.client() as client:
            headers = {"Content-Type": "image/png"}
            answer = await client.post("/v1/search", content=slow(), headers=headers)
            assert "0.05 s to arrive" in problem(answer, 408)["detail"]

    within(work)


def test_an_internal_error_reveals_nothing() -> None:
    async def work() -> None:
        site = Site()
        async with site.client() as client:
            answer = await client.get("/v1/fail")
            problem(answer, 500)
            assert "secret" not in answer.text
        text = exposition([site.metrics.collect()]).decode()
        assert 'status="500"' in text
        assert 'simdist_requests_under_way{worker="one"} 0.0' in text

    within(work)


def test_unknown_paths_share_one_metric_series() -> None:
    async def work() -> None:
        site = Site()
        async with site.client() as client:
            for number in range(20):
                await client.get(f"/v1/nowhere/{number}")
        text = exposition([site.metrics.collect()]).decode()
        assert "nowhere" not in text
        assert 'route="other"' in text

    within(work)


def test_every_answer_has_the_headers_of_safety() -> None:
    async def work() -> None:
        site = Site(tokens=TOKENS)
        async with site.client() as client:
            for path in ("/", "/page/x", "/healthz", "/v1/images", "/nowhere", "/v1/fail"):
                for headers in ({}, BEARER):
                    answer = await client.get(path, headers=headers)
                    assert answer.headers["x-content-type-options"] == "nosniff"
                    assert answer.headers["referrer-policy"] == "no-referrer"
                    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
                    policy = answer.headers["content-security-policy"]
                    assert policy.startswith("default-src 'none'")
                    assert "unsafe" not in policy
                    page = path in ("/", "/page/x")
                    assert ("script-src 'self'" in policy) == page
                    assert (answer.headers.get("cache-control") == "no-store") == (not page)

    within(work)


def test_no_websocket() -> None:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def work() -> None:
        await Site().app({"type": "websocket", "path": "/"}, receive, send)

    within(work)
    assert [message["type"] for message in sent] == ["websocket.close"]


def test_tokens_are_compared_as_digests_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """All known ones, every time, whichever is right: what is compared are digests."""
    compared: list[tuple[str, str]] = []
    compare = hmac.compare_digest

    def count(given: str, known: str) -> bool:
        compared.append((given, known))
        return bool(compare(given, known))

    monkeypatch.setattr(hmac, "compare_digest", count)

    async def work() -> None:
        site = Site(tokens=TOKENS)
        async with site.client() as client:
            for token in (READ, WRITE, READ[:-1], "\u00fc" * 20):
                compared.clear()
                headers = {b"Authorization": f"Bearer {token}".encode()}
                await client.get("/v1/images", headers=headers)
                assert {known for _, known in compared} == {*TOKENS.read, *TOKENS.write}
                assert {len(given) for given, _ in compared} == {64}

    within(work)
