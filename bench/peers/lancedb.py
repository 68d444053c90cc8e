"""LanceDB in a local folder: a graph over vectors of 8 bits a feature, in Lance's files."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.index_data import NEIGHBOURS, Data, Vectors, uri
from bench.index_measure import Clock, Measured, Search, measure, note, write
from bench.peers.in_process import BUILD_EFFORT, LINKS, library

TABLE = "images"
# As many rows are one graph.
PARTITION = 2**20
# Its effort, and how many times the results are ranked by the whole vectors, which lie in the
# files; 0 for none.
SETTINGS = ((10, 0), (16, 0), (32, 0), (20, 2), (32, 2), (64, 5))
# Cold queries are asked so.
USUAL = (10, 0)
COLD_QUERIES, COLD_ROUNDS = 100, 3
# A query takes milliseconds.
QUERIES = 200


def lancedb(data: Data) -> Measured:
    """IVF_HNSW_SQ, with the URIs in the table; all of its threads on one core."""
    # It has more threads than its variables tell of, and hangs with one of each.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    module, configs, arrow = library("lancedb"), library("lancedb.index"), library("pyarrow")
    count, dim = data.vectors.shape
    partitions = max(1, count // PARTITION)
    with tempfile.TemporaryDirectory() as folder:

        def add() -> None:
            vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(data.vectors.ravel()), dim)
            uris = [uri(row) for row in range(count)]
            rows = arrow.table({"uri": uris, "vector": vectors})
            config = configs.HnswSq(
                distance_type="dot",
                num_partitions=partitions,
                m=LINKS,
                ef_construction=BUILD_EFFORT,
            )
            module.connect(folder).create_table(TABLE, rows).create_index("vector", config=config)

        clock = Clock()
        written = write(clock, lambda: _size(folder), count, add)
        measured = Measured(
            notes=[f"lancedb was asked {QUERIES} queries; its bytes are those of its folder"]
        )
        table = module.connect(folder).open_table(TABLE)
        for effort, refined in SETTINGS:
            row = measure(
                "lancedb",
                f"SQ, ef {effort}" + (f", refine {refined}" if refined else ""),
                data.ask(QUERIES),
                written,
                _search(table, effort, refined),
                clock=clock,
            )
            measured.rows.append(row)
        first, median = _cold(module, folder, data)
        name = f"lancedb, SQ, ef {USUAL[0]}"
        note(f"cold: the first answer {first:.1f} ms, p50 of {COLD_QUERIES} {median:.2f} ms")
        measured.extra = {"open_ms": {name: first}, "cold_p50_ms": {name: median}}
    return measured


def _search(table: Any, effort: int, refined: int) -> Search:
    def search(query: Vectors, n: int) -> list[str]:
        question = table.search(query, vector_column_name="vector", query_type="vector")
        question = question.distance_type("dot").limit(n).ef(max(effort, n * max(1, refined)))
        if refined:
            question = question.refine_factor(refined)
        found: list[str] = question.select(["uri", "_distance"]).to_arrow()["uri"].to_pylist()
        return found

    return search


def _cold(module: Any, folder: str, data: Data) -> tuple[float, float]:
    """What new connections wait for their first answer, and in the median of the first hundred.

    In ms, the median of some rounds; the files are still in the system's cache.
    """
    firsts, medians = [], []
    for part in range(COLD_ROUNDS):
        waits = []
        asked = time.perf_counter_ns()
        search = _search(module.connect(folder).open_table(TABLE), *USUAL)
        for query in data.queries[part * COLD_QUERIES :][:COLD_QUERIES]:
            search(query, NEIGHBOURS)
            waits.append(time.perf_counter_ns() - asked)
            asked = time.perf_counter_ns()
        firsts.append(waits[0] / 1e6)
        medians.append(float(np.median(waits)) / 1e6)
    return round(float(np.median(firsts)), 3), round(float(np.median(medians)), 3)


def _size(folder: str) -> int:
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
