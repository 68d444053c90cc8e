"""A worker's whole application, asked in this process, or over HTTP as it is on Serve."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import uvicorn

from cluster.service.config import ServiceConfig, Tokens
from cluster.service.finder import Finder
from cluster.service.http.routes import build_app
from cluster.service.worker import QueryWorker
from simdist.store import Store
from tests.servers import eventually, free_port


def application(
    store: Store,
    names: Sequence[str],
    *,
    tokens: Tokens | None = None,
    embedder: object = None,
    **settings: Any,
) -> Any:
    """That of such a worker."""
    given_worker = worker(store, names, tokens=tokens, embedder=embedder, **settings)
    return build_app(given_worker, peers=[])


def worker(
    store: Store,
    names: Sequence[str],
    *,
    tokens: Tokens | None = None,
    embedder: object = None,
    **settings: Any,
) -> QueryWorker:
    """A worker whose embedder is in this process, or is never asked."""
    given = {"rate": 1e9, "max_staleness": 0, "loopback": True} | settings
    config = ServiceConfig(store.url, collections=tuple(names), tokens=tokens or Tokens(), **given)
    asked: Any = Handle(embedder)
    finder: Any = Handle(Finder(store.url))
    return QueryWorker(config, asked, finder=finder, name="one")


class Handle:
    """What Serve gives to reach a deployment by, for one that is in this process."""

    def __init__(self, deployed: object) -> None:
        self._deployed = deployed

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._deployed, name))


class Caller:
    """Asks an application, with a token."""

    def __init__(
        self, store: Store, tokens: Tokens, names: Sequence[str], *, app: Any = None
    ) -> None:
        app = app or application(store, names, tokens=tokens)
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=True)

    def ask(self, token: str, method: str, path: str, **options: Any) -> httpx.Response:
        async def work() -> httpx.Response:
            async with httpx.AsyncClient(
                transport=self._transport, base_url="http://127.0.0.1"
            ) as client:
                headers = {"Authorization": f"Bearer {token}"} | options.pop("headers", {})
                return await client.request(method, path, headers=headers, **options)

        return asyncio.run(work())

    def search(self, token: str, **body: Any) -> httpx.Response:
        return self.ask(token, "POST", "/v1/search", json=body)


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """An application over HTTP, by the server that Serve uses; yields its address."""
    port = free_port()
    config = uvicorn.Config(app, port=port, log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        eventually(lambda: server.started)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@contextmanager
def asking(url: str, body: Any, *, clients: int = 32) -> Iterator[list[tuple[int, Any]]]:
    """So many clients that search without pause, each on a connection of its own.

    Yields:
        The status and the body of every answer so far.
    """
    answers: list[tuple[int, Any]] = []
    done, parts = threading.Event(), urlsplit(url)
    data = json.dumps(body).encode()

    def ask() -> None:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
        with closing(connection):
            while not done.is_set():
                headers = {"Content-Type": "application/json"}
                connection.request("POST", "/v1/search", data, headers)
                answer = connection.getresponse()
                answers.append((answer.status, json.load(answer)))

    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        done.set()
        for thread in threads:
            thread.join()


def labels(answers: Sequence[tuple[int, Any]]) -> set[tuple[int, tuple[str, ...]]]:
    """The statuses of answers, each with the labels of its hits."""
    return {
        (status, tuple(sorted({hit["label"] for hit in answer.get("hits", [])})))
        for status, answer in answers
    }
