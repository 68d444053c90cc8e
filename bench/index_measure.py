"""How `bench.index` measures: CPU time, memory, recall and waiting time, for every system alike."""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil

from bench.index_data import NEIGHBOURS, Data, Vectors, row_of

# Of used CPU time: ten times a hundred clock ticks, in which psutil counts a server's.
CPU_SECONDS = 1.0
MOST_PASSES = 50

# A query and how many results -> their URIs, the best first.
Search = Callable[[Vectors, int], Sequence[str] | Sequence[bytes]]


class MissingError(Exception):
    """A system cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Row:
    """One line of the result: a system at a setting.

    Attributes:
        recall_at_10: share of the exact ten nearest among the ten results.
        recall_at_10_other_sources: the same with the rows of the query's own photograph left
            out of both. The system is asked for ten results and as many as there are such rows,
            so that ten are left; a system that then tries harder (a graph) gains by it.
        rows_read: share of the rows whose vectors were looked at; None where unknown.
        search_cpu_ms: CPU time a query, client and server, one query at a time.
        search_p50_ms: time that half of the queries waited at most.
        write_per_cpu_s: vectors a CPU second, client and server, hashing and quantising included,
            fitting (`Fit`) not where it is apart.
        bytes_per_vector: growth of the server's or the process's memory (of LanceDB: its folder),
            URIs of 60 bytes included.
    """

    system: str
    setting: str
    recall_at_10: float
    recall_at_10_other_sources: float
    rows_read: float | None
    search_cpu_ms: float
    search_p50_ms: float
    search_p99_ms: float
    write_per_cpu_s: float
    bytes_per_vector: float


@dataclass(frozen=True)
class Fit:
    """What a system learns before it can take vectors costs, once."""

    system: str
    setting: str
    fit_cpu_s: float
    write_with_fit_per_cpu_s: float


@dataclass
class Measured:
    """All that one system's process reports.

    Attributes:
        extra: further entries of the JSON file's top level, by key and setting.
    """

    rows: list[Row] = field(default_factory=list)
    fits: list[Fit] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: dict[str, dict[str, Any]] = field(default_factory=dict)


class Clock:
    """CPU time of this process and of the servers that work for it."""

    def __init__(self, *servers: int) -> None:
        self._servers = [psutil.Process(pid) for pid in servers]

    def seconds(self) -> float:
        """User and system time so far; the servers' in ticks of 10 ms."""
        times = [server.cpu_times() for server in self._servers]
        return time.process_time() + sum(t.user + t.system for t in times)


@dataclass(frozen=True)
class Written:
    """What it took to write the vectors."""

    vectors: int
    cpu_s: float
    fit_cpu_s: float
    memory: int


def own_memory() -> int:
    """Bytes that this process alone holds: resident, without mapped files."""
    libc = ctypes.CDLL(None)
    # glibc keeps what was freed, and would count it or hide what is allocated in it.
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


def write(
    clock: Clock,
    memory: Callable[[], int],
    vectors: int,
    add: Callable[[], None],
    fit: Callable[[], None] = lambda: None,
) -> Written:
    """Fit and add, measured."""
    memory_before, start = memory(), clock.seconds()
    fit()
    fitted = clock.seconds()
    add()
    done = clock.seconds()
    return Written(vectors, done - fitted, fitted - start, memory() - memory_before)


def measure(
    system: str,
    setting: str,
    data: Data,
    written: Written,
    search: Search,
    *,
    clock: Clock,
    rows_read: Callable[[], int] | None = None,
) -> Row:
    """One row: every query asked twice or more, in one pass after the other, one at a time.

    The first pass asks for more results, to count without the query's own photograph, and warms
    whatever there is to warm. The following ones are timed.

    Args:
        rows_read: a running count of the rows whose vectors were looked at.
    """
    others = [
        _without(search(query, NEIGHBOURS + int(own)), data, source)
        for query, own, source in zip(data.queries, data.own, data.query_sources, strict=True)
    ]
    read_before = rows_read() if rows_read else 0
    waits: list[int] = []
    found: list[Sequence[str] | Sequence[bytes]] = []
    passes, start, cpu = 0, clock.seconds(), 0.0
    while not passes or (cpu < CPU_SECONDS and passes < MOST_PASSES):
        found.clear()
        for query in data.queries:
            asked = time.perf_counter_ns()
            found.append(search(query, NEIGHBOURS))
            waits.append(time.perf_counter_ns() - asked)
        passes, cpu = passes + 1, clock.seconds() - start
    read = (rows_read() - read_before) / len(waits) / len(data.vectors) if rows_read else None
    row = Row(
        system=system,
        setting=setting,
        recall_at_10=_recall([[row_of(u) for u in uris] for uris in found], data.nearest),
        recall_at_10_other_sources=_recall(others, data.nearest_others),
        rows_read=None if read is None else round(read, 6),
        search_cpu_ms=round(cpu / len(waits) * 1e3, 5),
        search_p50_ms=round(float(np.percentile(waits, 50)) / 1e6, 5),
        search_p99_ms=round(float(np.percentile(waits, 99)) / 1e6, 5),
        write_per_cpu_s=round(written.vectors / written.cpu_s, 2),
        bytes_per_vector=round(written.memory / written.vectors, 1),
    )
    note(
        f"{system}, {setting}: recall {row.recall_at_10:.3f}, {row.search_cpu_ms:.3f} ms of CPU, "
        f"p50 {row.search_p50_ms:.3f} ms"
    )
    return row


def fit_cost(system: str, setting: str, written: Written) -> Fit:
    """What fitting cost, apart and as part of the writing."""
    rate = written.vectors / (written.cpu_s + written.fit_cpu_s)
    return Fit(system, setting, round(written.fit_cpu_s, 3), round(rate, 2))


def note(text: str) -> None:
    """A line of progress."""
    print(f"  {text}", file=sys.stderr, flush=True)


def _without(uris: Sequence[str] | Sequence[bytes], data: Data, source: np.int32) -> list[int]:
    rows = [row_of(address) for address in uris]
    return [row for row in rows if data.sources[row] != source][:NEIGHBOURS]


def _recall(found: Sequence[Sequence[int]], exact: np.ndarray[Any, Any]) -> float:
    shared = sum(
        len(set(rows) & set(truth)) for rows, truth in zip(found, exact.tolist(), strict=True)
    )
    return round(shared / exact.size, 5)
