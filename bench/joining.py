"""Pairs and neighbours of many vectors: part (b) of `make bench-duplicates`.

simdist reads its collection in a process of its own, so that its memory is its own: the exact
answers, and the peers, need all vectors as floats.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from bench.peers.in_process import library
from cluster.joining.spread import run_all
from cluster.runtime import ray_session
from simdist.index.collection import Collection
from simdist.joining.job import plan_job
from simdist.joining.judging import judged
from simdist.joining.plan import Wanted
from simdist.joining.stars import stars
from simdist.joining.whole import Whole, read_whole
from simdist.settings import Settings
from simdist.sources import ImageRef
from simdist.store import Store, open_store
from simdist.vectors.checks import normalised

REAL = Path(__file__).parent.parent.parent / "shared" / "data" / "vectors"
# Pairs are sought from this cosine on, and so many neighbours.
CLOSE, K = 0.9, 10
_RECALLS = (0.95, 0.98, 0.995)
_BLOCK, _SAMPLE, _ASKED = 32_768, 500, 20_000
# More than what is compared without any buckets.
_FIRST = 20_000
# pynndescent takes all at once: an hour for a million.
_MOST_OF_GRAPH = 250_000


@dataclass(frozen=True)
class Found:
    """What was found: (m, 2) pairs, and (n, K) neighbours at each of the recalls."""

    pairs: NDArray[np.int32]
    best: list[NDArray[np.int32]]


def measure_vectors(settings: Settings, count: int, *, peers: bool, workers: bool) -> None:
    """Print what pairs and neighbours of so many vectors take, and how many are found."""
    vectors = spread(count)
    print(f"\n(b) {count:,} vectors of {vectors.shape[1]} values, on one core each")
    with open_store(settings) as store:
        name, first = _filled(store, vectors), _filled(store, vectors[:_FIRST])
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found = alone.submit(_simdist, settings, name, first).result()
        exact = _Exact.of(vectors)
        exact.report_pairs(found.pairs)
        for best in found.best:
            exact.report(best)
        del found
        if workers:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
                alone.submit(_workers, settings, name).result()
        if peers:
            _faiss(vectors, exact)
            if count <= _MOST_OF_GRAPH:
                _pynndescent(vectors, exact)


def spread(count: int) -> NDArray[np.float32]:
    """Real embeddings; beyond those that there are, others around them."""
    with np.load(REAL / "caltech-crops-512.npz") as file:
        real = file["vectors"].astype(np.float32)
    if count <= len(real):
        return normalised(real[:count])
    generator = np.random.default_rng(0)
    vectors = np.empty((count, real.shape[1]), np.float32)
    for start in range(0, count, 20_000):
        part = vectors[start : start + 20_000]
        distance = generator.uniform(0.2, 0.6, (len(part), 1)) / real.shape[1] ** 0.5
        noise = generator.standard_normal(part.shape, np.float32) * distance.astype(np.float32)
        part[:] = normalised(real[generator.integers(0, len(real), len(part))] + noise)
    return vectors


def _filled(store: Store, vectors: NDArray[np.float32]) -> str:
    """A collection of the vectors, in their order; its name."""
    name, dim = f"vectors-{len(vectors)}", vectors.shape[1]
    collection = Collection.create(
        store, name, model="m", model_id="m-1", dim=dim, expect=len(vectors)
    )
    for start in range(0, len(vectors), _BLOCK):
        part = vectors[start : start + _BLOCK]
        refs = [ImageRef(f"urn:vector:{start + i:09}", "1", 1, None) for i in range(len(part))]
        collection.add(part, refs)
    return name


def _simdist(settings: Settings, name: str, first: str) -> Found:
    """In a process of its own, on one core.

    Args:
        first: a collection that is looked at before, so that all compiled loops are loaded.
    """
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with open_store(settings) as store, threadpool_limits(1):
        with redirect_stdout(None):
            _joined(Collection.open(store, first))
        return _joined(Collection.open(store, name))


def _joined(collection: Collection) -> Found:
    with _timed("simdist: all"):
        with _timed("  reading"):
            whole = read_whole(collection, _quiet)
        with _timed("  pairs"):
            pairs = judged(whole, _quiet, turns=False)
        with _timed("  their groups"):
            stars(pairs.numbers[pairs.scores >= CLOSE], len(whole))
    numbers = pairs.numbers
    del pairs
    return Found(numbers, [_neighbours(collection, whole, recall) for recall in _RECALLS])


def _neighbours(collection: Collection, whole: Whole, recall: float) -> NDArray[np.int32]:
    best = np.empty((len(whole), K), np.int32)
    with _timed(f"simdist: {K} neighbours of each, at a recall of {recall}"):
        with _timed("  plan"):
            job = plan_job(collection, whole, Wanted(k=K, recall=recall), _quiet)
        with _timed("  comparing"):
            for number in range(len(job.bounds) - 1):
                one = job.run(number)
                best[one.images] = one.best
    return best


def _workers(settings: Settings, name: str) -> None:
    """The same neighbours by Ray's workers, one and two of them in turn."""
    with open_store(settings) as store:
        collection = Collection.open(store, name)
        whole = read_whole(collection, _quiet)
        job = plan_job(collection, whole, Wanted(k=K), _quiet)
    took: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(2):
        for workers, seconds in took.items():
            with ray_session(settings, cpus=workers):
                # The first tasks wait until workers have started and loaded the code.
                for done in (range(2 * workers, 64), ()):
                    started = time.perf_counter()
                    list(run_all(job, done=done, images=len(whole), settings=settings))
                seconds.append(time.perf_counter() - started)
    one, two = min(took[1]), min(took[2])
    print(f"  Ray: one worker {one:.1f} s, two {two:.1f} s: {one / two / 2:.2f} of linear")


