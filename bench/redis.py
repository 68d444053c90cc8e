"""What TLS costs, and how much memory a server needs while it writes its file anew.

Debian's Redis as deploy/redis/ sets it up, and the same without TLS, in turn, in one run. Vectors
of 512 random numbers are written; new searchers each search once; then they are written once more,
as changed images, while the server writes its append-only file anew.

    python -m bench.redis [--size 100000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil

from simdist.index.collection import Collection
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef
from simdist.store import connect
from tests.deployed import DeployedServer, set_up
from tests.servers import eventually, redis7, started

DIM = 512
CHUNK = 10_000
SEARCHES = 100


def main() -> None:
    """Measure with and without TLS, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100_000)
    size = parser.parse_args().size
    print("        us of server to    a cold search, ms of CPU   pages copied while the file")
    print("        write a vector     client   server            is written anew")
    # The first time numba compiles: not told.
    for tls, images in ((False, 2 * CHUNK), (False, size), (True, size)):
        with tempfile.TemporaryDirectory() as folder:
            told = measure(Path(folder), tls=tls, size=images)
        if images == size:
            print(f"{'TLS' if tls else 'plain':8}{told}")


def measure(folder: Path, *, tls: bool, size: int) -> str:
    """One server, from empty."""
    etc = set_up(folder / "etc")
    server = DeployedServer(redis7(), folder / "data", ("--maxmemory", "0"), etc=etc, tls=tls)
    with started(server), closing(connect(server.url)) as store:
        process = psutil.Process(server.process.pid)
        collection = Collection.create(
            store, "bench", model="random", model_id="random", dim=DIM, expect=size
        )
        # Apart, for the hash family is fitted meanwhile.
        write(collection, range(0, CHUNK), state=0)
        written = cpu(process, lambda: write(collection, range(CHUNK, size), state=0))
        searched = cpu(process, lambda: search(collection))
        before = server.ask("INFO")["used_memory_rss"]
        server.ask("BGREWRITEAOF")
        write(collection, range(0, size), state=1)
        eventually(lambda: not server.ask("INFO")["aof_rewrite_in_progress"])
        copied = server.ask("INFO")["aof_last_cow_size"]
    # The client fits hash families meanwhile; `make bench-index` has its part.
    writing = 1e6 * written[1] / (size - CHUNK)
    cold, serving = (1e3 * seconds / SEARCHES for seconds in searched)
    return (
        f"{writing:7.1f}{cold:18.2f}{serving:9.2f}"
        f"{copied / before:16.2f} of {before / 1e6:.0f} MB copied"
    )


def write(collection: Collection, numbers: range, *, state: int) -> None:
    """Add images, a chunk at a time."""
    generator = np.random.default_rng(state)
    for start in range(0, len(numbers), CHUNK):
        refs = [
            ImageRef(f"s3://bucket/photographs/2026/{number:040}.jpg", f"state {state}", 10, None)
            for number in numbers[start : start + CHUNK]
        ]
        vectors = generator.standard_normal((len(refs), DIM)).astype(np.float32)
        collection.add(vectors, refs)


def search(collection: Collection) -> None:
    """Search once with each of many new searchers."""
    for query in np.random.default_rng(7).standard_normal((SEARCHES, DIM)).astype(np.float32):
        Searcher(collection).search(query, probes=24)


def cpu(server: psutil.Process, work: Callable[[], None]) -> tuple[float, float]:
    """Seconds of CPU that work takes in this process, and in a server's."""
    first, client = server.cpu_times(), time.process_time()
    work()
    last = server.cpu_times()
    return time.process_time() - client, last.user + last.system - first.user - first.system


if __name__ == "__main__":
    main()
