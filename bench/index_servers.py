"""Redis-like servers that `bench.index` starts, each alone in a folder of its own."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
from redis.exceptions import ConnectionError as RedisConnectionError

START_SECONDS = 10.0
# Every server keeps an append-only file, as simdist's embedded one does; none rewrites it while it
# is measured.
OPTIONS = {"port": "0", "appendonly": "yes", "save": "", "auto-aof-rewrite-percentage": "0"}


@dataclass(frozen=True)
class Server:
    """A server that runs, and a connection to it."""

    socket: Path
    pid: int
    client: redis.Redis

    @property
    def url(self) -> str:
        """Where simdist finds it."""
        return f"unix://{self.socket}"

    def used_memory(self) -> int:
        """Bytes that it has allocated."""
        info: Any = self.client.info("memory")
        return int(info["used_memory"])


@contextmanager
def run_server(binary: str) -> Iterator[Server]:
    """Start a server, and stop it in the end; its data go with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        socket = Path(folder) / "s"
        options = {**OPTIONS, "dir": folder, "unixsocket": str(socket)}
        arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
        process = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL)
        try:
            with redis.Redis(unix_socket_path=str(socket), protocol=2) as client:
                _wait(client)
                yield Server(socket, process.pid, client)
        finally:
            process.kill()
            process.wait()


def _wait(client: redis.Redis) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.ping()
            return
        except RedisConnectionError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
