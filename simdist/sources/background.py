"""Calls that wait for a store, out of the way of Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from threading import Thread, current_thread, main_thread
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def in_background(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
    """Call something in a thread that nobody waits for when the process ends.

    A client that is not written in Python, and tries again for minutes, does not hear Ctrl-C; and
    Python itself waits for the threads of its pools.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(call(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="simdist-request", daemon=True).start()
    return future


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items: while one is used, the next is made in the background."""
    coming = in_background(next, items, None)
    while (item := coming.result()) is not None:
        coming = in_background(next, items, None)
        yield item


def interruptibly(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call something that waits for a store, so that Ctrl-C is heard meanwhile.

    Only the main thread hears it: anywhere else a second thread would be for nothing.
    """
    if current_thread() is not main_thread():
        return call(*args, **kwargs)
    return in_background(call, *args, **kwargs).result()
