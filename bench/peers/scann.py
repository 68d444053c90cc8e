"""Google's ScaNN: inverted lists of 4-bit product codes, and the best ranked exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.index_data import Data, Vectors
from bench.index_measure import Measured
from bench.peers.in_process import Find, InProcess, library

LISTS_READ = (4, 8, 12, 16, 24, 32, 64)
# As its authors advise: two features a code, this threshold, lists as many as the root of the rows.
CODED, THRESHOLD = 2, 0.2
REFINED = 100


def scann(data: Data) -> Measured:
    """It fits and adds in one call, so that its writing includes the fit."""
    module = library("scann").scann_ops_pybind
    count = len(data.vectors)
    lists = round(count**0.5)
    index: Any = None

    def add() -> None:
        nonlocal index
        builder = module.builder(data.vectors, 10, "dot_product").set_n_training_threads(1)
        builder = builder.tree(num_leaves=lists, num_leaves_to_search=1)
        builder = builder.score_ah(CODED, anisotropic_quantization_threshold=THRESHOLD)
        index = builder.reorder(REFINED).build()

    def finder(searcher: Any, read: int) -> Find:
        def find(query: Vectors, n: int) -> Any:
            return searcher.search(query, n, leaves_to_search=read)[0]

        return find

    def save(path: str) -> None:
        Path(path).mkdir()
        index.serialize(path)

    system = InProcess("scann", data, add)
    for read in LISTS_READ:
        system.measure(f"{lists} lists, {read} read", finder(index, read))
    system.measure_opening(
        f"{lists} lists", save, lambda path: finder(module.load_searcher(path), LISTS_READ[0])
    )
    system.measured.notes.append("scann's writing includes its fit")
    return system.measured
