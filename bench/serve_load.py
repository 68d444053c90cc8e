"""A load generator, a process of its own: so many clients, each with one request under way.

    python -m bench.serve_load URL CONTENT_TYPE CLIENTS SECONDS < BODY

Prints a JSON object: latencies in ms by when they ended, answers a second, answers by status, and
the seconds of a processor that it took itself.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import cast
from urllib.parse import urlsplit

import uvloop

_LENGTH = b"content-length:"


class Client(asyncio.Protocol):
    """Sends the request over and over on one connection.

    A protocol and not a stream: it takes a third of the time, and the load generator is not to be
    what is measured.
    """

    def __init__(
        self, request: bytes, until: float, taken: list[float], statuses: Counter[str]
    ) -> None:
        self._request = request
        self._until = until
        self._taken = taken
        self._statuses = statuses
        self._started = 0.0
        self._answer = b""
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        fields = head.lower().split(b"\r\n")
        length = next(int(f[len(_LENGTH) :]) for f in fields if f.startswith(_LENGTH))
        if len(body) < length:
            return
        self._taken.append(time.perf_counter() - self._started)
        self._statuses[fields[0].split()[1].decode()] += 1
        if b"connection: close" in fields or time.perf_counter() > self._until:
            self._started = 0.0
            self._transport.close()
        else:
            self._send()

    def connection_lost(self, _: Exception | None) -> None:
        if self._started:
            self._statuses["cut"] += 1
        self.closed.set_result(None)

    def _send(self) -> None:
        self._answer = b""
        self._started = time.perf_counter()
        self._transport.write(self._request)


async def client(
    url: str, request: bytes, until: float, taken: list[float], statuses: Counter[str]
) -> None:
    """One client; a new connection where one was closed."""
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    loop = asyncio.get_running_loop()
    while time.perf_counter() < until:
        _, connection = await loop.create_connection(
            lambda: Client(request, until, taken, statuses), host, port
        )
        await connection.closed


async def load(
    url: str, kind: str, body: bytes, *, clients: int, seconds: float
) -> dict[str, object]:
    """Load a service; returns what is printed."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: {kind}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    until = time.perf_counter() + seconds
    taken: list[list[float]] = [[] for _ in range(clients)]
    statuses: Counter[str] = Counter()
    started, worked = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client(url, request, until, mine, statuses) for mine in taken))
    spent = time.perf_counter() - started
    # The first tenth warms up.
    latencies = [1000 * one for mine in taken for one in mine[len(mine) // 10 :]]
    return {
        "latencies_ms": latencies,
        "per_s": sum(map(len, taken)) / spent,
        "statuses": dict(statuses),
        "cpu_s": time.process_time() - worked,
    }


if __name__ == "__main__":
    _, address, content_type, number, duration = sys.argv
    found = uvloop.run(
        load(
            address,
            content_type,
            sys.stdin.buffer.read(),
            clients=int(number),
            seconds=float(duration),
        )
    )
    print(json.dumps(found))
