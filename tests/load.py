"""Clients that ask a service without pause, and note every answer that is not the right one."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

# No request may take longer: what does hangs.
BOUND_SECONDS = 60


@dataclass(frozen=True)
class Ask:
    """A search, and the URIs that are its right answer."""

    path: str
    content_type: str
    body: bytes
    uris: Sequence[str]


@dataclass(frozen=True)
class Answer:
    """What came of one request: when, after how many seconds, and what was wrong with it."""

    at: float
    seconds: float
    status: int
    fault: str


@dataclass
class Load:
    """So many clients, each with one request under way, from `add` to `stop`."""

    url: str
    asks: Sequence[Ask]
    token: str = ""
    answers: list[Answer] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)
    _clients: int = 0

    def add(self, clients: int) -> None:
        """Let so many more clients come."""
        first = self._clients
        self._clients += clients
        thread = threading.Thread(target=lambda: asyncio.run(self._all(first, clients)))
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        """Let all clients end."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def since(self, moment: float) -> list[Answer]:
        """The answers to requests that began after that moment (`time.monotonic`)."""
        return [answer for answer in self.answers if answer.at - answer.seconds >= moment]

    async def _all(self, first: int, clients: int) -> None:
        await asyncio.gather(*(self._client(number) for number in range(first, first + clients)))

    async def _client(self, number: int) -> None:
        while not self._stop.is_set():
            connection = None
            try:
                parts = urlsplit(self.url)
                connection = await asyncio.open_connection(parts.hostname, parts.port)
                while not self._stop.is_set():
                    ask = self.asks[number % len(self.asks)]
                    number += 1
                    if not await self._ask(ask, *connection):
                        break
            except OSError as error:
                now = time.monotonic()
                self.answers.append(Answer(now, 0, 0, f"no connection: {error}"))
                await asyncio.sleep(0.05)
            finally:
                if connection:
                    connection[1].close()

    async def _ask(
        self, ask: Ask, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Ask once; whether the connection can be used again."""
        head = (
            f"POST {ask.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {ask.content_type}\r\n"
            f"Content-Length: {len(ask.body)}\r\n"
        )
        head += f"Authorization: Bearer {self.token}\r\n\r\n" if self.token else "\r\n"
        started = time.monotonic()
        status, fault, again = 0, "", False
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                writer.write(head.encode() + ask.body)
                fields = (await reader.readuntil(b"\r\n\r\n")).lower().split(b"\r\n")
                status = int(fields[0].split()[1])
                again = b"connection: close" not in fields
                length = next(int(f[15:]) for f in fields if f.startswith(b"content-length:"))
                body = await reader.readexactly(length)
            if status == 200:
                uris = [hit["uri"] for hit in json.loads(body)["hits"]]
                fault = "" if uris == list(ask.uris) else f"wrong hits: {uris}"
            elif status == 503:
                waits = any(f.startswith(b"retry-after:") for f in fields)
                fault = "" if waits else "no Retry-After"
            else:
                fault = f"{status}: {body[:200]!r}"
        except TimeoutError:
            fault = "no answer"
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            fault = f"cut: {error!r}"
        now = time.monotonic()
        self.answers.append(Answer(now, now - started, status, fault))
        if status == 503:
            # As a client that is told to come back later.
            await asyncio.sleep(0.1)
        return again and not fault
