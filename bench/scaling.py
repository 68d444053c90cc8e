"""Does ingest keep up with more GPUs? One to four actors on logical GPUs, in one run.

There are no GPUs in it: an actor sleeps for as long as a GPU that embeds `--rate` images a second
would take for its batch. All else is real: listing, fetching and decoding in Ray tasks, pixels
through the object store, and the commit into an embedded server. The cores of the machine must
decode what all actors together take, or they are what is measured.

    python -m bench.scaling [FOLDER] [--rate 100] [--seconds 25]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.ingest import SOURCE
from bench.ingest_parts import sample
from cluster.ingest.pipeline import Pipeline
from cluster.ingest.stages import EmbedActor, Placement
from simdist.embedding import Model, load_model
from simdist.images.limits import Pixels
from simdist.index.collection import Collection
from simdist.ingest.listing import Listing
from simdist.ingest.shards import Shard
from simdist.settings import Settings
from simdist.sources import open_source
from simdist.store import open_store

OUT = Path(__file__).parent / "out" / "scaling.json"
ACTORS = (1, 2, 3, 4)
# Fewer than on real GPUs, so that the start and the end of a run weigh less.
SHARD = 64


def main() -> None:
    """Print a table and write `bench/out/scaling.json`."""
    import ray

    parser = argparse.ArgumentParser(description="Measure ingest with one to four actors.")
    parser.add_argument("source", type=Path, nargs="?", default=SOURCE, help="a folder of images")
    parser.add_argument("--rate", type=float, default=100.0, help="images/s of one GPU")
    parser.add_argument("--seconds", type=float, default=25.0, help="of each measurement, about")
    options = parser.parse_args()
    model = load_model("efficientnet-lite0")
    rows: list[dict[str, float]] = []
    ray.init(num_gpus=ACTORS[-1], include_dashboard=False, log_to_driver=False)
    everything = Placement.of(ray.cluster_resources())  # type: ignore[no-untyped-call]
    print(f"{'actors':>6}{'images/s':>10}{'of actors x rate':>18}{'of one, times actors':>22}")
    with tempfile.TemporaryDirectory() as scratch:
        for actors in ACTORS:
            count = round(actors * options.rate * options.seconds)
            folder = sample(options.source, count, Path(scratch) / str(actors))
            placement = replace(everything, actors=actors, shard_size=SHARD)
            rate = _whole(folder, model, placement, options.rate)
            first = rows[0]["images_per_s"] if rows else rate
            scaling = rate / first / actors
            rows.append({"actors": actors, "images_per_s": round(rate, 1), "scaling": scaling})
            share = rate / (actors * options.rate)
            print(f"{actors:6}{rate:10.1f}{share:18.2f}{scaling:22.2f}", flush=True)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"written to {OUT}")


def _sleeping(rate: float) -> type[EmbedActor]:
    """An actor that takes as long as a GPU of so many images a second, and no core."""

    class Sleeping(EmbedActor):
        def load(self, model: Model) -> None:
            self._dim = model.dim
            self._generator = np.random.default_rng(0)
            self._free_at = 0.0

        def embed(self, shard: Shard, pixels: Pixels | None) -> tuple[Shard, NDArray[np.float32]]:
            assert pixels is not None
            # From when the last batch was done, as a GPU's queue has it: what Python does between
            # two batches is done while the GPU works.
            self._free_at = max(self._free_at, time.monotonic()) + len(pixels) / rate
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            shape = (len(pixels), self._dim)
            return shard, self._generator.standard_normal(shape, dtype=np.float32)

    return Sleeping


def _whole(folder: Path, model: Model, placement: Placement, rate: float) -> float:
    """Images a second from the first finished shard to the last commit."""
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as data,
        open_store(replace(Settings.resolve(), redis_url=None, data_dir=Path(data))) as store,
    ):
        collection = Collection.ensure(store, "bench", model=model)
        with (
            Listing(open_source(str(folder)), collection=collection) as listing,
            Pipeline(placement, model, actor=_sleeping(rate)) as pipeline,
        ):
            done, start = 0, 0.0
            for shard in pipeline.embed(listing):
                if shard is None:
                    continue
                collection.add(shard.vectors, shard.refs)
                if start:
                    done += len(shard.refs)
                else:
                    start = time.perf_counter()
            return done / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
