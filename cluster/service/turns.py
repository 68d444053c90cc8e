"""Threads that several bearers share: none of them holds all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import TypeVar

T = TypeVar("T")

# Whose request is being answered: a token's digest; "" where there are none.
ASKED_BY: ContextVar[str] = ContextVar("simdist_bearer", default="")


class Turns:
    """A pool of threads, of which one bearer holds at most so many; its other work waits."""

    def __init__(self, threads: int, *, each: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._each = each
        self._free: dict[str, asyncio.Semaphore] = {}

    async def run(self, work: Callable[[], T]) -> T:
        """Run work in a thread when it is its bearer's turn."""
        free = self._free.setdefault(ASKED_BY.get(), asyncio.Semaphore(self._each))
        await free.acquire()
        loop = asyncio.get_running_loop()
        # Given back when the thread is free, not when the caller no longer waits for it.
        done = self._pool.submit(work)
        done.add_done_callback(lambda _: loop.call_soon_threadsafe(free.release))
        return await asyncio.wrap_future(done)
