"""Does the memory of an ingest grow with the number of images?

Many small JPEG files, each with bytes of its own, go through all of the pipeline into an embedded
server; only the network is left out: embeddings are random. Memory is what a process has for itself
(resident, less what is shared), of the driver and of the largest of Ray's workers.

    python -m bench.memory [--images 200000]
"""

from __future__ import annotations

import argparse
import io
import tempfile
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image

from cluster.ingest import pipeline
from cluster.ingest.driver import ingest_images
from cluster.ingest.stages import EmbedActor
from cluster.runtime import ray_session
from simdist.embedding import Model, load_model
from simdist.embedding.staging import Staged
from simdist.images.limits import Pixels
from simdist.index.collection import Collection
from simdist.ingest.progress import Progress
from simdist.settings import Settings
from simdist.sources import open_source
from simdist.store import open_store

MODEL = "efficientnet-lite0"
FOLDER = 1000
STEPS = 10


class CheapActor(EmbedActor):
    """The real actor with an embedder that takes no time."""

    def load(self, model: Model) -> None:
        """As the real one, which is not thrown away: its memory counts."""
        super().load(model)
        generator = np.random.default_rng()

        def embed(pixels: Pixels | Staged) -> NDArray[np.float32]:
            vectors = generator.random((len(pixels), model.dim), dtype=np.float32)
            norms: NDArray[np.float32] = np.linalg.norm(vectors, axis=1, keepdims=True)
            return vectors / norms

        self._embedder.embed = embed  # type: ignore[method-assign]


@dataclass(frozen=True)
class Memory:
    """Megabytes of the driver and of the largest worker."""

    driver: float
    worker: float

    @classmethod
    def now(cls) -> Memory:
        """As it is now."""
        this = psutil.Process()
        workers = [0.0]
        for process in this.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if any(part.startswith("ray::") for part in process.cmdline()):
                    workers.append(_own(process))
        return cls(_own(this), max(workers))


def main() -> None:
    """Print the memory as the work goes on."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--images", type=int, default=200_000)
    count = parser.parse_args().images
    model = load_model(MODEL)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        open_store(replace(Settings.resolve(), redis_url=None, data_dir=Path(scratch))) as store,
        ray_session(Settings.resolve()),
        patch.object(pipeline, "EmbedActor", CheapActor),
    ):
        write_images(Path(scratch) / "images", count)
        collection = Collection.ensure(store, "memory", model=model, expect=count)
        print(f"{'images':>10}{'driver MB':>10}{'worker MB':>10}{'images/s':>10}", flush=True)
        summary = ingest_images(
            open_source(f"{scratch}/images"),
            collection=collection,
            model=model,
            on_progress=Peaks(count),
        )
    print(f"{summary.added:,} indexed, {summary.failed} failed, in {summary.seconds:.0f} s")


def write_images(folder: Path, count: int) -> None:
    """Write small JPEG files, each with bytes of its own, in folders of `FOLDER`."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    for start in range(0, count, FOLDER):
        part = folder / f"{start:08}"
        part.mkdir(parents=True)
        for number in range(start, min(start + FOLDER, count)):
            # Decoders do not read what is behind the end.
            (part / f"{number:08}.jpg").write_bytes(buffer.getvalue() + b"%d" % number)


class Peaks:
    """Told of the progress, prints the largest memory seen in each tenth of the work."""

    def __init__(self, count: int) -> None:
        self._step = count // STEPS
        self._next = self._step
        self._driver = self._worker = 0.0

    def __call__(self, progress: Progress) -> None:
        """Look at the memory now."""
        now = Memory.now()
        self._driver = max(self._driver, now.driver)
        self._worker = max(self._worker, now.worker)
        if progress.done >= self._next:
            print(
                f"{progress.done:10,}{self._driver:10.0f}{self._worker:10.0f}"
                f"{progress.done / progress.seconds:10.0f}",
                flush=True,
            )
            self._next += self._step
            self._driver = self._worker = 0.0


def _own(process: psutil.Process) -> float:
    memory = process.memory_info()
    return float(memory.rss - memory.shared) / 2**20


if __name__ == "__main__":
    main()
