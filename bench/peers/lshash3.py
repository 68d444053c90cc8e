"""lshash3, in its own environment, on Debian's Redis."""

from __future__ import annotations

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.index_data import Data, Vectors
from bench.index_measure import Clock, Measured, MissingError, measure, write
from bench.index_servers import run_server

PYTHON = Path(".venv-lshash3/bin/python")
TABLES, BITS = 8, 12
# A vector costs 8 ms to write and 90 kB, and a query tenths of a second.
MOST_ROWS = 25_000
QUERIES = 100


def lshash3(data: Data) -> Measured:
    """The walk-through's hash tables; a worker process does it all, asked through pipes."""
    binary = shutil.which("redis-server")
    if binary is None:
        raise MissingError("redis-server is not installed (apt-get install redis-server)")
    if not PYTHON.exists():
        raise MissingError(f"{PYTHON} is not there: `make test` makes that environment")
    part = data.head(MOST_ROWS).ask(QUERIES)
    reduced = len(part.vectors) < len(data.vectors)
    measured = Measured(notes=[f"lshash3 was asked {QUERIES} queries"])
    if reduced:
        measured.notes.append(f"lshash3 holds {len(part.vectors):,} rows, for time and memory")
    with run_server(binary) as server, tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vectors.npy"
        np.save(file, part.vectors)
        worker = _Worker([str(TABLES), str(BITS), str(server.socket), str(file)])
        try:
            clock = Clock(server.pid, worker.pid)
            written = write(clock, server.used_memory, len(part.vectors), worker.index)
            measured.rows.append(
                measure(
                    "lshash3",
                    f"{TABLES}x{BITS}"
                    + (f" of {len(part.vectors):,} rows" if reduced else " bits"),
                    part,
                    written,
                    worker.search,
                    clock=clock,
                    rows_read=lambda: worker.candidates,
                )
            )
        finally:
            worker.close()
    return measured


class _Worker:
    """The process; what it costs to ask it is next to nothing beside what it does."""

    def __init__(self, arguments: list[str]) -> None:
        script = Path(__file__).with_name("lshash3_worker.py")
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [str(PYTHON), "-W", "ignore", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.pid = self._process.pid
        self.candidates = 0
        self._answer()

    def index(self) -> None:
        self._send(struct.pack("<i", 0))
        self._answer()

    def search(self, query: Vectors, n: int) -> list[str]:
        self._send(struct.pack("<i", n) + query.tobytes())
        candidates, *uris = self._answer().split()
        self.candidates += int(candidates)
        return uris

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _send(self, message: bytes) -> None:
        pipe: Any = self._process.stdin
        pipe.write(message)
        pipe.flush()

    def _answer(self) -> str:
        pipe: Any = self._process.stdout
        line: bytes = pipe.readline()
        if not line:
            raise RuntimeError("lshash3's process has ended")
        return line.decode()
