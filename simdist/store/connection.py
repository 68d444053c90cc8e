"""A connection to Redis, whose failures are `StoreError`s that say what to do."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import redis
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from simdist.errors import StoreError, UsageError
from simdist.settings import REDIS_URL_VARIABLE, Settings
from simdist.store import layout
from simdist.store.embedded import embedded_server

MINIMUM_VERSION = 7
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
# How long replicas that are asked for may take to confirm a write.
REPLICA_SECONDS = 5.0

# While a cluster moves a partition to another node, some keys are here and some there: a script
# would break off half done, or take for new what it does not see. Two keys that never exist make
# the server refuse it before it has done anything.
_ALL_KEYS_HERE = "redis.call('EXISTS', KEYS[1] .. ':no', KEYS[1] .. ':none')\n"

Argument = bytes | str | int


@dataclass(frozen=True)
class Store:
    """A Redis server (or Valkey), or a Redis Cluster, that simdist may use.

    Attributes:
        url: where it is, of a cluster any node; any process that reaches it can `connect` to it.
        client: redis-py's client, with its connection pools.
    """

    url: str
    client: redis.Redis | RedisCluster

    def call(self, *command: Argument) -> Any:
        """Send one command and return its answer, strings as bytes.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        with self._explained():
            return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def call_many(self, commands: Iterable[Sequence[Argument]]) -> list[Any]:
        """Send many commands in one round trip (to each node of a cluster); not atomic.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        with self._explained(), self.client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)
            return pipeline.execute()

    def run(
        self,
        script: str,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        replicas: int = 0,
    ) -> Any:
        """Run the server-side script `store/<script>.lua`: atomic, all or nothing.

        Args:
            replicas: how many must hold what is written by then, before the answer is returned.

        Raises:
            StoreError: the server cannot be reached or refuses, or too few replicas confirm.
        """
        source, digest = _script(script)
        rest = (len(keys), *keys, *arguments)
        with self._explained():
            try:
                answer, confirmed = self._send(keys[0], replicas, ("EVALSHA", digest, *rest))
            except NoScriptError:
                answer, confirmed = self._send(keys[0], replicas, ("EVAL", source, *rest))
        if confirmed < replicas:
            raise StoreError(
                f"the images are written to Redis at {hide_password(self.url)}, but {confirmed} "
                f"of {replicas} replicas confirmed them within {REPLICA_SECONDS:.0f} s: bring the "
                "replicas back, then add the same images again, which doubles none"
            )
        return answer

    def used_memory(self) -> int:
        """Bytes in use by the server, or by all primaries of the cluster together."""
        with self._explained():
            return sum(int(server.info("memory")["used_memory"]) for server in self._primaries())

    def close(self) -> None:
        """Close the connections. The store must not be used after it."""
        if isinstance(self.client, RedisCluster):
            # Its own `close` leaves the pools that it made for the nodes open.
            self.client.disconnect_connection_pools()  # type: ignore[no-untyped-call]
        self.client.close()

    def _send(self, key: str, replicas: int, command: Sequence[Argument]) -> tuple[Any, int]:
        """Send a command; returns its answer, and how many replicas confirm it if that is asked."""
        client = self.client
        if not replicas:
            return client.execute_command(*command), 0  # type: ignore[no-untyped-call]
        if isinstance(client, RedisCluster):
            # A node's own connection follows no move of the key: this finds out where it is now.
            client.execute_command("EXISTS", key)  # type: ignore[no-untyped-call]
            node = client.get_node_from_key(key)  # type: ignore[no-untyped-call]
            client = client.get_redis_connection(node)
        # All on one connection, for WAIT is about what was written on its own. A script that finds
        # everything there writes nothing, and WAIT would confirm what no replica has: hence SET.
        some_write = ("SET", layout.waited_key(key), 1, "EX", 1)
        wait = ("WAIT", replicas, round(1000 * REPLICA_SECONDS))
        with client.pipeline(transaction=False) as pipeline:
            for part in (command, some_write, wait):
                pipeline.execute_command(*part)  # type: ignore[no-untyped-call]
            answer, _, confirmed = pipeline.execute()
        return answer, int(confirmed)

    def _primaries(self) -> list[redis.Redis]:
        if not isinstance(self.client, RedisCluster):
            return [self.client]
        nodes = self.client.get_primaries()  # type: ignore[no-untyped-call]
        return [self.client.get_redis_connection(node) for node in nodes]

    def _explained(self) -> AbstractContextManager[None]:
        return _explained(self.url, cluster=isinstance(self.client, RedisCluster))


def connect(url: str) -> Store:
    """Connect to the Redis at a URL (redis://, rediss://, unix://) and check that it answers.

    If a node of a Redis Cluster answers there, the store is the whole cluster.

    Raises:
        UsageError: the URL is not one.
        StoreError: nothing answers there, it asks for a password, or it is too old.
    """
    # Every call simdist makes may be sent twice: its scripts are idempotent.
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
    }
    try:
        store = Store(url, redis.Redis.from_url(url, **options))
    except ValueError as error:
        raise UsageError(
            f"{hide_password(url)} is not a Redis URL: use redis://HOST:PORT, rediss://HOST:PORT "
            "or unix:///PATH"
        ) from error
    try:
        server = store.call("INFO")
        version = str(server.get("redis_version", "0"))
        if int(version.partition(".")[0]) < MINIMUM_VERSION:
            raise StoreError(
                f"the server at {hide_password(url)} is Redis {version}; "
                f"simdist needs {MINIMUM_VERSION} or newer"
            )
    except BaseException:
        store.close()
        raise
    if not server.get("cluster_enabled"):
        return store
    store.close()
    if url.startswith("unix://"):
        raise UsageError(
            f"{hide_password(url)} is a node of a Redis Cluster: use redis://HOST:PORT or "
            "rediss://HOST:PORT, by which the other nodes are found"
        )
    with _explained(url, cluster=True):
        return Store(url, RedisCluster.from_url(url, **options))


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
def _explained(url: str, *, cluster: bool) -> Iterator[None]:
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
        raise _unreachable(place, cluster=cluster) from error
    except (RedisClusterException, ClusterError) as error:
        raise _unreachable(place, cluster=True) from error
    except (AskError, TryAgainError) as error:
        raise _moving(place) from error
    except NoPermissionError as error:
        raise _wants_password(place) from error
    except OutOfMemoryError as error:
        raise StoreError(
            f"Redis at {place} is out of memory: raise its maxmemory, then run the same "
            "command again"
        ) from error
    except ResponseError as error:
        if "non local key in a cluster node" in str(error):
            raise _moving(place) from error
        raise StoreError(f"Redis at {place} refused a command: {error}") from error
    except RedisError as error:
        raise StoreError(f"Redis at {place} failed: {error}") from error


def _unreachable(place: str, *, cluster: bool) -> StoreError:
    if cluster:
        return StoreError(
            f"the Redis Cluster at {place} is not whole: CLUSTER NODES says which nodes are "
            "missing; start them, or wait for their replicas, then run the same command again"
        )
    if place.startswith("unix://"):
        advice = "if it was simdist's own, run the same command again"
    else:
        advice = (
            "start it, then run the same command again, or correct --redis / "
            f"{REDIS_URL_VARIABLE}; without them simdist starts a server of its own"
        )
    return StoreError(f"cannot reach Redis at {place}: {advice}")


def _moving(place: str) -> StoreError:
    return StoreError(
        f"the Redis Cluster at {place} is moving a part of the collection to another node: run the "
        "same command again when that is done"
    )


def _wants_password(place: str) -> StoreError:
    return StoreError(
        f"Redis at {place} refuses this user: give its name and password in the URL, "
        "redis://USER:PASSWORD@HOST:PORT"
    )


@cache
def _script(name: str) -> tuple[str, str]:
    """A script, and the digest by which a server knows it once it has run."""
    folder = resources.files("simdist.store")
    parts = ["bury", name] if name in {"commit", "delete"} else [name]
    source = "".join([_ALL_KEYS_HERE, *(folder.joinpath(f"{p}.lua").read_text() for p in parts)])
    return source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
