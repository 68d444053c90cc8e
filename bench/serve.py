"""How long does a service take to answer, beside an empty one?

In one run, on one Ray Serve behind one HAProxy: an empty deployment, which takes the same body
and answers nothing; the same, watched for whether its caller has gone, as HAProxy leaves it to
Serve where a body is no vector; and simdist by vector (as float32, as JSON), by URI and by image,
for 1, 8 and 32 clients, which a process of its own plays (`bench.serve_load`), and 1, 2 and 4
workers.

    python -m bench.serve [FOLDER] [--size 1000] [--seconds 5] [--model NAME] [--untrained]
        [--pin] [--cases empty,vector] [--workers 1]

With `--pin` the workers have the last core, and HAProxy, the load generator, Redis and the embedder
all others: what one worker answers on one core, whatever it costs to ask it.

Writes bench/out/serve.json: a list of {"case", "clients", "workers", "p50_ms", "p99_ms", "per_s",
"cpu_us", "load_us"}, the last two the time that an answer took of the workers' processors, which
depends less on other work, and of the load generator's: where that is less, it is not the limit.
The network's own time for one image stands there as the case "network".
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil

from cluster.runtime import ray_session
from cluster.service.config import APPLICATION, ServiceConfig
from cluster.service.embedder import embedding_threads
from cluster.service.ray_serve import haproxy_for_serve
from simdist.embedding import Embedder
from simdist.embedding.memory import tune_process
from simdist.embedding.model import Model, save_bundle
from simdist.index.collection import Collection
from simdist.settings import Settings
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import connect
from simdist.store.embedded import embedded_server
from tests.servers import free_port

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

OUT = Path(__file__).parent / "out" / "serve.json"
SOURCE = Path("../shared/data/caltech-101")
CLIENTS = (1, 8, 32)
WORKERS = (1, 2, 4)
# The deployments that speak HTTP, and their applications.
_APPLICATIONS = {"Empty": "empty", "QueryWorker": APPLICATION}


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    case: str
    clients: int
    workers: int
    p50_ms: float
    p99_ms: float
    per_s: float
    cpu_us: float = 0.0
    load_us: float = 0.0


@dataclass(frozen=True)
class Case:
    """What is sent, where, and as what."""

    name: str
    path: str
    content_type: str
    body: bytes


class Empty:
    """A deployment that takes a request's body, and answers nothing."""

    def __serve_build_asgi_app__(self) -> ASGIApp:
        from starlette.applications import Starlette
        from starlette.responses import Response
        from starlette.routing import Route

        async def nothing(request: Request) -> Response:
            await request.body()
            return Response("{}", media_type="application/json")

        return Starlette(routes=[Route("/", nothing, methods=["POST"])])