@dataclass(frozen=True)
class _Exact:
    """The exact answers for a sample of images: their numbers, neighbours and close ones."""

    sample: NDArray[np.int64]
    nearest: NDArray[np.int64]
    close: frozenset[tuple[int, int]]

    @classmethod
    def of(cls, vectors: NDArray[np.float32]) -> _Exact:
        sample = np.random.default_rng(5).choice(len(vectors), _SAMPLE, replace=False)
        scores = vectors[sample] @ vectors.T
        scores[np.arange(len(sample)), sample] = -1
        rows, others = np.nonzero(scores >= CLOSE)
        pairs = np.sort(np.column_stack([sample[rows], others]), axis=1).tolist()
        nearest = np.argpartition(-scores, K, axis=1)[:, :K]
        return cls(sample, nearest, frozenset(map(tuple, pairs)))

    def report(self, best: NDArray[Any]) -> None:
        """Print the recall of neighbours, (n, K) or more of all images."""
        met = [
            np.isin(nearest, row).mean()
            for nearest, row in zip(self.nearest, best[self.sample], strict=True)
        ]
        print(f"    recall@{K} {np.mean(met):.4f}")

    def report_pairs(self, pairs: NDArray[Any]) -> None:
        """Print how many of the close pairs are among these, (m, 2)."""
        touching = pairs[np.isin(pairs, self.sample).any(axis=1)]
        self.report_close(set(map(tuple, np.sort(touching, axis=1).tolist())))

    def report_close(self, found: set[tuple[int, ...]]) -> None:
        """Print how many of the close pairs were found."""
        share = len(self.close & found) / max(len(self.close), 1)
        print(f"    of {len(self.close):,} pairs with a cosine of {CLOSE} and more {share:.4f}")


def _faiss(vectors: NDArray[np.float32], exact: _Exact) -> None:
    """An inverted file, asked for a sample: both as a search and for all within a range."""
    faiss = library("faiss")
    faiss.omp_set_num_threads(1)
    count, dim = vectors.shape
    lists = max(1, round(4 * count**0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    with _timed(f"FAISS IVF, {lists} lists: train and add"):
        index.train(vectors[:: max(1, count // (40 * lists))])
        index.add(vectors)
    others = np.random.default_rng(6).choice(count, min(count, _ASKED), replace=False)
    asked = np.unique(np.concatenate([exact.sample, others]))
    times = count / len(asked)
    for probes in (4, 8, 16, 32):
        index.nprobe = probes
        with _timed(f"  {probes} probes, {K} neighbours", times=times):
            found = index.search(vectors[asked], K + 1)[1]
        best = np.zeros((count, K + 1), np.int64)
        best[asked] = found
        exact.report(best)
        with _timed(f"  {probes} probes, pairs", times=times):
            limits, _, numbers = index.range_search(vectors[asked], CLOSE)
        met = set[tuple[int, ...]]()
        for image in exact.sample.tolist():
            at = int(np.searchsorted(asked, image))
            near = numbers[limits[at] : limits[at + 1]].tolist()
            met |= {(min(image, one), max(image, one)) for one in near}
        exact.report_close(met)


def _pynndescent(vectors: NDArray[np.float32], exact: _Exact) -> None:
    """A graph of neighbours by NN-descent."""
    pynndescent = library("pynndescent")
    # What it compiles at its first call is not its work.
    pynndescent.NNDescent(vectors[:2000], metric="dot", n_neighbors=K + 1, n_jobs=1)
    for neighbours in (K + 1, 2 * K):
        with _timed(f"pynndescent, graph of {neighbours}"):
            graph = pynndescent.NNDescent(
                vectors, metric="dot", n_neighbors=neighbours, n_jobs=1, random_state=0
            ).neighbor_graph[0]
        exact.report(graph[:, : K + 1])


@contextmanager
def _timed(what: str, *, times: float = 1) -> Iterator[None]:
    """Print what it took; of a part, as if it had been all, so many times as much."""
    started, before = time.perf_counter(), time.process_time()
    yield
    seconds, cores = time.perf_counter() - started, time.process_time() - before
    # Not getrusage's: that of a child begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    peak = int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1e6
    said = f" (of a {1 / times:.3f} of all: {cores:.1f})" if times > 1 else f" ({seconds:.1f} s)"
    print(f"  {what}: {cores * times:.1f} core seconds{said}, at most {peak:.2f} GB", flush=True)


def _quiet(doing: str, done: int, total: int) -> None:
    """No progress: the figures are all that is printed."""
