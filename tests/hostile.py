"""Requests that a service must refuse, each with the status codes that say so.

Whole requests, as bytes: a client library would send most of them otherwise, or not at all.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any
from urllib.parse import quote, urlsplit

from tests.bad_inputs import bomb

READ_TOKEN = "a-token-that-may-read"
WRITE_TOKEN = "a-token-that-may-write"
# In an address: the port of a listener. As many bytes as any port that the system gives away.
PORT = "PPPPP"
PEEK = socket.MSG_PEEK
MAX_JSON = 4 * 1024 * 1024
MAX_UPLOAD = 20 * 1024 * 1024


# What HAProxy says of what is no HTTP, or never all there: nothing of the request is in it.
_PAGES = (
    b"<html><body><h1>400 Bad request</h1>\n"
    b"Your browser sent an invalid request.\n</body></html>\n",
    b"<html><body><h1>408 Request Time-out</h1>\n"
    b"Your browser didn't send a complete request in time.\n</body></html>\n",
)


@dataclass(frozen=True)
class Case:
    """A request, and how it may be refused.

    Attributes:
        name: what is wrong with it.
        statuses: any of these HTTP status codes.
        data: all of it.
        detail: to be found in the problem's detail.
    """

    name: str
    statuses: tuple[int, ...]
    data: bytes
    detail: str = ""


@dataclass(frozen=True)
class Answer:
    """What was answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        """The problem details of it; HAProxy's own page has none."""
        if self.body in _PAGES:
            return {"detail": ""}
        assert self.headers["content-type"] == "application/problem+json", self
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status, self
        assert problem["title"] and problem["detail"]
        assert problem["type"] == "about:blank" or problem["type"].startswith("urn:simdist:")
        assert self.headers["x-content-type-options"] == "nosniff"
        return problem


def send(url: str, data: bytes) -> Answer:
    """Send bytes to a service, and read its answer."""
    with connected(url) as connection:
        # It may answer before it has read all.
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        return read_answer(connection)


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    """A connection to a service."""
    place = urlsplit(url)
    assert place.hostname is not None
    with socket.create_connection((place.hostname, place.port or 80), 60) as connection:
        yield connection


def read_answer(connection: socket.socket) -> Answer:
    """Read an answer."""
    response = HTTPResponse(connection)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def head(method: str, path: str, *, token: str | None = WRITE_TOKEN, **headers: object) -> bytes:
    """The first line and the headers; an underscore in a header's name is a hyphen."""
    lines = [f"{method} {path} HTTP/1.1", "Host: service.example", "Connection: close"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join([*lines, "", ""])).encode("latin-1")


def request(
    method: str,
    path: str,
    body: bytes = b"",
    media_type: str = "application/json",
    **more: Any,
) -> bytes:
    """A request with a body."""
    return head(method, path, Content_Type=media_type, Content_Length=len(body), **more) + body


def posted(path: str, given: object) -> bytes:
    """A request with a body of JSON; what is bytes already is sent as it is."""
    body = given if isinstance(given, bytes) else json.dumps(given).encode()
    return request("POST", path, body)


