"""USearch's graph."""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.index_data import Data, Vectors
from bench.index_measure import Measured
from bench.peers.in_process import BLOCK, BUILD_EFFORT, EFFORTS, LINKS, Find, InProcess, library

# What it keeps a feature as: its default, and its smallest that is no bit.
KINDS = ("bf16", "i8")


def usearch(data: Data) -> Measured:
    """Once for each kind of number."""
    module = library("usearch.index")
    measured = Measured()
    kept = []
    for kind in KINDS:
        # Kept, or the next would be measured in the memory that it left.
        kept.append(system := _measure(module, data, kind))
        measured.rows += system.measured.rows
        measured.extra.setdefault("open_ms", {}).update(system.measured.extra["open_ms"])
    return measured


def _measure(module: Any, data: Data, kind: str) -> InProcess:
    count, dim = data.vectors.shape
    index = module.Index(
        ndim=dim, metric="ip", dtype=kind, connectivity=LINKS, expansion_add=BUILD_EFFORT
    )

    def add() -> None:
        for start in range(0, count, BLOCK):
            part = np.arange(start, min(start + BLOCK, count))
            index.add(part, data.vectors[part], threads=1)

    def finder(opened: Any) -> Find:
        def find(query: Vectors, n: int) -> Any:
            return opened.search(query, n, threads=1).keys

        return find

    system = InProcess("usearch", data, add)
    for effort in EFFORTS:
        index.expansion_search = effort
        system.measure(f"{kind}, M {LINKS}, ef {effort}", finder(index))

    def load(path: str) -> Find:
        opened = module.Index.restore(path)
        opened.expansion_search = EFFORTS[0]
        return finder(opened)

    system.measure_opening(f"{kind}, M {LINKS}", index.save, load)
    return system
