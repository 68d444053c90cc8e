"""Ten million images, whole: saved embeddings are ingested, the ingest killed twice, then searched.

Embeddings are made by spreading real ones, which makes an easy set (`bench.index_data.Spreader`),
and saved as Parquet files, as `simdist ingest --save-embeddings` saves them but in half precision.
While they are made, the exact answers to a thousand held-out queries are found. `simdist ingest`
then puts them into an embedded server, and is killed with SIGKILL when a third and two thirds are
in. Last, one process asks the queries with empty memory, and again with what it has read by then.

    python -m bench.large [--size 10000000] [--folder bench/out/large]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from bench.index_data import NEIGHBOURS, OUT, Data, Nearest, Spreader, prepare, row_of, uri
from bench.scale import VECTORS
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.store import Store, connect
from simdist.store.embedded import embedded_server

NAME = "large"
MODEL = "spread"
A_FILE = 100_000
PROBES = (16, 24, 32, 36, 40)
KILLED_AT = (1 / 3, 2 / 3)
POLL_SECONDS = 2.0


@dataclass
class Result:
    """What was measured; seconds of a processor where it says CPU."""

    size: int
    killed_at: list[int] = field(default_factory=list)
    ingest_seconds: float = 0.0
    ingest_cpu_us: float = 0.0
    server_cpu_us: float = 0.0
    ingest_peak_gb: float = 0.0
    buckets: int = 0
    redis_bytes_each: float = 0.0
    searches: list[dict[str, float]] = field(default_factory=list)


def main() -> None:
    """Print what was measured, and write it to the folder."""
    parser = argparse.ArgumentParser(description="Measure a large collection, whole.")
    parser.add_argument("--size", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, default=OUT / "large")
    options = parser.parse_args()
    data = Data.load(prepare(vectors=VECTORS, photos=None, size=None))
    saved, answers = options.folder / "saved", options.folder / f"exact-{options.size}.npy"
    if not answers.exists():
        _make(data, options.size, saved, answers)
    result = Result(options.size)
    with embedded_server(options.folder / "redis") as url, closing(connect(url)) as store:
        _ingest(saved, url, store, result)
        collection = Collection.open(store, NAME)
        status = collection.partitions[0].families.now()
        result.buckets = status.family.size
        memory = store.call("INFO", "memory")
        result.redis_bytes_each = memory["used_memory"] / options.size
        _search(collection, data, np.load(answers), result)
    print(json.dumps(asdict(result), indent=1))
    (options.folder / "result.json").write_text(json.dumps(asdict(result), indent=1))


def _make(data: Data, size: int, saved: Path, answers: Path) -> None:
    """Save so many embeddings in files, and which are nearest to each query."""
    saved.mkdir(parents=True, exist_ok=True)
    spreader, nearest = Spreader(data.vectors), Nearest(data.queries)
    for number, start in enumerate(range(0, size, A_FILE)):
        count = min(A_FILE, size - start)
        vectors, _ = spreader.more(count, np.random.default_rng(number))
        halves = vectors.astype(np.float16)
        exact = halves.astype(np.float32)
        exact /= np.linalg.norm(exact, axis=1, keepdims=True)
        for part in np.array_split(exact, max(1, count // 10_000)):
            nearest.see(data.queries @ part.T)
        columns = {
            "uri": pa.array([uri(row) for row in range(start, start + count)]),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(halves.ravel()), vectors.shape[1]),
            "model": pa.array([MODEL] * count),
        }
        pq.write_table(pa.table(columns), saved / f"{number:05d}.parquet", compression=None)
        print(f"made {start + count:,}", file=sys.stderr, flush=True)
    np.save(answers, nearest.rows())


def _ingest(saved: Path, url: str, store: Store, result: Result) -> None:
    """Ingest all, killed on the way."""
    server = psutil.Process(int(store.call("INFO", "server")["process_id"]))
    command = [sys.executable, "-m", "simdist", "ingest", str(saved), "-c", NAME, "--redis", url]
    command += ["--expect", str(result.size)]
    before, start = server.cpu_times(), time.monotonic()
    ends = [round(share * result.size) for share in KILLED_AT]
    while True:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(POLL_SECONDS)
            live = _live(store)
            if ends and live >= ends[0]:
                process.kill()
                ends.pop(0)
                result.killed_at.append(live)
                print(f"killed at {live:,}", file=sys.stderr, flush=True)
        if not process.wait():
            break
        if process.returncode > 0:
            raise SystemExit("the ingest failed")
    used, after = resource.getrusage(resource.RUSAGE_CHILDREN), server.cpu_times()
    result.ingest_seconds = time.monotonic() - start
    result.ingest_cpu_us = (used.ru_utime + used.ru_stime) * 1e6 / result.size
    server_seconds = after.user + after.system - before.user - before.system
    result.server_cpu_us = server_seconds * 1e6 / result.size
    result.ingest_peak_gb = used.ru_maxrss / 1e6
    if (live := _live(store)) != result.size:
        raise SystemExit(f"{live:,} images are there")


def _live(store: Store) -> int:
    if not store.call("EXISTS", f"simdist:{{{NAME}/0}}:meta"):
        return 0
    return len(Collection.open(store, NAME))


def _search(
    collection: Collection,
    data: Data,
    exact: np.ndarray[tuple[int, int], np.dtype[np.int32]],
    result: Result,
) -> None:
    """Ask all queries, cold and warm, with more and more probes."""
    for probes in PROBES:
        searcher = Searcher(collection, cache_memory=12 << 30, max_staleness=3600)
        searcher.search(data.vectors[0], n=NEIGHBOURS, probes=probes)
        with _timed(data.queries) as cold:
            found = [searcher.search(query, n=NEIGHBOURS, probes=probes) for query in cold]
        rows = [[row_of(hit.uri) for hit in hits] for hits in found]
        pairs = zip(rows, exact.tolist(), strict=True)
        recall = np.mean([len(set(some) & set(all_)) / len(all_) for some, all_ in pairs])
        before, cpu = searcher.rows_read, time.thread_time()
        with _timed(data.queries) as warm:
            for query in warm:
                searcher.search(query, n=NEIGHBOURS, probes=probes)
        cpu = time.thread_time() - cpu
        count = len(data.queries)
        result.searches.append(
            {
                "probes": probes,
                "recall": float(recall),
                "rows": (searcher.rows_read - before) / count,
                "cpu_ms": cpu * 1e3 / count,
                "warm_p50_ms": warm.p50_ms(),
                "cold_p50_ms": cold.p50_ms(),
            }
        )
        print(result.searches[-1], file=sys.stderr, flush=True)


class _Timed:
    """Goes through queries, and notes how long whoever takes one is busy with it."""

    def __init__(self, queries: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> None:
        self._queries = queries
        self._seconds: list[float] = []

    def __iter__(self) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float32]]]:
        for query in self._queries:
            start = time.perf_counter()
            yield query
            self._seconds.append(time.perf_counter() - start)

    def p50_ms(self) -> float:
        return float(np.median(self._seconds) * 1e3)


@contextmanager
def _timed(queries: np.ndarray[tuple[int, int], np.dtype[np.float32]]) -> Iterator[_Timed]:
    yield _Timed(queries)


if __name__ == "__main__":
    main()
