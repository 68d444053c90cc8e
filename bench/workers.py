"""Do answers grow with the query workers? One to eight, each on a small machine, in one run.

The machines are CPU quotas: each worker gets `--share` of a core, by a control group of its own, so
that eight of them fit on two cores beside HAProxy, Redis and the clients, which have no quota. What
a worker does for an answer is all real: HTTP, the search, JSON. By vector, over a collection of
vectors around random centres.

    python -m bench.workers [--share .05] [--seconds 20] [--images 20000]
        [--workers 1 8]

Needs root. Writes bench/out/workers.json: for each number of workers the answers a second, how many
there are to those of the first number, in proportion, latencies, how much of their quotas the
workers used, and what an answer took of the workers, HAProxy and the load generator, in µs of a
core; and what Redis was asked, and its share of a core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from bench.serve import _replicas
from cluster.runtime import ray_session
from cluster.service.config import APPLICATION, ServiceConfig
from cluster.service.ray_serve import haproxy_for_serve
from simdist.embedding import load_model
from simdist.index.collection import Collection
from simdist.settings import Settings
from simdist.sources import ImageRef
from simdist.store import Store, connect
from simdist.store.embedded import embedded_server
from tests.servers import free_port

OUT = Path(__file__).parent / "out" / "workers.json"
WORKERS = (1, 2, 4, 8)
# Clients of each worker: so that it never waits for one.
CLIENTS = 8
# Of a quota; a worker is stopped until the next when its share of one is used up.
PERIOD_US = 20_000
# Version 1 of control groups, and version 2.
GROUPS = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup"))
MODEL = "efficientnet-lite0"
CENTRES, BATCH = 2_000, 10_000


@dataclass(frozen=True)
class Row:
    """One line of the result."""

    workers: int
    per_s: float
    of_linear: float
    p50_ms: float
    p99_ms: float
    quota_used: float
    worker_us: int
    haproxy_us: int
    load_us: int
    redis_calls_per_s: float
    redis_core: float


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one to eight query workers.")
    parser.add_argument("--share", type=float, default=0.05, help="of a core, for each worker")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name, embedded_server(Path(name) / "data") as url:
        store = connect(url)
        body = _index(store, options.images)
        with haproxy_for_serve(seconds=10), ray_session(Settings.resolve(redis_url=url), cpus=16):
            port = free_port()
            for workers in options.workers:
                _serve(
                    ServiceConfig(url, model=MODEL, workers=(workers, workers), loopback=True), port
                )
                with _small_machines(options.share):
                    # The first answers are of cold workers.
                    _load(port, body, CLIENTS * workers, 5.0)
                    one = rows[0].per_s / rows[0].workers if rows else 0.0
                    rows.append(
                        _measured(store, port, body, workers=workers, options=options, one=one)
                    )
                    print(asdict(rows[-1]), flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"written to {OUT}")


def _index(store: Store, images: int) -> bytes:
    """Index so many vectors; returns one to search by."""
    model = load_model(MODEL)
    collection = Collection.ensure(store, "images", model=model)
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((CENTRES, model.dim), dtype=np.float32)
    for start in range(0, images, BATCH):
        numbers = range(start, min(images, start + BATCH))
        vectors = generator.standard_normal((len(numbers), model.dim), dtype=np.float32)
        vectors += centres[generator.integers(CENTRES, size=len(numbers))]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        collection.add(
            vectors, [ImageRef(f"file:///{one}.jpg", str(one), 1, None) for one in numbers]
        )
    body: bytes = (centres[0] / np.linalg.norm(centres[0])).astype("<f4").tobytes()
    return body


def _serve(config: ServiceConfig, port: int) -> None:
    """Start the service, or let it have other workers."""
    from ray import serve

    from cluster.service.app import application

    serve.start(http_options={"host": "127.0.0.1", "port": port})
    serve.run(application(config), name=APPLICATION, route_prefix="/")


@contextmanager
def _small_machines(share: float) -> Iterator[None]:
    """Each query worker has such a share of a core, and no more; whatever else runs, it has that.

    So have HAProxy, and the clients, which this process starts, what they need.
    """
    root = next(group for group in GROUPS if (group / "cgroup.procs").exists())
    made = [_group(root, "clients", [psutil.Process(), *_haproxy()])]
    for number, worker in enumerate(_workers()):
        made.append(_group(root, f"worker-{number}", [worker]))
        quota = round(share * PERIOD_US)
        if root == GROUPS[0]:
            (made[-1] / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (made[-1] / "cpu.cfs_quota_us").write_text(str(quota))
        else:
            (made[-1] / "cpu.max").write_text(f"{quota} {PERIOD_US}")
    try:
        yield
    finally:
        for group in made:
            for pid in (group / "cgroup.procs").read_text().split():
                (root / "cgroup.procs").write_text(pid)
            group.rmdir()


def _group(root: Path, name: str, processes: Sequence[psutil.Process]) -> Path:
    """A control group of processes that come before those which are in none."""
    group = root / f"simdist-{name}"
    group.mkdir()
    first, weight = ("cpu.shares", 16_384) if root == GROUPS[0] else ("cpu.weight", 1_600)
    (group / first).write_text(str(weight))
    for process in processes:
        (group / "cgroup.procs").write_text(str(process.pid))
    return group


def _measured(
    store: Store, port: int, body: bytes, *, workers: int, options: argparse.Namespace, one: float
) -> Row:
    """One line of the result; `one` is what one worker answers, 0.0 where this is to find it."""
    before, redis = [_cpu_seconds(_workers()), _cpu_seconds(_haproxy())], _asked(store)
    found = _load(port, body, CLIENTS * workers, options.seconds)
    answers = found["statuses"]["200"]
    seconds = answers / found["per_s"]
    worker, haproxy = (
        now - then
        for now, then in zip(
            [_cpu_seconds(_workers()), _cpu_seconds(_haproxy())], before, strict=True
        )
    )
    calls, core = (now - then for now, then in zip(_asked(store), redis, strict=True))
    p50, p99 = np.percentile(found["latencies_ms"], [50, 99]).round(1).tolist()
    return Row(
        workers,
        round(found["per_s"], 1),
        round(found["per_s"] / (one or found["per_s"] / workers) / workers, 3),
        p50,
        p99,
        quota_used=round(worker / seconds / workers / options.share, 2),
        worker_us=round(1e6 * worker / answers),
        haproxy_us=round(1e6 * haproxy / answers),
        load_us=round(1e6 * found["cpu_s"] / answers),
        redis_calls_per_s=round(calls / seconds, 1),
        redis_core=round(core / seconds, 4),
    )


def _load(port: int, body: bytes, clients: int, seconds: float) -> dict[str, Any]:
    url, kind = f"http://127.0.0.1:{port}/v1/search", "application/octet-stream"
    command = [sys.executable, "-m", "bench.serve_load", url, kind, str(clients), str(seconds)]
    done = subprocess.run(command, input=body, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    if set(found["statuses"]) != {"200"}:
        raise SystemExit(f"{clients} clients: {found['statuses']}")
    return found


def _workers() -> list[psutil.Process]:
    return _replicas(f"{APPLICATION}:QueryWorker")


def _haproxy() -> list[psutil.Process]:
    found = []
    for one in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if one.name() == "haproxy":
                found.append(one)
    return found


def _cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    times = [one.cpu_times() for one in processes]
    return sum(one.user + one.system for one in times)


def _asked(store: Store) -> tuple[float, float]:
    """Commands that Redis has had, those of this measurement too, and its seconds of a core."""
    info = store.call("INFO")
    return (
        float(info["total_commands_processed"]),
        float(info["used_cpu_user"]) + float(info["used_cpu_sys"]),
    )


if __name__ == "__main__":
    main()
