"""A connection to Redis, whose failures are `StoreError`s that say what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MaxConnectionsError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from simdist.errors import StoreError, UsageError
from simdist.settings import REDIS_URL_VARIABLE, Settings
from simdist.store.embedded import embedded_server

MINIMUM_VERSION = 7
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0

Argument = bytes | str | int


@dataclass(frozen=True)
class Store:
    """A Redis server (or Valkey, or anything that speaks for one) that simdist may use.

    Attributes:
        url: where it is; any process of this machine can `connect` to it.
        client: redis-py's client, with one connection pool.
    """

    url: str
    client: redis.Redis

    def call(self, *command: Argument) -> Any:
        """Send one command and return its answer, strings as bytes.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        with _explained(self.url):
            return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def call_many(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """Send many commands in one round trip; not atomic.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        with _explained(self.url), self.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return pipeline.execute()

    def run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run the server-side script `store/<script>.lua`: atomic, all or nothing.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        with _explained(self.url):
            return self.client.register_script(_source(script))(keys=keys, args=arguments)

    def close(self) -> None:
        """Close the connections. The store must not be used after it."""
        self.client.close()


def connect(url: str) -> Store:
    """Connect to the Redis at a URL (redis://, rediss://, unix://) and check that it answers.

    Raises:
        UsageError: the URL is not one.
        StoreError: nothing answers there, it asks for a password, or it is too old.
    """
    try:
        client = redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS,
            # Every call simdist makes may be sent twice: its scripts are idempotent.
            retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        )
    except ValueError as error:
        raise UsageError(
            f"{hide_password(url)} is not a Redis URL: use redis://HOST:PORT, rediss://HOST:PORT "
            "or unix:///PATH"
        ) from error
    store = Store(url, client)
    try:
        version = str(store.call("INFO", "server").get("redis_version", "0"))
        if int(version.partition(".")[0]) < MINIMUM_VERSION:
            raise StoreError(
                f"the server at {hide_password(url)} is Redis {version}; "
                f"simdist needs {MINIMUM_VERSION} or newer"
            )
    except BaseException:
        client.close()
        raise
    return store


@contextmanager
def open_store(settings: Settings) -> Iterator[Store]:
    """The Redis that the settings name, or the embedded server, started if it is not running.

    Raises:
        UsageError, StoreError: as `connect`; or the embedded server cannot be started.
    """
    if settings.redis_url is not None:
        store = connect(settings.redis_url)
        try:
            yield store
        finally:
            store.close()
        return
    with embedded_server(settings.data_dir) as url:
        store = connect(url)
        try:
            yield store
        finally:
            store.close()


def hide_password(url: str) -> str:
    """A URL fit to be printed."""
    return re.sub(r"(://[^:@/]*:)[^@]*@", r"\1***@", url)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    place = hide_password(url)
    try:
        yield
    except AuthenticationError as error:
        raise _wants_password(place) from error
    except BusyLoadingError as error:
        raise StoreError(f"Redis at {place} is still loading its data; try again soon") from error
    except MaxConnectionsError as error:
        raise StoreError(f"Redis at {place} takes no more connections") from error
    except (RedisConnectionError, RedisTimeoutError) as error:
        if place.startswith("unix://"):
            advice = "if it was simdist's own, run the same command again"
        else:
            advice = (
                f"start it, or correct --redis / {REDIS_URL_VARIABLE}; "
                "without them simdist starts a server of its own"
            )
        raise StoreError(f"cannot reach Redis at {place}: {advice}") from error
    except NoPermissionError as error:
        raise _wants_password(place) from error
    except OutOfMemoryError as error:
        raise StoreError(
            f"Redis at {place} is out of memory: raise its maxmemory, then run the same "
            "command again"
        ) from error
    except ResponseError as error:
        raise StoreError(f"Redis at {place} refused a command: {error}") from error
    except RedisError as error:
        raise StoreError(f"Redis at {place} failed: {error}") from error


def _wants_password(place: str) -> StoreError:
    return StoreError(
        f"Redis at {place} refuses this user: give its name and password in the URL, "
        "redis://USER:PASSWORD@HOST:PORT"
    )


@cache
def _source(script: str) -> str:
    return resources.files("simdist.store").joinpath(f"{script}.lua").read_text()
