"""A connection to Redis, whose failures are `StoreError`s that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import redis
from redis.backoff import ExponentialBackoff
from redis.cluster import RedisCluster
from redis.exceptions import NoPermissionError, NoScriptError, ReadOnlyError, RedisError
from redis.retry import Retry

from simdist.errors import StoreError, UsageError
from simdist.settings import Settings, redis_password
from simdist.store import layout
from simdist.store.embedded import embedded_server
from simdist.store.keeping import Keeping
from simdist.store.refusals import explained, hide_password, missing_script

MINIMUM_VERSION = 7
CONNECT_SECONDS = 5.0
ANSWER_SECONDS = 30.0
# How long replicas that are asked for may take to confirm a write.
REPLICA_SECONDS = 5.0
# How long a failover may take to make a primary of the server that is written to.
PRIMARY_SECONDS = 10.0
_PAUSE_SECONDS = 0.2
# Keys that one call of SCAN looks at: a stall of a millisecond.
_SCANNED = 2000

Argument = bytes | str | int
T = TypeVar("T")


@dataclass(frozen=True)
class Script:
    """A script in Lua, and the digest by which a server knows it once it has run."""

    name: str
    source: str
    digest: str


@dataclass(frozen=True)
class Store:
    """A Redis server (or Valkey), or a Redis Cluster, that simdist may use.

    Attributes:
        url: where it is, of a cluster any node; any process that reaches it can `connect` to it.
        client: redis-py's client, with its connection pools.
        keeping: whether it keeps what it is given.
    """

    url: str
    client: redis.Redis | RedisCluster
    keeping: Keeping = field(default_factory=Keeping)

    def call(self, *command: Argument) -> Any:
        """Send one command and return its answer, strings as bytes.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        with self._explained():
            return self._patiently(
                lambda: self.client.execute_command(*command)  # type: ignore[no-untyped-call]
            )

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
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        *,
        replicas: int = 0,
    ) -> Any:
        """Run a server-side script (`scripts`): atomic, all or nothing.

        Args:
            replicas: how many must hold what is written by then, before the answer is returned.

        Raises:
            StoreError: the server cannot be reached or refuses, or too few replicas confirm.
        """
        rest = (len(keys), *keys, *arguments)
        with self._explained():
            answer, confirmed = self._patiently(
                lambda: self._send_script(keys[0], replicas, script, rest)
            )
        if confirmed < replicas:
            raise StoreError(
                f"the images are written to Redis at {hide_password(self.url)}, but {confirmed} "
                f"of {replicas} replicas confirmed them within {REPLICA_SECONDS:.0f} s: bring the "
                "replicas back, then add the same images again, which duplicates none"
            )
        return answer

    def scan(self, pattern: str) -> Iterator[bytes]:
        """All keys that match a pattern; of those that come and go meanwhile, some.

        Raises:
            StoreError: the server cannot be reached or refuses.
        """
        with self._explained():
            for server in self.primaries():
                yield from server.scan_iter(match=pattern, count=_SCANNED)

    def one_a_server(self, keys: Iterable[str]) -> list[str]:
        """Of these keys one on each server that has any."""
        client = self.client
        if not isinstance(client, RedisCluster):
            return list(keys)[:1]
        with self._explained():
            found = {client.get_node_from_key(key).name: key for key in keys}  # type: ignore[no-untyped-call]
        return list(found.values())

    def used_memory(self) -> int:
        """Bytes in use by the server, or by all primaries of the cluster together."""
        with self._explained():
            return sum(int(server.info("memory")["used_memory"]) for server in self.primaries())

    def close(self) -> None:
        """Close the connections. The store must not be used after it."""
        if isinstance(self.client, RedisCluster):
            # Its own `close` leaves the pools that it made for the nodes open.
            self.client.disconnect_connection_pools()  # type: ignore[no-untyped-call]
        self.client.close()

    def _patiently(self, send: Callable[[], T]) -> T:
        """Send; to a server that has become a replica, some seconds long, on new connections.

        A name may lead to the new primary, or this server become the primary again.
        """
        deadline = time.monotonic() + PRIMARY_SECONDS
        while True:
            try:
                return send()
            except ReadOnlyError:
                if time.monotonic() > deadline or isinstance(self.client, RedisCluster):
                    raise
                self.client.connection_pool.disconnect()
                time.sleep(_PAUSE_SECONDS)

    def _send_script(
        self, key: str, replicas: int, script: Script, rest: Sequence[Argument]
    ) -> tuple[Any, int]:
        try:
            return self._send(key, replicas, ("EVALSHA", script.digest, *rest))
        except NoScriptError:
            try:
                return self._send(key, replicas, ("EVAL", script.source, *rest))
            except NoPermissionError as error:
                raise missing_script(self.url, script.name) from error

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

    def primaries(self) -> list[redis.Redis]:
        """Clients of the server, or of each primary of the cluster."""
        if not isinstance(self.client, RedisCluster):
            return [self.client]
        nodes = self.client.get_primaries()  # type: ignore[no-untyped-call]
        return [self.client.get_redis_connection(node) for node in nodes]

    def _explained(self) -> AbstractContextManager[None]:
        return explained(self.url, cluster=isinstance(self.client, RedisCluster))


def connect(url: str) -> Store:
    """Connect to the Redis at a URL (redis://, rediss://, unix://) and check that it answers.

    If a node of a Redis Cluster answers there, the store is the whole cluster. Where the URL of a
    host holds no password, it is the environment's (`settings.redis_password`).

    Raises:
        UsageError: the URL is not one, or the password's file cannot be read.
        StoreError: nothing answers there, it refuses the user or is not trusted, or it is too old.
    """
    # Every call simdist makes may be sent twice: its scripts are idempotent.
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "retry": Retry(ExponentialBackoff(cap=0.5, base=0.05), retries=3),
        # Or each connection would send two commands more, which Redis 7.0 does not know.
        "driver_info": None,
    }
    if not url.startswith("unix://"):
        options["password"] = redis_password()
    try:
        client = redis.Redis.from_url(url, **options)
        pool = client.connection_pool
        # Says whether the settings behind the ? are what such a connection has.
        first = pool.connection_class(
            **pool.connection_kwargs | {"socket_timeout": CONNECT_SECONDS}
        )
    except (TypeError, ValueError, RedisError) as error:
        raise UsageError(
            f"{hide_password(url)} is not a Redis URL: use redis://HOST:PORT, "
            "rediss://HOST:PORT?ssl_ca_certs=FILE or unix:///PATH"
        ) from error
    store = Store(url, client)
    if url.startswith("rediss://"):
        # A server without TLS says nothing: that need not be waited for as long as for an answer.
        with explained(url, cluster=False):
            first.connect()
            first.disconnect()
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
        return replace(store, keeping=Keeping.of([server], hide_password(url)))
    store.close()
    if url.startswith("unix://"):
        raise UsageError(
            f"{hide_password(url)} is a node of a Redis Cluster: use redis://HOST:PORT or "
            "rediss://HOST:PORT, by which the other nodes are found"
        )
    return _whole_cluster(url, options)


def _whole_cluster(url: str, options: Mapping[str, Any]) -> Store:
    with explained(url, cluster=True):
        store = Store(url, RedisCluster.from_url(url, **options))
        servers = [node.info() for node in store.primaries()]
    return replace(store, keeping=Keeping.of(servers, hide_password(url)))


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
