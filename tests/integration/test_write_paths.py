"""However a path is written: without a write token nothing of a collection changes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from itertools import product
from typing import Any
from urllib.parse import quote, unquote

import pytest
from starlette.types import ASGIApp, Message

from cluster.service.config import ServiceConfig, Tokens, token_digest
from cluster.service.http.routes import build_app
from cluster.service.worker import QueryWorker
from simdist.index.collection import Collection
from simdist.store import connect
from tests.collections import filled, meta, ref
from tests.hostile import READ_TOKEN, WRITE_TOKEN

TOKENS = Tokens((token_digest(READ_TOKEN),), (token_digest(WRITE_TOKEN),))
READING = ("GET", "HEAD", "OPTIONS")
METHODS = (*READING, "POST", "PUT", "PATCH", "DELETE", "TRACE", "PROPFIND", "post", "delete")
# Each byte as a server unquotes it, and as it is; twice encoded it comes through encoded.
INSERTED = [*sorted({text for b in range(256) for text in (unquote(f"%{b:02X}"), chr(b))}), "%0A"]


@pytest.fixture(scope="module")
def collection(valkey_url: str) -> Iterator[Collection]:
    store = connect(valkey_url)
    store.call("FLUSHALL")
    yield filled(store)
    store.close()


@pytest.fixture(scope="module")
def app(collection: Collection, valkey_url: str) -> ASGIApp:
    """The application of a worker, whose embedder is never asked."""
    config = ServiceConfig(valkey_url, collections=(collection.name,), tokens=TOKENS, rate=1e9)
    embedder: Any = object()
    return build_app(QueryWorker(config, embedder, name="one"), peers=[])


async def ask(app: ASGIApp, method: str, path: str, token: str | None) -> tuple[int, bytes]:
    """What a path is answered as a server hands it on, with all that a deletion needs.

    Returns:
        The status code and the body.
    """
    headers = [(b"host", b"service.example"), (b"content-type", b"image/jpeg")]
    if token is not None:
        headers.append((b"authorization", f"Bearer {token}".encode()))
    answered: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"no image", "more_body": False}

    async def send(message: Message) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"uri=" + quote(ref(0).uri).encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in answered[1:])
    return int(answered[0]["status"]), body


async def writing_paths(app: ASGIApp) -> list[str]:
    """The paths of all operations that do not only read by their method."""
    _, described = await ask(app, "GET", "/v1/openapi.json", None)
    paths: dict[str, dict[str, Any]] = json.loads(described)["paths"]
    return [path for path, methods in paths.items() if {*methods} - {"get"}]


def state(collection: Collection) -> tuple[Any, ...]:
    """What every write changes: the number of changes, and what there is."""
    return meta(collection), collection.store.call("DBSIZE"), collection.count()


@pytest.mark.slow
@pytest.mark.parametrize("token", [READ_TOKEN, None], ids=["read", "none"])
def test_no_byte_in_a_path_makes_a_write_of_it(
    app: ASGIApp, collection: Collection, token: str | None
) -> None:
    # 422: it is read as something to look at, whose name it is not.
    refused = (400, 403, 404, 405, 422) if token else (400, 401)
    let_in = []

    async def work() -> None:
        paths = await writing_paths(app)
        assert "/v1/images" in paths
        for path, inserted, method in product(paths, INSERTED, METHODS):
            everywhere = (0, 1, len(path) // 2, len(path))
            for at in everywhere if path == "/v1/images" else everywhere[-1:]:
                asked = path[:at] + inserted + path[at:]
                status, _ = await ask(app, method, asked, token)
                if status not in refused:
                    let_in.append((method, asked, status))

    before = state(collection)
    asyncio.run(work())
    assert state(collection) == before, let_in
    assert let_in == []


def test_only_a_write_token_writes(app: ASGIApp, collection: Collection) -> None:
    """The same requests with the path as it is; the last one shows that they are complete."""

    async def work() -> None:
        for token, method in product((None, READ_TOKEN), METHODS):
            status, _ = await ask(app, method, "/v1/images", token)
            looks = 405 if method == "OPTIONS" else 422
            assert status == (401 if token is None else looks if method in READING else 403)
        assert state(collection) == before
        assert (await ask(app, "DELETE", "/v1/images", WRITE_TOKEN))[0] == 200

    before = state(collection)
    asyncio.run(work())
    assert state(collection) != before
    assert collection.count() == before[-1] - 1
