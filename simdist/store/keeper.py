"""Stops the embedded server once nobody uses it (see `embedded.py`). Standard library only.

Run as: keeper.py USERS_LOCK SOCKET_FILE USUAL_SOCKET KEEPER_LOCK_DESCRIPTOR
"""

import fcntl
import os
import socket
import sys
import time
from pathlib import Path

_ANSWER_SECONDS = 30.0
_PAUSE_SECONDS = 0.2


def keep(users_lock: Path, socket_file: Path, usual_socket: str, keeper_lock: int) -> None:
    """Wait for all users to be gone, then stop the server and wait until it has."""
    with users_lock.open("w") as users:
        # Granted when the last process that holds it shared has ended, in whatever way.
        fcntl.flock(users, fcntl.LOCK_EX)
        try:
            server = socket_file.read_text()
        except OSError:
            # The data folder has been deleted meanwhile; the server must stop all the same.
            server = usual_socket
        while _runs(server):
            time.sleep(_PAUSE_SECONDS)
        # Let go of before `users`: who comes next must find neither a server nor a keeper.
        os.close(keeper_lock)


def _runs(server: str) -> bool:
    """Tell a server to stop, and wait a while until it has; whether it may still run.

    It refuses while a script of somebody's runs for too long, unless it is told not to save: the
    append-only file is complete without that.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.connect(server)
            connection.sendall(b"SHUTDOWN NOSAVE\r\n")
            # It answers only where it refuses.
            return bool(connection.recv(4096))
        except TimeoutError:
            return True
        except OSError:
            # It is gone already, or cut the connection as it went.
            return False


if __name__ == "__main__":
    # In the background and in a session of its own: nobody has to wait for it, and Ctrl-C in the
    # terminal does not reach it.
    if os.fork():
        os._exit(0)
    os.setsid()
    keep(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
