"""Measure duplicates and neighbours: `make bench-duplicates`.

What is found of copies of known strength; pairs and neighbours of many vectors, beside FAISS; and
groups of blank pictures and logos.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from threadpoolctl import threadpool_limits

from bench import copies
from bench.peers.in_process import library
from simdist.embedding import Embedder
from simdist.embedding.memory import tune_process
from simdist.index.collection import Collection
from simdist.joining.duplicates import SIMILAR, Duplicates, find_duplicates
from simdist.joining.job import plan_job
from simdist.joining.judging import COPY, judged
from simdist.joining.plan import Wanted
from simdist.joining.stars import stars
from simdist.joining.whole import Whole, read_whole
from simdist.prints.prints import TINY, is_tiny, prints_of
from simdist.settings import Settings
from simdist.sources import ImageRef
from simdist.store import Store, open_store
from simdist.vectors.checks import normalised

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
_BATCH = 64


def main() -> None:
    """Run the parts that are asked for, in a collection of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="copies,faces,blank,vectors")
    parser.add_argument("--photographs", type=int, default=200, help="that are copied")
    parser.add_argument("--distractors", type=int, default=2000)
    parser.add_argument("--sizes", default="25000,250000")
    parser.add_argument("--peers", action="store_true", help="FAISS as well")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(redis_url=None, ray_address=None, data_dir=Path(folder))
        with open_store(settings) as store:
            if "copies" in parts:
                _copies(store, arguments.photographs, arguments.distractors)
            if "faces" in parts:
                _faces(store)
            if "blank" in parts:
                _blank(store, arguments.distractors)
            if "vectors" in parts:
                for size in map(int, arguments.sizes.split(",")):
                    _vectors(store, size, peers=arguments.peers)


class Indexer:
    """Indexes pictures as an ingest does, but from memory."""

    def __init__(self, store: Store, name: str) -> None:
        tune_process()
        self._embedder = Embedder.load("efficientnet-lite0")
        self.collection = Collection.ensure(store, name, model=self._embedder.model)
        self._held: list[tuple[str, bytes]] = []
        self.images = 0

    def add(self, uri: str, data: bytes) -> None:
        """Add one, sooner or later."""
        self._held.append((uri, data))
        if len(self._held) == _BATCH:
            self.flush()

    def flush(self) -> None:
        """Add what is held."""
        pixels = np.stack([self._embedder.model.preprocessing.pixels(d) for _, d in self._held])
        looks = prints_of(pixels)
        refs = [
            ImageRef(uri, "1", len(data), None, look=TINY if is_tiny(data) else look)
            for (uri, data), look in zip(self._held, looks, strict=True)
        ]
        self.collection.add(self._embedder.embed(pixels), refs)
        self.images += len(refs)
        self._held.clear()


def _copies(store: Store, count: int, others: int) -> None:
    """What is found of copies, by strength."""
    generator = np.random.default_rng(0)
    paths = copies.photographs(DATA / "caltech-101")
    chosen = [paths[i] for i in generator.permutation(len(paths))[: count + others]]
    indexer = Indexer(store, "copies")
    made = copies.ways()
    for number, path in enumerate(chosen):
        if number >= count:
            indexer.add(f"urn:other:{number}", path.read_bytes())
            continue
        indexer.add(f"urn:copy:{number}:original", path.read_bytes())
        picture = Image.open(path).convert("RGB")
        for way, make in made.items():
            name = way.replace(" ", "_").replace("%", "pc")
            indexer.add(f"urn:copy:{number}:{name}", copies.encoded(make(picture, generator)))
    indexer.flush()
    print(f"\n(a) {count} photographs, {len(made)} copies of each, {others} others")
    print("simdist, of the pairs of an original and a copy or another photograph:")
    for turns in (False, True):
        started = time.process_time()
        found = find_duplicates(indexer.collection, turns=turns)
        seconds = time.process_time() - started
        print(f"  {'turned, too' if turns else 'upright'}: {seconds:.0f} core seconds")
        _report_copies(found, count, list(made))


