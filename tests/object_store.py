"""Object stores that tests start, each a process of its own: S3 of moto, rclone and SeaweedFS, and
one of many keys."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import requests

from simdist.sources import Access
from simdist.sources.objects import bucket_store
from tests.servers import eventually, free_port

ROOT = Path(__file__).parent.parent

# What a slow store takes longer for each answer.
SLOW_SECONDS = 1.0
# What moto takes for credentials; the second must never be printed.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "a-secret-to-keep"}
FORGOTTEN = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_SKIP_SIGNATURE",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
)


@dataclass(frozen=True)
class ObjectStore:
    """An S3 endpoint with one bucket of its own for each test."""

    url: str
    bucket: str

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}"

    @property
    def access(self) -> Access:
        return Access.resolve(endpoint_url=self.url)

    def at(self, url: str) -> ObjectStore:
        """The same bucket through another endpoint."""
        return ObjectStore(url, self.bucket)

    def put(self, key: str, data: bytes) -> None:
        bucket_store("s3", self.bucket, self.access).put(key, data)

    def put_folder(self, folder: Path, prefix: str) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.put(f"{prefix}/{path.relative_to(folder)}", path.read_bytes())


def made_bucket(url: str, bucket: str) -> ObjectStore:
    """A bucket at an endpoint; it may be there already."""
    requests.put(f"{url}/{bucket}", timeout=30).raise_for_status()
    return ObjectStore(url, bucket)


@contextmanager
def running_process(*command: str, port: int) -> Iterator[str]:
    """A program that serves HTTP on a port; it is killed in the end."""
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def answers() -> bool:
        assert process.poll() is None, f"{command} ended at once"
        with suppress(requests.ConnectionError):
            return requests.get(url, timeout=30).status_code > 0
        return False

    try:
        eventually(answers)
        yield url
    finally:
        process.kill()
        process.wait()


@contextmanager
def running_s3() -> Iterator[str]:
    """moto's S3, in memory."""
    port = free_port()
    moto = (sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with running_process(*moto, port=port) as url:
        yield url


@contextmanager
def running_seaweedfs(folder: Path) -> Iterator[str]:
    """SeaweedFS' S3 over a folder; it takes any credentials."""
    names = ("master", "volume", "filer", "s3")  # each with HTTP and gRPC
    ports = {f"{name}.port{kind}": free_port() for name in names for kind in ("", ".grpc")}
    options = [f"-{name}={port}" for name, port in ports.items()]
    options += ["-filer", "-s3", "-volume.max=8", "-master.telemetry=false"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # else fixed ones
    weed = str(Path(sys.executable).with_name("weed"))
    command = (weed, "server", f"-dir={folder}", "-ip=127.0.0.1")
    with running_process(*command, *options, port=ports["s3.port"]) as url:
        yield url


@contextmanager
def serving_folders(parent: Path) -> Iterator[str]:
    """rclone's S3: each folder in one is a bucket. It takes `CREDENTIALS`, and checks signatures.

    It is written in Go: an object takes a tenth of what moto needs for it.
    """
    port = free_port()
    rclone = (str(Path(sys.executable).with_name("rclone")), "serve", "s3", "--config", "")
    address = ("--addr", f"127.0.0.1:{port}", "--auth-key", ",".join(CREDENTIALS.values()))
    with running_process(*rclone, *address, "--copy-links", str(parent), port=port) as url:
        yield url


@contextmanager
def running_many_keys(keys: int, folders: int) -> Iterator[str]:
    """A store that only lists: `keys` keys in `folders` folders; see `tests.many_keys`."""
    port = free_port()
    arguments = ("-m", "tests.many_keys", str(port), str(keys), str(folders))
    with running_process(sys.executable, *arguments, port=port) as url:
        yield url


class FlakyProxy:
    """Passes requests on to a store, but for those that it is told to spoil."""

    def __init__(self, target: str) -> None:
        self.requests: list[str] = []
        # For each path that matters: what happens to its next requests.
        self.trouble: dict[str, list[str]] = {}
        # What happens to all others: a status, "cut", "slow", "drop", "garbage", or nothing.
        self.mood = ""
        # Seconds that every answer takes longer.
        self.latency = 0.0
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                proxy.requests.append(self.path)
                kinds = next((k for part, k in proxy.trouble.items() if part in self.path), [])
                kind = kinds.pop(0) if kinds else proxy.mood
                if kind == "drop":
                    self.close_connection = True
                    return
                time.sleep(proxy.latency + (SLOW_SECONDS if kind == "slow" else 0))
                if kind.isdigit():
                    body = b"<Error><Code>SlowDown</Code></Error>"
                    self._answer(int(kind), {}, body)
                    return
                sent = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                answer = requests.request(
                    self.command, target + self.path, headers=sent, timeout=30
                )
                cut = len(answer.content) // 2 if kind == "cut" else None
                told = {**answer.headers, "last-modified": "garbage http://key:secret@host/a"}
                headers = told if kind == "garbage" else answer.headers
                self._answer(answer.status_code, headers, answer.content, cut=cut)

            do_HEAD = do_GET  # noqa: N815 - the name is http.server's

            def _answer(
                self, status: int, headers: Mapping[str, str], body: bytes, cut: int | None = None
            ) -> None:
                self.send_response(status)
                kept = ("etag", "last-modified", "content-type", "content-range")
                for name, value in headers.items():
                    if name.lower() in kept:
                        self.send_header(name, value)
                length = headers.get("Content-Length", "0") if not body else str(len(body))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body[:cut])
                self.close_connection = cut is not None

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                # Tests kill clients.
                if not isinstance(sys.exception(), ConnectionError):
                    super().handle_error(request, client_address)

        self._server = Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
