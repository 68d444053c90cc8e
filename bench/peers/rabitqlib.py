"""RaBitQ's library: inverted lists of its codes, and its graph with the neighbours' codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.index_data import Data, Vectors
from bench.index_measure import Measured
from bench.peers.in_process import BLOCK, BUILD_EFFORT, EFFORTS, LINKS, Find, InProcess, library

# A bit to estimate by, and four to rank by; no whole vectors.
BITS = 5
CELLS_READ = (2, 4, 8, 16, 32, 64, 128)


def rabitqlib_ivf(data: Data) -> Measured:
    """Four times the root of the rows as lists, as FAISS has them here."""
    module = library("rabitqlib")
    count, dim = data.vectors.shape
    cells = int(4 * count**0.5)
    index = module.IvfIndex(dim, count, cells, BITS, "ip")
    clusters = module.RaBitQKMeans(dim, cells, num_threads=1)
    # The memory that numpy's BLAS takes at its first great product and keeps is no index's.
    _nearest(data.vectors[:BLOCK], data.vectors[:cells])
    sample = np.sort(np.random.default_rng(0).permutation(count)[: 50 * cells])

    def fit() -> None:
        clusters.train(data.vectors[sample])

    def add() -> None:
        homes = _nearest(data.vectors, clusters.centroids)
        index.build(data.vectors, clusters.centroids, homes, 1, fast_quantization=True)

    def finder(opened: Any, probes: int) -> Find:
        def find(query: Vectors, n: int) -> Any:
            rows = opened.search(query[None], n, probes)[0][0]
            # The greatest number: there were fewer.
            return rows[rows < count]

        return find

    setting = f"{cells} lists, 1+{BITS - 1} bits"
    system = InProcess("rabitqlib-ivf", data, add, fit, setting)
    for probes in (probes for probes in CELLS_READ if probes <= cells):
        system.measure(f"{setting}, {probes} read", finder(index, probes))
    system.measure_opening(
        setting, index.save, lambda path: finder(module.IvfIndex.load(path), CELLS_READ[0])
    )
    return system.measured


def symphonyqg(data: Data) -> Measured:
    """The graph, with whole vectors to rank by."""
    module = library("rabitqlib")
    index = module.SymqgIndex(data.vectors.shape[1], 2 * LINKS, "ip")

    def finder(opened: Any, effort: int) -> Find:
        def find(query: Vectors, n: int) -> Any:
            return opened.search(query[None], n, max(effort, n))[0][0]

        return find

    system = InProcess("symphonyqg", data, lambda: index.build(data.vectors, BUILD_EFFORT, 1))
    for effort in EFFORTS:
        system.measure(f"{2 * LINKS} links, ef {effort}", finder(index, effort))
    system.measure_opening(
        f"{2 * LINKS} links",
        index.save,
        lambda path: finder(module.SymqgIndex.load(path), EFFORTS[0]),
    )
    return system.measured


def _nearest(vectors: Vectors, centroids: Vectors) -> NDArray[np.uint32]:
    halves = (centroids**2).sum(axis=1) / 2
    homes = np.empty(len(vectors), np.uint32)
    for start in range(0, len(vectors), BLOCK):
        part = slice(start, start + BLOCK)
        homes[part] = (vectors[part] @ centroids.T - halves).argmax(axis=1)
    return homes
