"""A time limit on everything that a web session waits for."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import TYPE_CHECKING

from simdist.errors import FetchError

if TYPE_CHECKING:
    import requests
    from urllib3 import HTTPConnectionPool


def took_longer(seconds: float) -> str:
    """What is said of a fetch that is ended by its time limit."""
    return f"it took more than {seconds:g} seconds"


class Deadline:
    """Shuts a session's connections when its time is up, whatever they are waiting for.

    A socket's own timeout starts anew with every byte, so a server that sends one byte at a time
    would hold its reader for as long as it likes: in the TLS handshake, the headers or the body.

    A context manager: leaving it late raises `FetchError`, in place of what the cut caused.
    """

    def __init__(self, session: requests.Session, seconds: float) -> None:
        self._seconds = seconds
        self._passed = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._shut)
        self._timer.daemon = True
        for adapter in session.adapters.values():
            manager = adapter.poolmanager  # type: ignore[attr-defined]
            manager.pool_classes_by_scheme = {
                scheme: self._watched(pool)
                for scheme, pool in manager.pool_classes_by_scheme.items()
            }

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        self._timer.join()
        for watched in self._sockets:
            watched.close()
        if self._passed:
            raise FetchError(took_longer(self._seconds)) from error

    def _watched(self, pool: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
        watch = self._watch

        class Connection(pool.ConnectionCls):  # type: ignore[name-defined, misc]
            def _new_conn(self) -> socket.socket:
                return watch(super()._new_conn())

        class Pool(pool):  # type: ignore[valid-type, misc]
            ConnectionCls = Connection

        return Pool

    def _watch(self, connected: socket.socket) -> socket.socket:
        # A duplicate: shutting it shuts the connection, also where TLS has taken the original over.
        self._sockets.append(connected.dup())
        if self._passed:
            self._shut()
        return connected

    def _shut(self) -> None:
        self._passed = True
        for watched in list(self._sockets):
            with contextlib.suppress(OSError):  # closed by the other side already
                watched.shutdown(socket.SHUT_RDWR)
