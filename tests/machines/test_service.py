"""A service on two machines beside the head, one of which is cut off: what clients see."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

import numpy as np
import pytest

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.sources import file_uri
from simdist.store import connect
from tests.conftest import PHOTOS, QUERIES
from tests.hostile import READ_TOKEN
from tests.load import Ask, Load
from tests.machines.rig import ENVIRONMENT, NAME, Rig, rig
from tests.servers import eventually
from tests.service import index_photos

CLIENTS = 8
PORT = 8000
WORKER, EMBEDDER = "ServeReplica:simdist:QueryWorker", "ServeReplica:simdist:Embedder"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("machines")
    program = folder / "haproxy.sh"
    program.write_text(
        f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m cluster.service.haproxy "$@"\n'
    )
    program.chmod(0o700)
    # As the image has it.
    serve = {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_HAPROXY_BINARY_PATH": str(program),
        "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
        "RAY_SERVE_HAPROXY_TUNE_BUFSIZE": "524288",
        "RAY_SERVE_HAPROXY_RETRY_ON": "conn-failure empty-response",
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60",
    }
    # The head takes no work, as in deploy/, so the embedder is on a machine that can be cut off.
    with rig(folder, redis=0, cpus=2, head_cpus=0, environment=ENVIRONMENT | serve) as built:
        index_photos(built.redis_url, embedder)
        yield built


@contextmanager
def service(rig: Rig, *options: str) -> Iterator[str]:
    """`simdist serve` on the cluster; gives its URL."""
    tokens = rig.folder / "tokens"
    tokens.write_text(f"read {READ_TOKEN}\n")
    head, log = rig.machines[0], rig.folder / "service.log"
    command = ["-m", "simdist", "serve", "-c", NAME, *rig.places, "--port", str(PORT)]
    command += ["--host", "0.0.0.0", "--tokens", str(tokens), *options]
    with log.open("w") as output:
        process = head.start(sys.executable, *command, stdout=output, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: "Serving " in log.read_text() or process.poll() is not None, seconds=240)
        assert process.poll() is None, log.read_text()
        yield f"http://{head.address}:{PORT}"
    finally:
        for one in head.processes("simdist serve"):
            one.terminate()
        process.wait(120)


def asks(url: str, embedder: Embedder) -> list[Ask]:
    """Searches by vector, by URI and by image, with the answers that this process finds."""
    fish, horses = QUERIES / "fish.jpg", PHOTOS / "animals" / "horses.jpg"
    vectors = embedder.embed_files([fish, horses])
    with closing(connect(url)) as store:
        searcher = Searcher(Collection.open(store, NAME))
        image = searcher.collection.get(file_uri(horses))
        assert image is not None
        by_image, by_uri = (
            [hit.uri for hit in searcher.search(vector)] for vector in (vectors[0], image.vector)
        )
    kind = "application/json"
    return [
        Ask("/v1/search", kind, json.dumps({"vector": vectors[0].tolist()}).encode(), by_image),
        Ask("/v1/search", kind, json.dumps({"uri": file_uri(horses)}).encode(), by_uri),
        Ask("/v1/search", "image/jpeg", fish.read_bytes(), by_image),
    ]


@pytest.mark.timeout(900)
def test_the_embedder_and_a_worker_are_cut_off(machines: Rig, embedder: Embedder) -> None:
    asked = asks(machines.redis_url, embedder)
    with service(machines, "--workers", "3") as url:
        for one in machines.machines:
            print(one.name, [len(one.processes(name)) for name in (WORKER, EMBEDDER)])
        [lost] = [one.number for one in machines.machines if one.processes(EMBEDDER)]
        assert lost != 1
        for kind in (asked[:2], asked[2:]):
            load = Load(url, kind, token=READ_TOKEN)
            load.add(CLIENTS)
            try:
                look(load, "before", 10)
                with machines.wires.partition(lost):
                    look(load, "while a machine is cut off, the first 10 s", 10)
                    look(load, "the next 10 s", 10)
                    look(load, "the last 10 s", 10)
                look(load, "after, 10 s", 10)
                look(load, "after, the next 10 s", 10)
            finally:
                load.stop()
            assert [answer for answer in load.answers if answer.fault] == []
            print(f"longest: {max(answer.seconds for answer in load.answers):.1f} s")


def look(load: Load, when: str, seconds: float) -> None:
    """Tell what the clients see for some seconds."""
    moment = time.monotonic()
    time.sleep(seconds)
    answers = [answer for answer in load.answers if answer.at >= moment]
    took = [answer.seconds for answer in answers] or [0.0]
    statuses = Counter(answer.status for answer in answers)
    p50, p99 = np.percentile(took, [50, 99])
    print(f"{when}: {dict(statuses)}, p50 {p50:.2f} s, p99 {p99:.2f} s, longest {max(took):.1f} s")
    print({answer.fault for answer in answers if answer.fault})
