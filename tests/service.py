"""A simdist service as a user starts it: `simdist serve`, a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO

import numpy as np
import psutil
import requests
from numpy.typing import NDArray

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import connect
from tests.conftest import PHOTOS
from tests.servers import free_port

COLLECTION = "photos"
START_SECONDS = 180
# Most services of tests have the same photographs.
_embedded: dict[tuple[str, bytes], NDArray[np.float32]] = {}


@dataclass(frozen=True)
class Service:
    """A service that runs.

    Attributes:
        url: where it listens.
        redis_url: where its collection `photos` is: all example photographs.
    """

    url: str
    redis_url: str
    process: subprocess.Popen[str]

    def post(self, path: str, **options: object) -> requests.Response:
        """POST, with what `requests.post` takes."""
        return requests.post(self.url + path, timeout=60, **options)  # type: ignore[arg-type]

    def get(self, path: str, **options: object) -> requests.Response:
        """GET, with what `requests.get` takes."""
        return requests.get(self.url + path, timeout=60, **options)  # type: ignore[arg-type]

    def processes(self, name: str = "") -> list[psutil.Process]:
        """Its processes whose names or command lines have this in them."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child for child in children if name in _title(child)]


def _title(process: psutil.Process) -> str:
    try:
        return " ".join([process.name(), *process.cmdline()])
    except psutil.Error:  # gone, or a zombie
        return ""


@contextmanager
def running_service(
    redis_url: str,
    *arguments: str,
    module: str = "simdist",
    folder: Path | str | None = None,
    **environment: str,
) -> Iterator[Service]:
    """Start `simdist serve` with more arguments, wait until it is ready, stop it with Ctrl-C.

    Args:
        module: what is run, a `simdist` of the tests' own.
        folder: its working folder; by default that of the tests.
    """
    port = free_port()
    command = [sys.executable, "-m", module, "serve", "--redis", redis_url, "--port", str(port)]
    if "--collection" not in arguments:
        command += ["--collection", COLLECTION]
    forgotten = ("SIMDIST_REDIS_URL", "RAY_ADDRESS", "RAY_worker_niceness")
    kept = {k: v for k, v in os.environ.items() if k not in forgotten}
    # With a data folder of its own: the thumbnails of one are not found by another.
    with TemporaryFile("w+") as output, TemporaryDirectory() as data:
        process = subprocess.Popen(
            [*command, *arguments],
            cwd=folder,
            env=kept | {"PYTHONUNBUFFERED": "1", "SIMDIST_DATA_DIR": data} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            wait_until_ready(process, output)
            yield Service(f"http://127.0.0.1:{port}", redis_url, process)
            process.send_signal(signal.SIGINT)
            process.wait(60)
        finally:
            if process.poll() is None:
                stop_all(psutil.Process(process.pid))
                process.wait()


def wait_until_ready(process: subprocess.Popen[str], output: IO[str]) -> None:
    """Wait until a service says so."""
    deadline = time.monotonic() + START_SECONDS
    said = ""
    while "Serving " not in said:
        output.seek(0)
        said = output.read()
        assert process.poll() is None, said
        assert time.monotonic() < deadline, said
        time.sleep(0.1)


def stop_all(process: psutil.Process) -> None:
    """Kill a process and all that it started."""
    for one in [*process.children(recursive=True), process]:
        one.kill()


def index_photos(redis_url: str, embedder: Embedder, folder: Path = PHOTOS) -> Collection:
    """Index the photographs of a folder as the collection `photos`."""
    refs = [ref for ref in list_folder(folder) if isinstance(ref, ImageRef)]
    collection = Collection.ensure(connect(redis_url), COLLECTION, model=embedder.model)
    collection.add(embedded_once(embedder, [uri_path(ref.uri) for ref in refs]), refs)
    return collection


def embedded_once(embedder: Embedder, files: Sequence[Path]) -> NDArray[np.float32]:
    """Embed files, but for those whose bytes were embedded for an earlier test."""
    keys = [(embedder.model.id, file.read_bytes()) for file in files]
    new = {key: file for key, file in zip(keys, files, strict=True) if key not in _embedded}
    if new:
        _embedded.update(zip(new, embedder.embed_files([*new.values()]), strict=True))
    return np.stack([_embedded[key] for key in keys])
