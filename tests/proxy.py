"""A proxy before a Redis server, which cuts the connection at a chosen command."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum

import hiredis


class Moment(Enum):
    """When a command's connection is cut."""

    BEFORE = "before the command reaches the server"
    WITHIN = "when half of the command has reached the server"
    AFTER = "when the server has done it, before it could answer"
    ANSWERING = "when half of the answer is back"


class CuttingProxy:
    """Passes commands on to a server of this machine, one at a time."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        # Since `cut_at`.
        self._commands = 0
        self._cut_at: int | None = None
        self._moment = Moment.BEFORE
        self._refuse = False
        self._refusing = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def cut_at(self, command: int, moment: Moment, *, refuse: bool) -> None:
        """Cut the connection at a command from now, 0 for the next one.

        Args:
            refuse: let nobody connect after that, until `mend`.
        """
        self._commands, self._refusing = 0, False
        self._cut_at, self._moment, self._refuse = command, moment, refuse

    @property
    def has_cut(self) -> bool:
        """Whether the command has come at which the connection is cut."""
        return self._cut_at is not None and self._commands > self._cut_at

    def mend(self) -> bool:
        """Pass everything on again; returns whether the connection had been cut."""
        had_cut = self.has_cut
        self._cut_at, self._refusing = None, False
        return had_cut

    def close(self) -> None:
        """Let go of everything, once its clients have."""
        # This alone wakes the thread that waits in `accept`.
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            self._threads.append(threading.Thread(target=self._serve, args=(client,)))
            self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        # Whichever side closes, or is killed, the other side is closed too.
        with client, suppress(OSError):
            server = socket.create_connection(("127.0.0.1", self._server_port))
            with server:
                for command in _commands(client):
                    if not self._pass_on(command, client, server):
                        return

    def _pass_on(self, command: bytes, client: socket.socket, server: socket.socket) -> bool:
        """Pass a command and its answer on; False if the connection is to be cut instead."""
        moment = self._moment if self._commands == self._cut_at else None
        if moment is not None:
            self._refusing = self._refuse
        self._commands += 1
        if moment == Moment.BEFORE:
            return False
        if moment == Moment.WITHIN:
            server.sendall(command[: len(command) // 2])
            return False
        server.sendall(command)
        answer = _answer(server)
        if moment is None:
            client.sendall(answer)
        elif moment == Moment.ANSWERING:
            client.sendall(answer[: len(answer) // 2])
        return moment is None and bool(answer)


def _commands(client: socket.socket) -> Iterator[bytes]:
    """The commands that come from a client, each whole."""
    reader = hiredis.Reader()
    while data := client.recv(1 << 16):
        reader.feed(data)
        while command := reader.gets():
            parts = (b"$%d\r\n%s\r\n" % (len(part), part) for part in command)
            yield b"*%d\r\n" % len(command) + b"".join(parts)


def _answer(server: socket.socket) -> bytes:
    """The answer to one command; what there is of it if the server dies meanwhile."""
    reader, answer = hiredis.Reader(notEnoughData=Ellipsis), b""
    while data := server.recv(1 << 16):
        reader.feed(data)
        answer += data
        if reader.gets() is not Ellipsis:
            break
    return answer