def main() -> None:
    arguments = _arguments()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, embedded_server(Path(name) / "data") as url:
        model = _model(arguments)
        save_bundle(model, Path(name) / "model")
        embedder = Embedder(model, device="cpu")
        paths = _index(url, embedder, arguments)
        cases = _cases(paths, model.dim)
        rows.append(_network(embedder, paths[0]))
        del embedder
        port = free_port()
        # Logical ones, enough for old and new replicas side by side.
        cpus = 8 * max(WORKERS)
        settings = Settings.resolve(redis_url=url)
        with haproxy_for_serve(seconds=10), ray_session(settings, cpus=cpus):
            for workers in arguments.workers:
                config = ServiceConfig(
                    url, model=f"{name}/model", workers=(workers, workers), loopback=True
                )
                with _served(config, port):
                    if arguments.pin:
                        _pin()
                    for case in cases:
                        if arguments.cases and case.name not in arguments.cases:
                            continue
                        for clients in CLIENTS:
                            rows.append(_measured(case, clients, workers, port, arguments.seconds))
                            print(_line(rows[-1]), flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    print(_conclusion(rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, nargs="?", default=SOURCE)
    parser.add_argument("--size", type=int, default=1000, help="images that are indexed")
    parser.add_argument("--seconds", type=float, default=5, help="for each line of the result")
    parser.add_argument("--model", default="efficientnet-lite0")
    parser.add_argument("--untrained", action="store_true", help="random weights")
    parser.add_argument("--pin", action="store_true", help="the last core is the workers' own")
    parser.add_argument("--cases", type=lambda text: text.split(","), help="only these")
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    return parser.parse_args()


def _model(arguments: argparse.Namespace) -> Model:
    from simdist.embedding import load_model
    from simdist.embedding.backbones import backbone

    if not arguments.untrained:
        return load_model(arguments.model)
    known = backbone(arguments.model)
    return Model(known.name, known.build().state_dict(), known.preprocessing, known.tap)


def _index(url: str, embedder: Embedder, arguments: argparse.Namespace) -> list[Path]:
    """Index a seeded sample of the folder; returns the files."""
    every = [entry for entry in list_folder(arguments.folder) if isinstance(entry, ImageRef)]
    refs = random.Random(0).sample(every, min(arguments.size, len(every)))
    paths = [uri_path(ref.uri) for ref in refs]
    store = connect(url)
    collection = Collection.ensure(store, "images", model=embedder.model)
    collection.add(embedder.embed_files(paths), refs)
    store.close()
    return paths


def _cases(paths: list[Path], dim: int) -> list[Case]:
    vector = np.random.default_rng(0).normal(size=dim).round(6)
    by_vector = json.dumps({"vector": vector.tolist()}).encode()
    as_float32 = vector.astype("<f4").tobytes()
    by_uri = json.dumps({"uri": paths[1].resolve().as_uri()}).encode()
    return [
        Case("empty", "/empty/", "application/octet-stream", as_float32),
        Case("watched", "/empty/", "image/jpeg", as_float32),
        Case("vector", "/v1/search", "application/octet-stream", as_float32),
        Case("json", "/v1/search", "application/json", by_vector),
        Case("uri", "/v1/search", "application/json", by_uri),
        Case("image", "/v1/search", "image/jpeg", paths[0].read_bytes()),
    ]


def _network(embedder: Embedder, path: Path) -> Row:
    """The network's own time for one image, in a process that is set up as the service's."""
    tune_process(threads=embedding_threads())
    pixels = embedder.model.preprocessing.pixels(path.read_bytes())[None]
    taken = []
    for _ in range(120):
        started = time.perf_counter()
        embedder.embed(pixels)
        taken.append(1000 * (time.perf_counter() - started))
    return _row("network", 1, 0, taken[20:], 1000 / float(np.mean(taken[20:])))


@contextmanager
def _served(config: ServiceConfig, port: int) -> Iterator[None]:
    from ray import serve

    from cluster.service.app import REPLICA_LOGGING, REPLICA_VARIABLES, application

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    options = {"runtime_env": {"env_vars": REPLICA_VARIABLES}}
    empty = serve.deployment(
        name="Empty",
        num_replicas=config.workers[0],
        ray_actor_options=options,
        logging_config=REPLICA_LOGGING,
    )(serve.ingress()(Empty))
    serve.run(empty.bind(), name="empty", route_prefix="/empty")
    serve.run(application(config), name=APPLICATION, route_prefix="/")
    yield


def _measured(case: Case, clients: int, workers: int, port: int, seconds: float) -> Row:
    url = f"http://127.0.0.1:{port}{case.path}"
    command = [sys.executable, "-m", "bench.serve_load", url, case.content_type]
    name = "Empty" if case.path == "/empty/" else "QueryWorker"
    before = _cpu_seconds(name)
    done = subprocess.run(
        [*command, str(clients), str(seconds)], input=case.body, stdout=subprocess.PIPE, check=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    if set(found["statuses"]) != {"200"}:
        raise SystemExit(f"{case.name}, {clients} clients: {found['statuses']}")
    answers = found["statuses"]["200"]
    spent = 1e6 * (_cpu_seconds(name) - before) / answers
    row = _row(case.name, clients, workers, found["latencies_ms"], found["per_s"])
    return replace(row, cpu_us=round(spent), load_us=round(1e6 * found["cpu_s"] / answers))


def _row(case: str, clients: int, workers: int, taken: list[float], per_s: float) -> Row:
    p50, p99 = np.percentile(taken, [50, 99]).round(2).tolist()
    return Row(case, clients, workers, p50, p99, round(per_s, 1))


def _replicas(name: str) -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # gone, or a zombie
            if f"ServeReplica:{name}" in " ".join(one.cmdline()):
                found.append(one)
    return found


def _cpu_seconds(deployment: str) -> float:
    times = [one.cpu_times() for one in _replicas(f"{_APPLICATIONS[deployment]}:{deployment}")]
    return sum(one.user + one.system for one in times)


def _pin() -> None:
    """Give the last core to whatever answers requests, and the others to all else."""
    *others, last = range(os.cpu_count() or 1)
    answering = {
        one.pid for name, app in _APPLICATIONS.items() for one in _replicas(f"{app}:{name}")
    }
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for thread in process.threads():
            with suppress(ProcessLookupError):
                os.sched_setaffinity(thread.id, {last} if process.pid in answering else others)


def _line(row: Row) -> str:
    return (
        f"{row.case:8} {row.workers} workers {row.clients:3} clients  p50 {row.p50_ms:7.2f} ms  "
        f"p99 {row.p99_ms:7.2f} ms  {row.per_s:8.1f}/s  {row.cpu_us:6.0f} us of a worker  "
        f"{row.load_us:4.0f} of the load"
    )


def _conclusion(rows: list[Row]) -> str:
    p50 = {row.case: row.p50_ms for row in rows if row.clients == 1 and row.workers in (0, 1)}
    said = []
    for case in ("vector", "json"):
        if {case, "empty"} <= p50.keys():
            beyond = p50[case] - p50["empty"]
            most = max(row.per_s for row in rows if row.case == case and row.workers == 1)
            said.append(
                f"By {case}: {beyond:+.2f} ms to the empty deployment (wanted: at most .5), "
                f"{most:,.0f}/s of one worker (wanted: 2,500)."
            )
    if {"image", "empty"} <= p50.keys():
        beyond = p50["image"] - p50["empty"] - 2 - 1.1 * p50["network"]
        said.append(
            f"By image: {beyond:+.2f} ms to empty + 2 + 1.1 x network, which takes "
            f"{p50['network']:.2f} ms (wanted: at most 0)."
        )
    return "\n".join(said)


if __name__ == "__main__":
    main()
