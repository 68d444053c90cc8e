"""A load generator, a process of its own: so many clients, each with one request under way.

    python -m bench.serve_load URL CONTENT_TYPE CLIENTS SECONDS < BODY

Prints a JSON object: latencies in ms by when they ended, answers a second, answers by status.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from urllib.parse import urlsplit


async def client(
    url: str, request: bytes, until: float, taken: list[float], statuses: Counter[str]
) -> None:
    """Send the request over and over on one connection; a new one where it was closed."""
    parts = urlsplit(url)
    while time.perf_counter() < until:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            while time.perf_counter() < until:
                started = time.perf_counter()
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                fields = head.lower().split(b"\r\n")
                length = next(int(f[15:]) for f in fields if f.startswith(b"content-length:"))
                await reader.readexactly(length)
                taken.append(time.perf_counter() - started)
                statuses[fields[0].split()[1].decode()] += 1
                if b"connection: close" in fields:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            statuses["cut"] += 1
        finally:
            writer.close()


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
    started = time.perf_counter()
    await asyncio.gather(*(client(url, request, until, mine, statuses) for mine in taken))
    spent = time.perf_counter() - started
    # The first tenth warms up.
    latencies = [1000 * one for mine in taken for one in mine[len(mine) // 10 :]]
    return {
        "latencies_ms": latencies,
        "per_s": sum(map(len, taken)) / spent,
        "statuses": dict(statuses),
    }


if __name__ == "__main__":
    _, address, content_type, number, duration = sys.argv
    found = asyncio.run(
        load(
            address,
            content_type,
            sys.stdin.buffer.read(),
            clients=int(number),
            seconds=float(duration),
        )
    )
    print(json.dumps(found))
