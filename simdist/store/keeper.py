"""Starts the embedded server, and stops it once nobody uses it (see `embedded.py`).

Standard library only. Run as: keeper.py DATA_DIR SERVER_COMMAND..., with a lock that it inherits.
"""

import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

USERS_LOCK = "users.lock"
SERVER_LOCK = "server.lock"
SOCKET = "valkey.sock"
# How it ends where it cannot keep a server; else it goes into the background.
NOT_STARTED, OUT_OF_REACH = 3, 4
START_SECONDS = 5.0
# How long a server may take to end before it is killed: what it acknowledged is in its file.
STOP_SECONDS = 20.0
_PAUSE_SECONDS = 0.2


def find_or_start(command: list[str]) -> socket.socket:
    """A connection to the server of the current folder, started if none runs.

    It is held from now on: it leads to the server also when its socket, or the folder, is gone.
    """
    lock = _server_lock()
    if lock is None:
        # A server without a keeper; it may have been started in another container, or on a host
        # that shares the folder.
        found = _connected(START_SECONDS)
        if found is None:
            sys.exit(OUT_OF_REACH)
        return found
    Path(SOCKET).unlink(missing_ok=True)
    # The server inherits the lock with the descriptor: it is held for as long as a server lives.
    started = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(lock,),
        check=False,
    )
    os.close(lock)
    found = _connected(START_SECONDS) if started.returncode == 0 else None
    if found is None:
        sys.exit(NOT_STARTED)
    return found


def keep(server: socket.socket, users: TextIO) -> None:
    """Wait for all users to be gone, then stop the server and wait until it has ended."""
    threading.Thread(target=_end_with, args=(server,), daemon=True).start()
    # Granted when the last process that holds it shared has ended, in whatever way.
    fcntl.flock(users, fcntl.LOCK_EX)
    deadline = time.monotonic() + STOP_SECONDS
    while True:
        _stop(server, at_once=time.monotonic() > deadline)
        time.sleep(_PAUSE_SECONDS)


def _end_with(server: socket.socket) -> None:
    """End as soon as the server has: then its connections do."""
    with suppress(OSError):
        while server.recv(4096):
            pass
    # All locks are let go of at once: who comes next finds neither a server nor a keeper.
    os._exit(0)


def _stop(server: socket.socket, *, at_once: bool) -> None:
    # It refuses while a script of somebody's runs for too long, unless it is told not to save: the
    # append-only file is complete without that.
    with suppress(OSError):
        server.send(b"SHUTDOWN NOSAVE\r\n", socket.MSG_DONTWAIT)
    if at_once and hasattr(socket, "SO_PEERCRED"):
        # Who listens at the other end of a connection that is not closed is alive, and no other.
        credentials = server.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
        pid = struct.unpack("3i", credentials)[0]
        if pid > 0:
            os.kill(pid, signal.SIGKILL)


def _server_lock() -> "int | None":
    """A descriptor that holds the server's lock; None if a server does."""
    lock = os.open(SERVER_LOCK, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _connected(seconds: float) -> "socket.socket | None":
    """A connection to the server; None if there is none in time, or the server has ended."""
    deadline = time.monotonic() + seconds
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            # From the current folder, for the whole path may be longer than a socket's may be.
            connection.connect(SOCKET)
        except OSError:
            connection.close()
            lock = _server_lock()
            if lock is not None:
                os.close(lock)
            if lock is not None or time.monotonic() > deadline:
                return None
            time.sleep(0.01)
        else:
            return connection


def main(data_dir: str, command: list[str]) -> None:
    """Start or find the server, go into the background, and keep it."""
    os.chdir(data_dir)
    with Path(USERS_LOCK).open("w") as users:
        server = find_or_start(command)
        # In a session of its own: nobody has to wait for it, and Ctrl-C in the terminal does not
        # reach it.
        if os.fork():
            os._exit(0)
        os.setsid()
        keep(server, users)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
