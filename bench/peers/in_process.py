"""What peers that work inside the process have in common; all are kept to one thread."""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.index_data import NEIGHBOURS, URI_BYTES, Data, Vectors, uri
from bench.index_measure import (
    Clock,
    Measured,
    MissingError,
    fit_cost,
    measure,
    note,
    own_memory,
    write,
)

# Graphs as hnswlib, FAISS and Redis have them by default; the links of a node are twice as many at
# the bottom.
LINKS = 16
BUILD_EFFORT = 200
EFFORTS = (10, 16, 24, 32, 48, 64, 100, 200)
# Vectors added at once: FAISS and hnswlib copy them.
BLOCK = 16384
OPENINGS = 5

# A query and how many results -> their rows, the best first.
Find = Callable[[Vectors, int], Any]


class InProcess:
    """An index that was built in this process, with the URIs beside it."""

    def __init__(
        self,
        name: str,
        data: Data,
        add: Callable[[], None],
        fit: Callable[[], None] = lambda: None,
        setting: str = "",
    ) -> None:
        self.name, self.data, self.clock = name, data, Clock()
        self.measured = Measured()
        count = len(data.vectors)

        def add_all() -> None:
            self.uris = np.fromiter(map(uri, range(count)), dtype=f"S{URI_BYTES}", count=count)
            add()

        self.written = write(self.clock, own_memory, count, add_all, fit)
        if self.written.fit_cpu_s > 0.01:
            self.measured.fits.append(fit_cost(name, setting, self.written))

    def measure(
        self,
        setting: str,
        find: Find,
        rows_read: Callable[[], int] | None = None,
    ) -> None:
        def search(query: Vectors, n: int) -> list[bytes]:
            found: list[bytes] = self.uris[find(query, n)].tolist()
            return found

        self.measured.rows.append(
            measure(
                self.name,
                setting,
                self.data,
                self.written,
                search,
                clock=self.clock,
                rows_read=rows_read,
            )
        )

    def measure_opening(
        self, setting: str, save: Callable[[str], Any], load: Callable[[str], Find]
    ) -> None:
        """Median wait, in ms, for the first answer of an index that lies on disk.

        Its files are still in the system's cache, and the code has run before.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "index")
            save(path)
            waits = []
            for query in self.data.queries[:OPENINGS]:
                asked = time.perf_counter_ns()
                find = load(path)
                find(query, NEIGHBOURS)
                waits.append(time.perf_counter_ns() - asked)
        opened = round(float(np.median(waits)) / 1e6, 3)
        self.measured.extra["open_ms"] = {f"{self.name}, {setting}": opened}
        note(f"{self.name}, {setting}: {opened:.1f} ms from disk to the first answer")


def library(name: str, remedy: str = "pip install -e '.[bench]'") -> Any:
    """A peer's module, if it is installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingError(f"{name} is not installed: {remedy}") from error