def _report_copies(found: Duplicates, count: int, names: Sequence[str]) -> None:
    uris = [found.whole.uri(number) for number in range(len(found.whole))]
    source = np.array([int(uri.split(":")[2]) if ":copy:" in uri else -1 for uri in uris])
    way = np.array([uri.rpartition(":")[2] if ":copy:" in uri else "" for uri in uris])
    original = way == "original"
    one, other = found.pairs.numbers.T
    asked = original[one] ^ original[other]
    first, second = np.where(original[one], one, other), np.where(original[one], other, one)
    right = source[first] == source[second]
    relevant = asked & (right | (source[second] < 0))
    raw = _all_cosines(found.whole, np.flatnonzero(original))
    for label, group in (("all", names), ("imagededup's", copies.IMAGEDEDUP)):
        kinds = [name.replace(" ", "_").replace("%", "pc") for name in group]
        here = relevant & (np.isin(way[second], kinds) | (source[second] < 0))
        total = count * len(kinds)
        scores = found.pairs.scores[here]
        taken = scores >= COPY
        columns = np.isin(way, kinds) | (source < 0)
        own = source[columns] == source[original][:, None]
        plain = _ap(raw[:, columns].ravel(), own.ravel(), total)
        print(
            f"    {label}: micro-AP {_ap(scores, right[here], total):.3f}, raw cosine {plain:.3f}"
        )
        precision, recall = right[here][taken].mean(), right[here][taken].sum() / total
        print(f"      score >= {COPY}: precision {precision:.4f}, recall {recall:.3f}")
    for name in names:
        its = relevant & right & (way[second] == name.replace(" ", "_").replace("%", "pc"))
        same = (its & found.pairs.same).sum() / count
        high = (its & (found.pairs.scores >= COPY)).sum() / count
        print(f"      {name:17} recall {high:.2f}, as the same {same:.2f}")


def _ap(scores: NDArray[Any], right: NDArray[Any], total: int) -> float:
    ordered = right[np.argsort(-scores, kind="stable")]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float((precision * ordered).sum() / total)


def _all_cosines(whole: Whole, images: NDArray[Any]) -> NDArray[np.float32]:
    """Of some images with all."""
    slots = whole.slots
    lengths = whole.inverse_lengths[slots][:, None]
    vectors = whole.values[slots].astype(np.float32) * lengths
    cosines: NDArray[np.float32] = vectors[images] @ vectors.T
    return cosines


def _faces(store: Store) -> None:
    """Caltech-101's faces, and the same cropped."""
    indexer = Indexer(store, "faces")
    for folder in ("Faces", "Faces_easy"):
        for path in sorted((DATA / "caltech-101" / folder).glob("*.jpg")):
            indexer.add(f"urn:{folder}:{path.stem}", path.read_bytes())
    indexer.flush()
    found = find_duplicates(indexer.collection)
    uris = [found.whole.uri(number).split(":") for number in range(len(found.whole))]
    across = np.array([uris[a][1] != uris[b][1] for a, b in found.pairs.numbers.tolist()])
    right = np.array([uris[a][2] == uris[b][2] for a, b in found.pairs.numbers.tolist()])[across]
    scores = found.pairs.scores[across]
    print(f"\n(a) Faces and Faces_easy: {indexer.images} pictures, 435 pairs")
    for least in (0.96, 0.97, 0.975, 0.98):
        taken = right[scores >= least]
        print(f"  score >= {least}: precision {taken.mean():.3f}, recall {taken.sum() / 435:.3f}")
    order = np.argsort(-scores, kind="stable")
    precision = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    last = np.flatnonzero(precision >= 0.95)[-1]
    recall = right[order][: last + 1].sum() / 435
    print(f"  at precision .95: recall {recall:.3f} (score >= {scores[order][last]:.4f})")


def _blank(store: Store, count: int) -> None:
    """Groups of blank pictures, such as shade off, and logos, among photographs."""
    indexer = Indexer(store, "blank")
    for number, picture in enumerate(copies.distractors(count, np.random.default_rng(1))):
        indexer.add(f"urn:blank:{number}", copies.encoded(picture))
    for path in copies.photographs(DATA / "caltech-101"):
        indexer.add(path.as_uri(), path.read_bytes())
    indexer.flush()
    found = find_duplicates(indexer.collection)
    print(f"\n(c) {count} blank pictures, gradients and logos among {indexer.images - count}")
    print(f"  {found.flat} are flat, {found.tiny} tiny")
    for least in (COPY, SIMILAR, 0.85):
        groups = found.groups(threshold=least)
        sizes = sorted(map(len, groups), reverse=True)
        blank = Counter(sum(":blank:" in one.uri for one in group) for group in groups)
        print(
            f"  score >= {least}: {len(groups)} groups, the largest {sizes[:8]}; of blank ones "
            f"at most {max(blank, default=0)} in a group"
        )


