"""What a collection takes, and how fast it answers, with its vectors in Redis and in files.

The same images four times: whole in Redis, and with 4, 2 and 1 bits of each value (`simdist
offload`). Recall is against exact search. A worker is a process of its own that has read nearly
every bucket, some at a time, as queries have it do; its memory is what it has more by then than
with a small collection, its hash family included, for each image that it has. Cold is the first 100
queries of a new worker, files in the page cache. Times are of one thread's processor, but where it
says p50.

    python -m bench.offload [--size 1000000] [--queries 1000] [--probes 32]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.index_data import NEIGHBOURS, Data, prepare, row_of, uri
from bench.index_measure import own_memory
from bench.scale import VECTORS
from simdist.index.collection import Collection
from simdist.index.offloading import bring_back, offload
from simdist.search import partition_searcher
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import Store, connect
from simdist.store.embedded import embedded_server

BATCH = 32_768
COLD = 100
NAME, SMALL = "offload", "small"
# Images of the small one; and how a worker comes to have most: so many queries, of so many buckets.
FEW = 1000
FILLING, WIDE = 1000, 128


def main() -> None:
    """Print a row for each form."""
    parser = argparse.ArgumentParser(description="Measure what is kept where.")
    parser.add_argument("--size", type=int)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--probes", type=int, default=32)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(_worker(*options.worker))
        return
    data = Data.load(prepare(vectors=VECTORS, photos=None, size=options.size)).ask(options.queries)
    count = len(data.vectors)
    print(f"{count:,} images of {data.vectors.shape[1]} features, {options.probes} probes\n")
    print(
        "| bits in Redis | bytes an image | of them vectors | a worker's | moved/s | recall "
        "| CPU ms | p50 ms | cold p50 ms |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with (
        threadpool_limits(1),
        # The server may still be writing its file anew when it is ended.
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        embedded_server(Path(folder) / "redis") as url,
        closing(connect(url)) as store,
    ):
        small = _collection(store, SMALL, data.vectors[:FEW])
        made = _collection(store, NAME, data.vectors)
        asked = Path(folder) / "queries.npy"
        np.save(asked, data.queries[:FILLING])
        for bits in (8, 4, 2, 1):
            rate = ""
            if bits < 8:
                offload(small, str(Path(folder) / "files"), bits=bits)
                started = time.perf_counter()
                moved = offload(made, str(Path(folder) / "files"), bits=bits)
                rate = f"{moved / (time.perf_counter() - started):,.0f}"
            print(
                f"| {bits} | {_memory(store, count)} | {_worker_memory(url, asked):,.0f} | {rate} "
                f"| {_asked(made, data, options.probes)} |",
                flush=True,
            )
            if bits < 8:
                bring_back(made)
                bring_back(small)


def _collection(store: Store, name: str, vectors: NDArray[np.float32]) -> Collection:
    count, dim = vectors.shape
    made = Collection.create(store, name, model="m", model_id="m", dim=dim, expect=count)
    for start in range(0, count, BATCH):
        rows = range(start, min(start + BATCH, count))
        refs = [ImageRef(uri(row), "f", 1, None) for row in rows]
        made.add(vectors[rows.start : rows.stop], refs)
    made.settle()
    return made


def _memory(store: Store, count: int) -> str:
    """Bytes of all keys for each image, and of those that hold vectors or codes."""
    total = vectors = 0
    keys = list(store.scan(f"simdist:{{{NAME}/*"))
    for start in range(0, len(keys), 1000):
        some = keys[start : start + 1000]
        sizes = store.call_many([("MEMORY", "USAGE", key, "SAMPLES", 100) for key in some])
        total += sum(sizes)
        vectors += sum(n for key, n in zip(some, sizes, strict=True) if b":vectors:" in key)
    return f"{total / count:,.0f} | {vectors / count:,.0f}"


def _worker_memory(url: str, queries: Path) -> float:
    """What a worker takes for each image that it has, asked these."""
    command = [sys.executable, "-m", "bench.offload", "--worker", url, str(queries)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _worker(url: str, asked: str) -> float:
    # What it keeps of the images that it has found is bounded, and has nothing to do with how many
    # there are.
    partition_searcher._RECORDS_SHARE = partition_searcher._VECTORS_SHARE = 1 << 40
    with closing(connect(url)) as store:
        opened = Collection.open(store, SMALL), Collection.open(store, NAME)
        queries = np.load(asked)
        used, searchers = [], []
        for collection in opened:
            before = own_memory()
            searcher = Searcher(collection, cache_memory=16 << 30, max_staleness=3600)
            for query in queries:
                # One: those that are found are read and kept, too.
                searcher.search(query, n=1, probes=WIDE)
            used.append(own_memory() - before)
            searchers.append(searcher)
        [part] = searchers[1]._partitions
        assert part._cache is not None
        return float(used[1] / part._cache.kept.table["size"].sum())


def _asked(made: Collection, data: Data, probes: int) -> str:
    """Recall, and what a query takes: once all was asked before, and of a new worker."""
    searcher = Searcher(made, cache_memory=8 << 30, max_staleness=3600)
    found: list[list[int]] = []
    cold: list[float] = []
    for query in data.queries:
        started = time.perf_counter()
        hits = searcher.search(query, n=NEIGHBOURS, probes=probes)
        cold.append(time.perf_counter() - started)
        found.append([row_of(hit.uri) for hit in hits])
    took: list[float] = []
    before = time.thread_time()
    for query in data.queries:
        started = time.perf_counter()
        searcher.search(query, n=NEIGHBOURS, probes=probes)
        took.append(time.perf_counter() - started)
    cpu = (time.thread_time() - before) / len(data.queries)
    warm, first = float(np.median(took)), float(np.median(cold[:COLD]))
    recall = _recall(found, data.nearest)
    return f"{recall:.3f} | {1e3 * cpu:.3f} | {1e3 * warm:.3f} | {1e3 * first:.2f}"


def _recall(found: list[list[int]], nearest: NDArray[np.int32]) -> float:
    pairs = zip(found, nearest.tolist(), strict=True)
    return float(np.mean([len(set(rows) & set(best)) / len(best) for rows, best in pairs]))


if __name__ == "__main__":
    main()
