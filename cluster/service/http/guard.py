"""What every request passes first: tokens, rates, limits, deadlines; and what every answer carries.

An ASGI middleware around the whole application, so that nothing behind it can be reached past it.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import time
from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster.service.config import ServiceConfig, token_digest
from cluster.service.headers import HEADERS, PAGE_POLICY, POLICY
from cluster.service.http.bearers import BEARERS, Bearers
from cluster.service.http.bodies import headers_of, is_json
from cluster.service.http.problems import RETRY_AFTER, ProblemError
from cluster.service.metrics import ServiceMetrics
from cluster.service.rights import having

# Bytes of a body: an image, or JSON (a batch of 64 vectors of 2,048 numbers).
MAX_UPLOAD = 20 * 1024 * 1024
MAX_JSON = 4 * 1024 * 1024
_OPEN = ("/", "/healthz", "/readyz", "/v1/openapi.json")
_OPEN_BELOW = "/page/"
_METRICS = "/metrics"
# What a read token may do. All else takes a write token, whatever the router makes of its path; the
# routes that write check it once more (`require_write`).
_READING = ("GET", "HEAD", "OPTIONS")
_READING_POSTS = ("/v1/search", "/v1/search/batch", "/v1/duplicates")
# What a browser says of a request that a page of this service makes, or a person (Fetch Metadata).
_OWN_SITES = ("same-origin", "none")
# Whether the bearer of a request may write, in its scope.
_MAY_WRITE = "simdist.may_write"
# The status from which on a request is refused; how long, and how much, its body is read on.
_REFUSED = 400
_REFUSED_SECONDS = 2.0
_REFUSED_BYTES = 2 * MAX_UPLOAD

_READ_ONLY = ProblemError(403, "this token may read only; changing anything takes a write token")
FAILED = ProblemError(500, "the service failed; this is a defect: tell its operator")


def _encoded(policy: str) -> list[tuple[bytes, bytes]]:
    headers = HEADERS | {"Content-Security-Policy": policy}
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


# What answers carry, as the server takes it.
_ON_ANSWERS, _ON_PAGES = _encoded(POLICY), _encoded(PAGE_POLICY)

_log = logging.getLogger(__name__)


@dataclass
class _Progress:
    """How far a request has come.

    Attributes:
        read: bytes of the body so far.
        complete: the body is all there.
        awaited: the application waits for more of it.
        status: of the answer, 0 as long as there is none.
    """

    read: int = 0
    complete: bool = False
    awaited: bool = False
    status: int = 0

    def note(self, message: Message) -> None:
        """Count what has been received."""
        self.read += len(message.get("body", b""))
        self.complete = not message.get("more_body", False)


def is_open(path: str) -> bool:
    """Whether a path takes no token, and has no limits of its own."""
    return path in _OPEN or path.startswith(_OPEN_BELOW)


def require_write(request: Request) -> None:
    """What a route that writes depends on.

    Raises:
        ProblemError: the request's token may only read.
    """
    if not request.scope.get(_MAY_WRITE, False):
        raise _READ_ONLY


class Guard:
    """Lets requests through to `app` that may pass, and answers the others with a problem."""

    def __init__(self, app: ASGIApp, *, config: ServiceConfig, metrics: ServiceMetrics) -> None:
        self._app = app
        self._config = config
        self._metrics = metrics
        self._bearers = Bearers(config)
        self._under_way = 0
        metrics.under_way(lambda: self._under_way)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1000})
        started = time.perf_counter()
        progress = _Progress()
        path = _path(scope)
        head = scope["method"] == "HEAD"
        if head:  # a GET whose body the server leaves out
            scope = {**scope, "method": "GET"}

        async def noted() -> Message:
            progress.awaited = not progress.complete
            message = await receive()
            progress.awaited = False
            progress.note(message)
            return message

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Not if it is late already.
                if message["status"] >= _REFUSED and not progress.awaited:
                    await _read_on(receive, progress)
                progress.status = message["status"]
                _add_headers(message, page=path == "/" or path.startswith(_OPEN_BELOW))
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await self._pass(scope, path, noted, answer, progress)
        except ProblemError as problem:
            if not progress.status:
                await problem.response()(scope, receive, answer)
        except Exception:
            # Never a stack trace to the caller; for the operator it is in the log.
            _log.exception("a request to %s failed", path)
            if not progress.status:
                await FAILED.response()(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - started
            self._metrics.request(_route(scope), progress.status, seconds)

    async def _pass(
        self, scope: Scope, path: str, receive: Receive, send: Send, progress: _Progress
    ) -> None:
        headers = headers_of(scope)
        _check_path(path)
        self._check_site(headers, scope)
        if is_open(path):
            return await self._app(scope, receive, send)
        bearer = self._admit(headers, scope, path)
        self._bearers.charge(bearer, 1)
        if self._under_way >= self._config.queue:
            raise ProblemError(503, "the service is busy; try again soon", headers=RETRY_AFTER)
        limit = MAX_JSON if is_json(scope) else MAX_UPLOAD
        self._check_length(headers, limit)
        scope[BEARERS] = self._bearers
        rights = self._config.tokens.rights(bearer)
        if path == _METRICS and rights.reads is not None and rights.writes is not None:
            raise ProblemError(403, "the metrics name all collections, this token is for some")
        with self._bearers.holding(bearer), having(rights):
            await self._answer(scope, receive, send, progress, limit)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, progress: _Progress, limit: int
    ) -> None:
        """Let the application answer, within the deadline."""
        self._under_way += 1
        try:
            async with asyncio.timeout(self._config.deadline):
                await self._app(scope, _limited(receive, limit, progress), send)
        except TimeoutError as error:
            seconds = f"{self._config.deadline:g} s"
            if progress.awaited:
                raise ProblemError(
                    408, f"the request took longer than {seconds} to arrive"
                ) from error
            raise ProblemError(503, f"no answer within {seconds}", headers=RETRY_AFTER) from error
        finally:
            self._under_way -= 1

    def _check_site(self, headers: Mapping[str, str], scope: Scope) -> None:
        """Refuse what a page of another site has a browser send.

        Such a page may have its own name lead to this machine (DNS rebinding); its name stays in
        the Host. With tokens that gains it nothing: it has none.
        """
        if not (self._config.tokens or _is_loopback(headers.get("host", ""))):
            raise ProblemError(
                421, "without tokens this service answers to its own machine: use 127.0.0.1"
            )
        if scope["method"] in _READING:
            return
        origin = headers.get("origin", "")
        if origin and origin in self._config.cors_origins:
            return
        own = headers.get("sec-fetch-site", "none") in _OWN_SITES
        # Browsers that do not say so still name the page's origin, and a form needs no leave.
        if not self._config.tokens and origin:
            own = own and _is_loopback(origin.partition("://")[2])
        if not own:
            raise ProblemError(403, "a page of another site may only read")

    def _admit(self, headers: Mapping[str, str], scope: Scope, path: str) -> str:
        """Check the token; returns whose request it is."""
        tokens = self._config.tokens
        scope[_MAY_WRITE] = not tokens
        if not tokens:
            return ""
        kind, _, token = headers.get("authorization", "").partition(" ")
        given = token_digest(token.strip())
        # All are compared, so that the time says nothing about which one came close.
        writes = [hmac.compare_digest(given, known) for known in tokens.write]
        reads = [hmac.compare_digest(given, known) for known in tokens.read]
        if kind.lower() != "bearer" or not (any(writes) or any(reads)):
            raise ProblemError(
                401,
                "give a token: Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": 'Bearer realm="simdist"'},
            )
        scope[_MAY_WRITE] = any(writes)
        reads_only = scope["method"] in _READING or (
            scope["method"] == "POST" and path in _READING_POSTS
        )
        if not (reads_only or scope[_MAY_WRITE]):
            raise _READ_ONLY
        return given

    @staticmethod
    def _check_length(headers: Mapping[str, str], limit: int) -> None:
        length = headers.get("content-length", "0")
        if not length.isdecimal():
            raise ProblemError(400, "Content-Length is not a number")
        if int(length) > limit:
            raise _too_large(limit)


def _limited(receive: Receive, limit: int, progress: _Progress) -> Receive:
    """`receive`, which refuses a body that grows beyond the limit."""

    async def receive_some() -> Message:
        message = await receive()
        if progress.read > limit:
            raise _too_large(limit)
        return message

    return receive_some


async def _read_on(receive: Receive, progress: _Progress) -> None:
    """Read what is left of a body that is refused, within bounds.

    A connection that is closed with bytes unread is reset, and the answer may be lost on its way.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(_REFUSED_SECONDS):
            while not progress.complete and progress.read < _REFUSED_BYTES:
                progress.note(await receive())


def _too_large(limit: int) -> ProblemError:
    return ProblemError(
        413, f"the body has more than {limit:,} bytes", headers={"Connection": "close"}
    )


def _check_path(path: str) -> None:
    """Refuse what a router may read otherwise than this: a line feed at the end, say."""
    if not path.isprintable() or " " in path:
        raise ProblemError(400, "the path has a space or a character that cannot be printed")


@lru_cache(maxsize=64)  # or it takes as long as all else that is checked
def _is_loopback(host: str) -> bool:
    """Whether a Host header names this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or ip_address(name).is_loopback
    except ValueError:
        return False


def _path(scope: Scope) -> str:
    """The path below the prefix at which the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(root + "/") else path


def _route(scope: Scope) -> str:
    """The route's pattern: a path as the caller wrote it would make endless series of metrics."""
    return str(getattr(scope.get("route"), "path", "other"))


def _add_headers(message: MutableMapping[str, Any], *, page: bool) -> None:
    headers = [*message["headers"], *(_ON_PAGES if page else _ON_ANSWERS)]
    if not page and not any(name == b"cache-control" for name, _ in headers):
        headers.append((b"cache-control", b"no-store"))
    message["headers"] = headers
