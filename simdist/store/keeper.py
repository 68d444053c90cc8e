"""Stops the embedded server once nobody uses it (see `embedded.py`). Standard library only.

Run as: keeper.py USERS_LOCK SOCKET_FILE USUAL_SOCKET KEEPER_LOCK_DESCRIPTOR
"""

import fcntl
import os
import socket
import sys
from pathlib import Path


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
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(server)
                connection.sendall(b"SHUTDOWN\r\n")
                while connection.recv(4096):
                    pass
            except OSError:
                # It is already gone: nothing to stop.
                pass
        # Let go of before `users`: who comes next must find neither a server nor a keeper.
        os.close(keeper_lock)


if __name__ == "__main__":
    # In the background and in a session of its own: nobody has to wait for it, and Ctrl-C in the
    # terminal does not reach it.
    if os.fork():
        os._exit(0)
    os.setsid()
    keep(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
