"""hnswlib, FAISS, exact search."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.index_data import Data, Vectors
from bench.index_measure import Measured
from bench.peers.in_process import BLOCK, BUILD_EFFORT, EFFORTS, LINKS, Find, InProcess, library

CELLS_READ = (1, 2, 4, 8, 16, 32, 64)
BITS = (512, 2048, 4096)
# Of those that look at every row or its code.
SCAN_QUERIES = 200


def hnswlib(data: Data) -> Measured:
    """hnswlib's graph."""
    hnsw = library("hnswlib")
    count, dim = data.vectors.shape
    index = hnsw.Index(space="ip", dim=dim)

    def add() -> None:
        index.init_index(max_elements=count, M=LINKS, ef_construction=BUILD_EFFORT)
        for start in range(0, count, BLOCK):
            part = np.arange(start, min(start + BLOCK, count))
            index.add_items(data.vectors[part], part, num_threads=1)

    def find(query: Vectors, n: int) -> Any:
        return index.knn_query(query, k=n, num_threads=1)[0][0]

    system = InProcess("hnswlib", data, add)
    for effort in EFFORTS:
        index.set_ef(effort)
        system.measure(f"M {LINKS}, ef {effort}", find)

    def load(path: str) -> Find:
        opened = hnsw.Index(space="ip", dim=dim)
        opened.load_index(path)
        return lambda query, n: opened.knn_query(query, k=n, num_threads=1)[0][0]

    system.measure_opening(f"M {LINKS}", index.save_index, load)
    return system.measured


def faiss_hnsw(data: Data) -> Measured:
    """FAISS's graph."""
    faiss = _faiss()
    index = faiss.IndexHNSWFlat(data.vectors.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = BUILD_EFFORT
    system = InProcess("faiss-hnsw", data, _adder(index, data))
    for effort in EFFORTS:
        index.hnsw.efSearch = effort
        system.measure(
            f"M {LINKS}, ef {effort}", _finder(index), lambda: int(faiss.cvar.hnsw_stats.ndis)
        )
    _measure_opening(system, f"M {LINKS}", faiss, index)
    return system.measured


def faiss_ivf(data: Data) -> Measured:
    """FAISS's inverted lists of whole vectors; four times the root of the rows, as it advises."""
    faiss = _faiss()
    count, dim = data.vectors.shape
    cells = int(4 * count**0.5)
    coarse = faiss.IndexFlatIP(dim)
    index = faiss.IndexIVFFlat(coarse, dim, cells, faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).permutation(count)[: 50 * cells]
    setting = f"{cells} lists"

    def train() -> None:
        index.train(data.vectors[sample])

    system = InProcess("faiss-ivf", data, _adder(index, data), train, setting)
    for probes in (probes for probes in CELLS_READ if probes <= cells):
        index.nprobe = probes
        system.measure(
            f"{setting}, {probes} read",
            _finder(index),
            lambda: int(faiss.cvar.indexIVF_stats.ndis),
        )
    _measure_opening(system, setting, faiss, index)
    return system.measured


def faiss_lsh(data: Data) -> Measured:
    """FAISS's random hyperplanes: one code a vector, all of them compared with the query's."""
    faiss = _faiss()
    data = data.ask(SCAN_QUERIES)
    measured = Measured()
    kept = []
    for bits in BITS:
        # Random projections, of which there may be more than features.
        index = faiss.IndexLSH(data.vectors.shape[1], bits, True)
        # Kept, or the next would be measured in the memory that it left.
        kept.append(system := InProcess("faiss-lsh", data, _adder(index, data)))
        system.measure(f"{bits} bits", _finder(index))
        measured.rows += system.measured.rows
    measured.notes.append(
        f"faiss-lsh compares the codes of all rows, and was asked {SCAN_QUERIES} queries"
    )
    return measured


def exact(data: Data) -> Measured:
    """Every vector compared with the query."""
    faiss = _faiss()
    index = faiss.IndexFlatIP(data.vectors.shape[1])
    system = InProcess("exact", data.ask(SCAN_QUERIES), _adder(index, data))
    reads = 0

    def find(query: Vectors, n: int) -> Any:
        nonlocal reads
        reads += index.ntotal
        return _finder(index)(query, n)

    system.measure("all rows", find, lambda: reads)
    system.measured.notes.append(f"exact was asked {SCAN_QUERIES} queries")
    return system.measured


def _finder(index: Any) -> Find:
    def find(query: Vectors, n: int) -> Any:
        rows = index.search(query[None], n)[1][0]
        # -1: there were fewer.
        return rows[rows >= 0]

    return find


def _adder(index: Any, data: Data) -> Callable[[], None]:
    def add() -> None:
        for start in range(0, len(data.vectors), BLOCK):
            index.add(data.vectors[start : start + BLOCK])

    return add


def _measure_opening(system: InProcess, setting: str, faiss: Any, index: Any) -> None:
    system.measure_opening(
        setting,
        lambda path: faiss.write_index(index, path),
        lambda path: _finder(faiss.read_index(path)),
    )


def _faiss() -> Any:
    faiss = library("faiss")
    faiss.omp_set_num_threads(1)
    # The memory that its BLAS takes at its first great product and keeps is no index's.
    faiss.IndexLSH(512, 512, True).add(np.ones((BLOCK, 512), np.float32))
    return faiss
