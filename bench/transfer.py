"""How fast a collection is exported, imported and copied: `python -m bench.transfer --size N`.

Beside the rate, which depends on what else the machine does, stands the CPU time of this process
and of the server: with a core for each, the larger of the two bounds the rate.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from threadpoolctl import threadpool_limits

from simdist.index.collection import Collection
from simdist.index.copying import copy
from simdist.sources import ImageRef
from simdist.store import Store, connect
from simdist.store.embedded import embedded_server
from simdist.transfer.embeddings import import_embeddings
from simdist.transfer.exporting import export

_BATCH, _CLUSTERS, _PRINT = 20_000, 500, 290


def main() -> None:
    """Fill a collection with spread vectors, then move it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    given = parser.parse_args()
    with (
        TemporaryDirectory() as folder,
        embedded_server(Path(folder) / "data") as url,
        closing(connect(url)) as store,
        threadpool_limits(limits=1, user_api="blas"),
    ):
        made = Collection.create(
            store, "a", model="m", model_id="m", dim=given.dim, expect=given.size
        )
        out = str(Path(folder) / "export")
        for what, work in (
            ("fill", lambda: _fill(made, given.size)),
            ("export", lambda: export(made, out)),
            ("import", lambda: import_embeddings(out, store=store, name="b")),
            ("import again", lambda: import_embeddings(out, store=store, name="b")),
            ("copy", lambda: copy(store, "a", "c")),
        ):
            _measure(store, what, given.size, work)
        size = sum(path.stat().st_size for path in Path(out).iterdir())
        print(f"{size / given.size:,.0f} bytes an image in files")


def _fill(collection: Collection, count: int) -> None:
    random = np.random.default_rng(0)
    centres = random.standard_normal((_CLUSTERS, collection.dim), dtype=np.float32)
    for start in range(0, count, _BATCH):
        numbers = range(start, min(start + _BATCH, count))
        spread = random.standard_normal((len(numbers), collection.dim), dtype=np.float32)
        refs = [
            ImageRef(
                f"file:///photos/{i}.jpg", f"v{i}", 10, f"l{i % 50}", look=random.bytes(_PRINT)
            )
            for i in numbers
        ]
        collection.add(centres[random.integers(0, _CLUSTERS, len(numbers))] + 0.7 * spread, refs)


def _measure(store: Store, what: str, count: int, work: Callable[[], object]) -> None:
    wall, client, server = time.perf_counter(), time.process_time(), _cpu(store)
    work()
    wall, client = time.perf_counter() - wall, time.process_time() - client
    server = _cpu(store) - server
    print(
        f"{what:>12}: {count / wall:>9,.0f} images/s; CPU an image: {1e6 * client / count:.1f} us "
        f"here, {1e6 * server / count:.1f} us in the server",
        flush=True,
    )


def _cpu(store: Store) -> float:
    used = store.call("INFO", "cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])


if __name__ == "__main__":
    main()