class Listener:
    """Whoever connects to it, at whichever address of this machine, is counted."""

    def __init__(self) -> None:
        both = socket.has_dualstack_ipv6()
        family, host = (socket.AF_INET6, "::") if both else (socket.AF_INET, "0.0.0.0")
        self._socket = socket.create_server((host, 0), family=family, dualstack_ipv6=both)
        self.port = int(self._socket.getsockname()[1])
        self.visitors: list[object] = []
        threading.Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        while True:
            try:
                connection, visitor = self._socket.accept()
            except OSError:
                return
            self.visitors.append(visitor)
            connection.close()

    def close(self) -> None:
        """Listen no longer."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


_NOT_PUBLIC = "does not lead to a public address"
_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "0177.0.0.1",
    "017700000001",
    "0",
    "0.0.0.0",
    "localhost",
    "LocalHost",
    "127.0.0.1%2f",
    "%6cocalhost",
    "127%2e0%2e0%2e1",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:10.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::ffff:0:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::1]",
    "[2002:a9fe:a9fe::1]",
    "[2001:0:7f00:1::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "10.0.0.1",
    "10.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "0xc0a80001",
    "100.64.0.1",
    "100.100.100.200",
    "169.254.169.254",
    "169.254.43518",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "192.0.0.192",
    "192.0.2.1",
    "198.18.0.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "\uff11\uff12\uff17.0.0.1",
    "127\u30020\u30020\u30021",
    "\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3",
]
_NAMES = [
    "localhost.",
    "service.localhost",
    "localhost.localdomain",
    "ip6-localhost",
    "metadata.google.internal",
    "metadata",
    "127.0.0.1.nip.invalid",
    "xn--a.invalid",
]
_BAD_ADDRESSES = [
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "file://localhost/etc/passwd",
    f"ftp://127.0.0.1:{PORT}/a.jpg",
    f"gopher://127.0.0.1:{PORT}/_GET%20/",
    f"dict://127.0.0.1:{PORT}/info",
    f"ldap://127.0.0.1:{PORT}/",
    "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
    "javascript:alert(1)",
    "s3://bucket/a.jpg",
    "gs://bucket/a.jpg",
    "az://container/a.jpg",
    "http+unix://%2fvar%2frun%2fdocker.sock/",
    f"//127.0.0.1:{PORT}/",
    f"127.0.0.1:{PORT}/",
    "/etc/passwd",
    "../../etc/passwd",
    "http:",
    "http://",
    "http:///etc/passwd",
    f"http:127.0.0.1:{PORT}",
    f"http:/127.0.0.1:{PORT}",
    f"http://example.org@127.0.0.1:{PORT}/",
    f"http://user:secret@127.0.0.1:{PORT}/",
    f"http://127.0.0.1:{PORT}\\@example.org/",
    f"http://example.org\\@127.0.0.1:{PORT}/",
    f"http://127.0.0.1:{PORT}#@example.org/",
    f"http://127.0.0.1:{PORT}?@example.org/",
    f" http://127.0.0.1:{PORT}/",
    f"http://127.0.0.1 :{PORT}/",
    f"http://127.0.0.1:{PORT}\r\nHost: example.org/",
    f"http://127.0.0.1\0.example.org:{PORT}/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/",
    "http://[::1/",
    "",
    "h" * 5000,
]
_BAD_URIS = [
    "file:///etc/passwd",
    "s3://bucket/a.jpg",
    "gs://bucket/a.jpg",
    "az://container/a.jpg",
    "/etc/passwd",
    "../a.jpg",
    "C:\\a.jpg",
    "http://user:secret@example.org/a.jpg",
    "http://example.org\\@127.0.0.1/a.jpg",
    "https://",
    "urn:",
    "urn:a b",
    "urn:a\nb",
    "URN:a",
    "",
    "urn:" + "a" * 2048,
]


def cases() -> list[Case]:
    """All that are single requests."""
    return [
        *_addresses(),
        *_uploads(),
        *_questions(),
        *_parameters(),
        *_administration(),
        *_bodies(),
        *_paths(),
        *_methods(),
        *_framing(),
        *_tokens(),
    ]


def _addresses() -> Iterator[Case]:
    for host in _HOSTS:
        url = f"http://{host}:{PORT}/a.jpg"
        detail = _NOT_PUBLIC if host.isascii() and "%" not in host else ""
        yield Case(f"search {host}", (422,), posted("/v1/search", {"url": url}), detail)
    for host in _NAMES:
        url = f"https://{host}:{PORT}/a.jpg"
        yield Case(f"search {host}", (422,), posted("/v1/search", {"url": url}))
    for host in _HOSTS[:4]:
        url = f"https://{host}:{PORT}/a.jpg"
        yield Case(f"add {host}", (422,), posted("/v1/images", {"url": url}))
    for url in _BAD_ADDRESSES:
        yield Case(f"search {url[:50]!r}", (422,), posted("/v1/search", {"url": url}))
        yield Case(f"add {url[:50]!r}", (422,), posted("/v1/images", {"url": url}))


def _uploads() -> Iterator[Case]:
    for uri in _BAD_URIS:
        path = f"/v1/images?uri={quote(uri, safe='')}"
        yield Case(f"uri {uri[:50]!r}", (422,), request("POST", path, b"GIF89a", "image/gif"))
    yield Case("no uri", (422,), request("POST", "/v1/images", b"GIF89a", "image/gif"))
    images = {
        "bomb": bomb(20_000, 20_000),
        "smaller bomb": bomb(9_500, 10_000),
        "empty": b"",
        "text": b"these are not the pixels you are looking for",
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        "html": b"<html><script>alert(1)</script></html>",
        "zip": b"PK\x03\x04" + bytes(100),
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "half a header": bomb(10, 10)[:20],
        "no pixels": bomb(0, 0),
        "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    }
    for name, data in images.items():
        yield Case(f"image: {name}", (422,), request("POST", "/v1/search", data, "image/png"))
    added = request("POST", "/v1/images?uri=urn:bomb", images["bomb"], "image/png")
    yield Case("add a bomb", (422,), added)
    for media_type in (
        "text/plain",
        "text/html",
        "application/xml",
        "application/x-www-form-urlencoded",
        "video/mp4",
        "imagejpeg",
        "",
        "application/json-patch+json",
    ):
        for path in ("/v1/search", "/v1/search/batch"):
            data = request("POST", path, b'{"uri": "x"}', media_type)
            yield Case(f"{media_type!r} to {path}", (415,), data)
    form = "multipart/form-data; boundary=x"
    yield Case("no form", (422,), request("POST", "/v1/search", b'{"uri": "x"}', form))
    yield Case("a form of queries", (415,), request("POST", "/v1/search/batch", b"{}", form))


def _questions() -> Iterator[Case]:
    vector = [1.0] * 1280
    texts: dict[str, bytes] = {
        "nothing": b"",
        "no object": b"[]",
        "a string": b'"uri"',
        "cut": b'{"uri": "x"',
        "two values": b'{"uri": "x"} {}',
        "deep list": b"[" * 100_000,
        "deep objects": b'{"a":' * 100_000,
        "deep vector": b'{"vector":' + b"[" * 1000 + b"1" + b"]" * 1000 + b"}",
        "NaN": b'{"vector": [NaN]}',
        "Infinity": b'{"vector": [-Infinity]}',
        "too large a number": b'{"vector": [1e999]}',
        "too long a number": b'{"vector": [' + b"1" * 10_000 + b"]}",
        "latin-1": '{"uri": "ü"}'.encode("latin-1"),
        "utf-16": '{"uri": "x"}'.encode("utf-16"),
        "a byte order mark": b'\xef\xbb\xbf{"uri": "x"}',
        "a NUL": b'{"uri": "\0"}',
        "half a surrogate pair": b'{"uri": "\\ud800"}',
        "comment": b'{"uri": "x" /* no */}',
        "single quotes": b"{'uri': 'x'}",
        "a gigantic list": b'{"vector": [' + b"1," * 70_000 + b"1]}",
        "a pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    }
    given: dict[str, object] = {
        "no way": {},
        "two ways": {"uri": "x", "url": "http://example.org/"},
        "an unknown field": {"uri": "x", "admin": True},
        "a prototype": {"uri": "x", "__proto__": {"admin": True}},
        "no numbers": {"vector": ["1"] * 1280},
        "booleans": {"vector": [True] * 1280},
        "an object": {"vector": {"0": 1}},
        "too few numbers": {"vector": vector[:-1]},
        "too many numbers": {"vector": [*vector, 1.0]},
        "no direction": {"vector": [0] * 1280},
        "more than float32 holds": {"vector": [1e300] * 1280},
        "n of 0": {"vector": vector, "n": 0},
        "n of 10,001": {"vector": vector, "n": 10_001},
        "n as text": {"vector": vector, "n": "5"},
        "n of 10^30": {"vector": vector, "n": 10**30},
        "recall of 0": {"vector": vector, "recall": 0},
        "recall of 1.1": {"vector": vector, "recall": 1.1},
        "min_score of 2": {"vector": vector, "min_score": 2},
        "a long label": {"vector": vector, "label": "x" * 2049},
        "a list as a label": {"vector": vector, "label": ["x"]},
        "a long uri": {"uri": "x" * 2049},
        "a long collection": {"vector": vector, "collection": "x" * 65},
    }
    for name, body in (texts | given).items():
        yield Case(f"search: {name}", (422,), posted("/v1/search", body))
    for name, given_collection in {
        "unknown": "others",
        "a pattern": "*",
        "a path": "../photos",
        "a key": "photos/0}:meta",
        "commands": "photos\r\nFLUSHALL\r\n",
        "empty braces": "{}",
    }.items():
        body_of = {"vector": vector, "collection": given_collection}
        yield Case(f"collection: {name}", (404,), posted("/v1/search", body_of))
    batches: dict[str, object] = {
        "no queries": {"queries": []},
        "65 queries": {"queries": [{"uri": "x"}] * 65},
        "no object": {"queries": [1]},
        "a bad one": {"queries": [{"uri": "x"}, {"uri": "x", "id": "0" * 24}]},
    }
    for name, batch in batches.items():
        yield Case(f"batch: {name}", (422,), posted("/v1/search/batch", batch))
    address = "http://127.0.0.1/"
    for name, metadata in {
        "NaN": b"NaN",
        "Infinity": b"Infinity",
        "no object": b"[]",
        "much": json.dumps({"a": "x" * 20_000}).encode(),
        "many": json.dumps({str(i): i for i in range(65)}).encode(),
    }.items():
        inner = metadata if metadata[:1] in b"[{" else b'{"a": ' + metadata + b"}"
        adding = b'{"url": "%s", "metadata": %s}' % (address.encode(), inner)
        yield Case(f"metadata: {name}", (422,), posted("/v1/images", adding), "metadata")


def _parameters() -> Iterator[Case]:
    for query in (
        "n=0",
        "n=-1",
        "n=1001",
        "n=five",
        "n=1e3",
        "n=" + "9" * 5000,
        "recall=0",
        "recall=nan",
        "recall=inf",
        "min_score=-2",
        "label=" + "x" * 2049,
        "admin=true",
    ):
        data = request("POST", f"/v1/search?{query}", b"GIF89a", "image/gif")
        yield Case(f"search?{query[:30]}", (422,), data)
    digits = "0123456789abcdef01234567"
    for image_id in (
        digits[:-1],
        digits + "0",
        digits.upper(),
        "g" * 24,
        "%00" * 24,
        digits[:-1] + "%0a",
        "x" * 10_000,
        "%f0%9f%98%80" * 24,
    ):
        status = 400 if "%0" in image_id else 422
        yield Case(f"id {image_id[:40]}", (status,), request("GET", f"/v1/images/{image_id}"))
    yield Case("an unknown id", (404,), request("GET", f"/v1/images/{digits}"))
    yield Case("a thumbnail of none", (404,), request("GET", f"/v1/images/{digits}/thumbnail"))
    yield Case("delete nothing", (422,), request("DELETE", "/v1/images"))
    yield Case("delete all", (404,), request("DELETE", "/v1/images?uri=*"))
    yield Case("delete a long uri", (422,), request("DELETE", "/v1/images?uri=" + "x" * 2049))


def _administration() -> Iterator[Case]:
    deep = "where=" + "(" * 2000
    for query in ("prefix=", "where=a%20=", "label=x&after=9-9", "uri=a&label=b", deep):
        yield Case(f"delete {query[:20]}", (422,), request("DELETE", f"/v1/images?{query}"))
    for query in ("n=0", "n=1001", "n=x", "after=1", "where=%00", "label=" + "x" * 2049, "a=b"):
        yield Case(f"list {query[:20]}", (422,), request("GET", f"/v1/images?{query}"))
    rename, copy = "/v1/collections/photos/rename", "/v1/collections/photos/copy"
    for name in ("~", "a~1", "{x}", "!a", "a" * 65, "%00", "%F0%9F%98%80"):
        status = 400 if name == "%00" else 422
        for path in (f"/v1/collections/{name}", f"/v1/aliases/{name}"):
            yield Case(f"delete {path[4:40]}", (status,), request("DELETE", path))
        yield Case(f"rename to {name[:20]}", (422,), posted(rename, {"to": name}))
    yield Case("rename to what is not served", (404,), posted(rename, {"to": "a"}))
    yield Case("copy to itself", (409,), posted(copy, {"to": "photos"}))
    for name, path, body in (
        ("an alias of itself", "PUT /v1/aliases/photos", b'{"to": "photos"}'),
        ("a change of nothing", "PATCH /v1/images?label=x", b"{}"),
        ("a change of all", "PATCH /v1/images", b'{"label": "x"}'),
    ):
        method, place = path.split()
        yield Case(name, (409, 422), request(method, place, body))


def _bodies() -> Iterator[Case]:
    large = bytes(MAX_UPLOAD + 1)
    for path in ("/v1/search", "/v1/images?uri=urn:large"):
        yield Case(f"20 MiB to {path}", (413,), request("POST", path, large, "image/png"))
    yield Case("4 MiB of JSON", (413,), posted("/v1/search", b" " * (MAX_JSON + 1)))
    yield Case("4 MiB of JSON, batch", (413,), posted("/v1/search/batch", b" " * (MAX_JSON + 1)))
    chunks = b"100000\r\n" + bytes(1 << 20) + b"\r\n"
    for media_type, number in {"image/png": 21, "application/json": 5}.items():
        start = head("POST", "/v1/search", Content_Type=media_type, Transfer_Encoding="chunked")
        data = start + chunks * number + b"0\r\n\r\n"
        yield Case(f"{number} MiB of {media_type} in chunks", (413,), data)


def _paths() -> Iterator[Case]:
    for path in (
        "/page/../v1/collections",
        "/page/%2e%2e/v1/collections",
        "/page/..%2fapi.py",
        "/page/....//api.py",
        "/page/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/page/..%5c..%5cconfig.py",
        "/page//etc/passwd",
        "/page/index.html%00",
        "/page/index.html/",
        "/page/%zz",
        "/page/%ff%fe",
        "/page/.",
        "/page/",
        "/page",
        "/v1",
        "/v1/search/",
        "//v1/collections",
        "/v1//collections",
        "/v1/collections/",
        "/v1/../healthz/..",
        "/V1/collections",
        "/v1/collections;a=b",
        "/docs",
        "/redoc",
        "/openapi.json",
        "/-/routes",
        "/.env",
        "/.git/config",
        "/etc/passwd",
        "/api/serve/applications/",
    ):
        status = 400 if "%00" in path else 404
        yield Case(f"path {path}", (status,), head("GET", path))
    for path in ("//", "/page/../v1/collections", "/healthz/../v1/collections", "/healthz/"):
        yield Case(f"{path} without a token", (401, 404), head("GET", path, token=None))
    yield Case("a very long path", (414,), head("GET", "/page/" + "a" * 100_000))
    yield Case("a very long query", (414,), head("GET", "/v1/collections?" + "a" * 100_000))
    yield Case("a path longer than any buffer", (400,), head("GET", "/" + "a" * 1_000_000))
    yield Case("no path", (400, 404), head("GET", "healthz"))
    yield Case("an asterisk", (400, 404), head("OPTIONS", "*"))
    yield Case("a proxy's address", (400,), head("GET", f"http://127.0.0.1:{PORT}/"))
    yield Case("a NUL", (400,), head("GET", "/\0"))
    yield Case("bytes beyond ASCII", (400,), head("GET", "/page/\xff"))


def _methods() -> Iterator[Case]:
    for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "HEAD"):
        if method != "HEAD":  # has no body to look at
            yield Case(f"{method} /v1/search", (405,), head(method, "/v1/search"))
    for path in ("/v1/aliases/a", "/v1/collections", "/", "/healthz", "/metrics"):
        yield Case(f"PATCH {path}", (405,), head("PATCH", path))
    for method in ("BREW", "get", "PROPFIND", "X" * 1000):
        yield Case(f"method {method[:10]}", (405,), head(method, "/v1/search"))
    yield Case("CONNECT", (400,), head("CONNECT", f"127.0.0.1:{PORT}"))


def _framing() -> Iterator[Case]:
    """What one server may take for one request, and another for two."""
    path, kind = "/v1/search", "image/png"
    heads = {
        "two lengths": head(
            "POST", path, Content_Type=kind, Content_Length="4\r\nContent-Length: 5"
        ),
        "a negative length": head("POST", path, Content_Type=kind, Content_Length=-1),
        "a signed length": head("POST", path, Content_Type=kind, Content_Length="+4"),
        "a length in hex": head("POST", path, Content_Type=kind, Content_Length="0x4"),
        "an endless length": head("POST", path, Content_Type=kind, Content_Length="9" * 30),
        "a length of text": head("POST", path, Content_Type=kind, Content_Length="four"),
        "an unknown encoding": head("POST", path, Content_Type=kind, Transfer_Encoding="gzip"),
        "a look-alike": head("POST", path, Content_Type=kind, Transfer_Encoding="xchunked"),
    }
    for name, start in heads.items():
        yield Case(name, (400, 411, 422, 501), start + b"abcd")
    chunked = head("POST", path, Content_Type=kind, Transfer_Encoding="chunked")
    yield Case("no chunk", (400,), chunked + b"zz\r\nabcd\r\n0\r\n\r\n")
    yield Case("an endless chunk", (400,), chunked + b"f" * 17 + b"\r\nabcd\r\n0\r\n\r\n")
    both = head("POST", path, Content_Type=kind, Content_Length=6, Transfer_Encoding="chunked")
    yield Case("both", (400, 422), both + b"0\r\n\r\nGET /healthz HTTP/1.1\r\n\r\n")
    start = b"GET /healthz HTTP/1.1\r\nHost: a\r\n"
    lines = {
        "two hosts": b"Host: b",
        "a space in a name": b"A B: c",
        "a space before the colon": b"Content-Length : 4",
        "no colon": b"nonsense",
        "no name": b": nonsense",
        "a NUL": b"A: b\0c",
        "a NUL in a name": b"A\0: b",
        "3,000 headers": b"\r\n".join(b"A%d: b" % i for i in range(3000)),
    }
    for name, line in lines.items():
        yield Case(f"headers: {name}", (400, 431), start + line + b"\r\n\r\n")
    long = {"100 kB": (100_000, (431,)), "1 MB": (1_000_000, (400,))}
    for name, (size, statuses) in long.items():
        yield Case(f"headers: {name}", statuses, start + b"A: " + b"b" * size + b"\r\n\r\n")
    yield Case("TLS", (400,), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n")
    yield Case("another protocol", (400,), b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
    yield Case("a command for Redis", (400,), b"*1\r\n$8\r\nFLUSHALL\r\n\r\n")
    yield Case("HTTP/0.9", (400,), b"GET /v1/collections\r\n\r\n")
    upgrade = head("GET", "/v1/search", Upgrade="websocket", Sec_WebSocket_Version=13)
    key = b"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    upgrading = upgrade.replace(b"Connection: close\r\n", b"").removesuffix(b"\r\n") + key
    yield Case("a WebSocket", (405,), upgrading)


def _tokens() -> Iterator[Case]:
    for name, token in {
        "none": None,
        "empty": "",
        "wrong": "a-token-that-is-no-token",
        "a prefix": READ_TOKEN[:-1],
        "a longer one": READ_TOKEN + "x",
        "in capitals": READ_TOKEN.upper(),
        "twice": f"{READ_TOKEN} {READ_TOKEN}",
        "a list": f"{READ_TOKEN},{WRITE_TOKEN}",
        "beyond ASCII": "\xff" * 20,
        "long": "x" * 10_000,
    }.items():
        yield Case(f"token: {name}", (401,), head("GET", "/v1/collections", token=token))
    for name, header in {"basic": f"Basic {READ_TOKEN}", "bare": READ_TOKEN}.items():
        data = head("GET", "/v1/collections", token=None, Authorization=header)
        yield Case(f"token: {name}", (401,), data)
    for path in ("/v1/collections", "/metrics"):
        data = head("GET", f"{path}?token={READ_TOKEN}&access_token={READ_TOKEN}", token=None)
        yield Case(f"token: in the address of {path}", (401,), data)
    cookie = head("GET", "/v1/collections", token=None, Cookie=f"token={READ_TOKEN}")
    yield Case("token: in a cookie", (401,), cookie)
    spoofed = head("GET", "/v1/collections", token=None, X_Forwarded_For="127.0.0.1")
    yield Case("a forwarded address", (401,), spoofed)
    rewritten = head("GET", "/healthz/x", token=None, X_Original_URL="/v1/collections")
    yield Case("a rewritten address", (401, 404), rewritten)
    yield Case("no token for JSON", (401,), request("POST", "/v1/search", b"{}", token=None))
    reading: dict[str, Any] = {"token": READ_TOKEN}
    gif = request("POST", "/v1/images?uri=urn:a", b"GIF89a", "image/gif", **reading)
    yield Case("add with a read token", (403,), gif)
    removing = request("DELETE", "/v1/images?uri=urn:a", **reading)
    yield Case("delete with a read token", (403,), removing)
    for method, path in (
        ("PATCH", "/v1/images?label=x"),
        ("DELETE", "/v1/collections/photos"),
        ("DELETE", "/v1/aliases/photos"),
        ("PUT", "/v1/aliases/photos"),
        ("POST", "/v1/collections/photos/copy"),
        ("POST", "/v1/collections/photos/rename"),
    ):
        changing = request(method, path, b'{"to": "a"}', "application/json", **reading)
        yield Case(f"{method} {path} with a read token", (403,), changing)
    # What a router takes for the path of a route, though it is not equal to it.
    for ending in ("%0A", "%0D", "%0D%0A", "%00", "%20", "%09", "%7F", "%0A%0A"):
        adding = request("POST", f"/v1/images{ending}?uri=urn:a", b"GIF89a", "image/gif", **reading)
        yield Case(f"add with a read token at {ending}", (400, 403), adding)
        removing = request("DELETE", f"/v1/images{ending}?uri=urn:a", **reading)
        yield Case(f"delete with a read token at {ending}", (400, 403), removing)
    override = request("POST", "/v1/images", b"{}", X_HTTP_Method_Override="GET", **reading)
    yield Case("an overridden method", (403,), override)
