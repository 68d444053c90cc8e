"""A client that is led to something else than a simdist service."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from simdist.errors import ServiceError
from simdist.search.client import Client

ANSWERS = (
    *(b"{}", b"<html>", b"[]", b"7", b"[" * 5000, b"\xff", b""),
    *(b'{"hits": 7}', b'{"hits": [{}]}', b'{"hits": ["a"]}', b'{"results": [{"error": {}}]}'),
)


@pytest.fixture
def site() -> Iterator[ThreadingHTTPServer]:
    """A web server that answers everything with its `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(200)
            answer = self.server.answer  # type: ignore[attr-defined]
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_DELETE = do_PUT = do_PATCH = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


CALLS: dict[str, Callable[[Client], Any]] = {
    "search": lambda client: client.search(uri="urn:a"),
    "search_many": lambda client: client.search_many(np.ones((1, 2))),
    "collections": lambda client: client.collections(),
    "add": lambda client: client.add("https://a.example/1.jpg"),
    "delete": lambda client: client.delete("urn:a"),
    "images": lambda client: list(client.images()),
    "image": lambda client: client.image("urn:a"),
    "amend": lambda client: client.amend("urn:a", label="x"),
    "amend_chosen": lambda client: client.amend_chosen(where="a = 1", label="x"),
    "delete_chosen": lambda client: client.delete_chosen(where="a = 1"),
    "rename": lambda client: client.rename("a", "b"),
    "alias": lambda client: client.alias("a", "b"),
    "remove_alias": lambda client: client.remove_alias("a"),
    "copy": lambda client: client.copy("a", "b"),
    "drop": lambda client: client.drop("a"),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_that_no_service_gives_is_an_error_of_the_service(
    site: ThreadingHTTPServer, call: str
) -> None:
    with Client(f"http://127.0.0.1:{site.server_port}") as client:
        for answer in ANSWERS:
            site.answer = answer  # type: ignore[attr-defined]
            with pytest.raises(ServiceError, match="is no simdist service"):
                CALLS[call](client)