def spread(count: int) -> NDArray[np.float32]:
    """Real embeddings; beyond those that there are, others around them."""
    with np.load(DATA / "vectors" / "caltech-crops-512.npz") as file:
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


def _vectors(store: Store, count: int, *, peers: bool) -> None:
    """Pairs and neighbours of many vectors."""
    name = f"vectors-{count}"
    collection = Collection.create(store, name, model="m", model_id="m-1", dim=512, expect=count)
    vectors = spread(count)
    for start in range(0, count, 32_768):
        part = vectors[start : start + 32_768]
        refs = [ImageRef(f"urn:vector:{start + i:09}", "1", 1, None) for i in range(len(part))]
        collection.add(part, refs)
    print(f"\n(b) {count:,} vectors of 512 values")
    whole = _timed("reading", lambda: read_whole(collection, _quiet))
    with threadpool_limits(1):
        pairs = _timed("duplicates", lambda: judged(whole, _quiet, turns=False))
        _timed("  their groups", lambda: stars(pairs.numbers[pairs.scores >= 0.9], count))
        job = _timed(
            "neighbours, k = 10: plan", lambda: plan_job(collection, whole, Wanted(k=10), _quiet)
        )
        parts = _timed("  all", lambda: [job.run(n) for n in range(len(job.bounds) - 1)])
        best = np.empty((count, 10), np.int32)
        for one in parts:
            best[one.images] = one.best
        _recalls(whole, vectors, best, pairs.numbers)
        if peers:
            _peers(vectors)


def _recalls(
    whole: Whole, vectors: NDArray[np.float32], best: NDArray[np.int32], pairs: NDArray[np.int32]
) -> None:
    """Of a sample, against exact scores."""
    sample = np.random.default_rng(5).choice(len(whole), 500, replace=False)
    exact = vectors[sample] @ vectors.T
    exact[np.arange(len(sample)), sample] = -1
    top = np.argpartition(-exact, 10, axis=1)[:, :10]
    rows = zip(sample.tolist(), top, exact, strict=True)
    keys = set(map(tuple, pairs.tolist()))
    met, close = [], []
    for image, nearest, scores in rows:
        met.append(np.isin(nearest, best[image]).mean())
        others = np.flatnonzero(scores >= 0.9).tolist()
        close += [(min(image, other), max(image, other)) for other in others]
    found = sum(pair in keys for pair in close)
    share = found / max(len(close), 1)
    print(f"  neighbours' recall@10 {np.mean(met):.4f}")
    print(f"  of {len(close):,} pairs with a cosine of .9 and more, {share:.4f} are found")


def _peers(vectors: NDArray[np.float32]) -> None:
    faiss = library("faiss")
    faiss.omp_set_num_threads(1)
    lists = max(1, round(4 * len(vectors) ** 0.5))
    quantizer = faiss.IndexFlatIP(vectors.shape[1])
    index = faiss.IndexIVFFlat(quantizer, vectors.shape[1], lists, faiss.METRIC_INNER_PRODUCT)
    sample = vectors[:: max(1, len(vectors) // (40 * lists))]
    _timed("FAISS IVF: train", lambda: index.train(sample))
    _timed("FAISS IVF: add", lambda: index.add(vectors))
    part = vectors[:: max(1, len(vectors) // 20_000)]
    exact = _top(vectors, part[:500])
    for probes in (4, 8, 16, 32):
        index.nprobe = probes
        found = _timed(
            f"FAISS IVF, {probes} of {lists} lists: {len(part):,} queries",
            lambda: index.search(part, 11)[1],
        )
        print(f"    recall@10 {_met(found[:500], exact):.4f}")


def _top(vectors: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.int64]:
    top: NDArray[np.int64] = np.argpartition(-(queries @ vectors.T), 11, axis=1)[:, :11]
    return top


def _met(found: NDArray[Any], exact: NDArray[Any]) -> float:
    return float(np.mean([np.isin(row, one).mean() for row, one in zip(exact, found, strict=True)]))


def _timed(what: str, work: Callable[[], Any]) -> Any:
    started, before = time.perf_counter(), time.process_time()
    result = work()
    seconds, cores = time.perf_counter() - started, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"  {what}: {cores:.1f} core seconds ({seconds:.1f} s), at most {peak:.2f} GB", flush=True
    )
    return result


def _quiet(doing: str, done: int, total: int) -> None:
    """No progress: the figures are all that is printed."""


if __name__ == "__main__":
    main()
