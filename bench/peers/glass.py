"""Zilliz's Glass: a graph over vectors of 8 bits a feature."""

from __future__ import annotations

import os
import sys
from typing import Any

from bench.index_data import Data, Vectors
from bench.index_measure import Measured
from bench.peers.in_process import BUILD_EFFORT, EFFORTS, LINKS, Find, InProcess, library

# Built and searched by it; by unit vectors' distance, since products of it find nothing.
CODE, METRIC = "SQ8U", "L2"
REFINED = "FP16"


def glass(data: Data) -> Measured:
    """HNSW over 8 bits a feature, and the best ranked by 16."""
    module = library("glass", "docs/peers.md says why, and what has it")
    # It tells of its progress on the standard output.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module.set_num_threads(1)
    graph: Any = None
    searcher: Any = None

    def searching(graph: Any) -> Any:
        return module.Searcher(graph, data.vectors, METRIC, CODE, REFINED)

    def add() -> None:
        nonlocal graph, searcher
        graph = module.Index("HNSW", METRIC, quant=CODE, R=2 * LINKS, L=BUILD_EFFORT).build(
            data.vectors
        )
        searcher = searching(graph)

    def finder(opened: Any, effort: int) -> Find:
        def find(query: Vectors, n: int) -> Any:
            opened.set_ef(max(effort, n))
            return opened.search(query, n)[0]

        return find

    system = InProcess("glass", data, add)
    for effort in EFFORTS:
        system.measure(f"{CODE} + {REFINED}, ef {effort}", finder(searcher, effort))
    return system.measured
