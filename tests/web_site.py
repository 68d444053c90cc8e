"""A web site of every trouble, on this machine."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PHOTO = b"\xff\xd8 as good as a photograph " * 1000
ZEROS = bytes(1 << 16)


class Site(BaseHTTPRequestHandler):
    """Its pages; each path is the method of its name."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.requests.append(self.path)
        self.server.headers.append(dict(self.headers))
        page = self.path.lstrip("/").split("/")[0].split("?")[0].replace("-", "_")
        handle: Callable[[], None] = getattr(self, f"get_{page}", self.get_missing)
        handle()
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass

    def start(self, status: int = 200, **headers: str | int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def forever(self, data: bytes, pause: float = 0) -> None:
        while not self.server.stopping.wait(pause):
            self.wfile.write(data)

    def get_photo(self) -> None:
        self.start(Content_Length=len(PHOTO))
        self.wfile.write(PHOTO)

    def get_photo_in_chunks(self) -> None:
        self.start(Transfer_Encoding="chunked")
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(PHOTO), PHOTO))

    def get_photo_to_the_end(self) -> None:
        self.start(Connection="close")
        self.wfile.write(PHOTO)

    def get_missing(self) -> None:
        self.start(404, Content_Length=0)

    def get_broken(self) -> None:
        self.start(500, Content_Length=0)

    def get_busy(self) -> None:
        """/busy/2 is too busy twice, then shows the photo."""
        times = int(self.path.rsplit("/", 1)[1])
        if self.server.requests.count(self.path) <= times:
            return self.start(503, Content_Length=0)
        self.get_photo()

    def get_cut(self) -> None:
        self.start(Content_Length=len(PHOTO))
        self.wfile.write(PHOTO[:1000])

    def get_garbage(self) -> None:
        self.wfile.write(b"this is not HTTP\r\n\r\n")

    def get_silence(self) -> None:
        self.server.stopping.wait(30)

    def get_endless(self) -> None:
        self.start(Connection="close")
        self.forever(ZEROS)

    def get_slow_body(self) -> None:
        self.start(Connection="close")
        self.forever(b"\0", pause=0.02)

    def get_slow_chunks(self) -> None:
        self.start(Transfer_Encoding="chunked")
        self.forever(b"1\r\n\0\r\n", pause=0.02)

    def get_slow_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Endless: ")
        self.forever(b"x", pause=0.02)

    def get_once(self) -> None:
        self.start(302, Location="/photo", Content_Length=0)

    def get_loop(self) -> None:
        self.start(302, Location="/loop", Content_Length=0)

    def get_hops(self) -> None:
        """/hops/3 is three redirects away from the photo."""
        left = int(self.path.rsplit("/", 1)[1]) - 1
        self.start(307, Location=f"/hops/{left}" if left else "/photo", Content_Length=0)

    def get_to(self) -> None:
        """/to?ADDRESS redirects there."""
        self.start(302, Location=self.path.split("?", 1)[1], Content_Length=0)

    def get_once_with_an_endless_body(self) -> None:
        self.start(302, Location="/photo", Connection="close")
        self.forever(ZEROS)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Site)
        self.stopping = threading.Event()
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that hang up are the point here."""


@contextmanager
def serve() -> Iterator[Server]:
    """Serve the site for as long as the context lasts."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.stopping.set()
        server.shutdown()
        thread.join()


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve the files of a folder; yields the address."""

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def raw_server(answer: bytes, *, forever: bytes = b"") -> Iterator[int]:
    """A server that says what it says, whoever asks what; yields its port."""
    stopping = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                connection.sendall(answer)
                while forever and not stopping.wait(0.02):
                    connection.sendall(forever)
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        stopping.set()
        thread.join()
