"""What are several examples in one question worth, and what do they cost?

    python -m bench.examples FOLDER [--trials 500]

Indexes a folder whose subfolders are labels. A trial draws a photograph and two others of its
label, and takes the first two wrong hits of a search by it as what hits are not to be like. It
prints the precision among ten hits that are none of these five: by the photograph alone, by three,
and by three and against two, at several weights; then what a search by one and by five takes.
Labels of fewer than 14 photographs are not drawn, and of Caltech-101 neither its clutter nor its
faces cropped.

The embeddings are kept in bench/out/, since they take minutes.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simdist.embedding import Embedder, load_model
from simdist.index.collection import Collection
from simdist.search import examples
from simdist.search.question import Example, Hit, Question
from simdist.search.searcher import Searcher
from simdist.sources import ImageRef, list_folder, uri_path
from simdist.store import connect
from simdist.store.embedded import embedded_server

OUT = Path(__file__).parent / "out"
LEFT_OUT = {"BACKGROUND_Google", "Faces_easy"}
WEIGHTS = (0.0, 0.1, 0.25, 0.5, 1.0)
FEWEST = 14
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--trials", type=int, default=500)
    arguments = parser.parse_args()
    model = load_model("efficientnet-lite0")
    found = [ref for ref in list_folder(arguments.folder) if isinstance(ref, ImageRef)]
    refs = [ref for ref in found if ref.label not in LEFT_OUT]
    vectors = _embedded(arguments.folder, refs)
    with tempfile.TemporaryDirectory() as name, embedded_server(Path(name) / "data") as url:
        store = connect(url)
        collection = Collection.ensure(store, "images", model=model)
        collection.add(vectors, refs)
        _measure(Searcher(collection), refs, arguments.trials)
        store.close()


def _embedded(folder: Path, refs: Sequence[ImageRef]) -> NDArray[np.float32]:
    kept = OUT / f"examples-{folder.resolve().name}.npy"
    if not kept.exists():
        embedder = Embedder.load("efficientnet-lite0", device="cpu")
        OUT.mkdir(exist_ok=True)
        np.save(kept, embedder.embed_files(uri_path(ref.uri) for ref in refs))
    vectors: NDArray[np.float32] = np.load(kept)
    return vectors


def _measure(searcher: Searcher, refs: Sequence[ImageRef], trials: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.array([ref.label for ref in refs])
    names, counts = np.unique(labels, return_counts=True)
    drawn = np.flatnonzero(np.isin(labels, names[counts >= FEWEST]))
    precision: dict[str, list[float]] = {}
    taken: dict[str, list[float]] = {}
    usual = examples.UNLIKE
    for first in rng.choice(drawn, trials):
        others = np.flatnonzero(labels == labels[first])
        like = [first, *rng.choice(others[others != first], 2, replace=False)]
        hits = searcher.ask(Question(uri=refs[first].uri, n=300))
        wrong = [hit for hit in hits if hit.label != labels[first]][:2]
        left_out = {refs[i].uri for i in like} | {hit.uri for hit in wrong}
        three = [Example(uri=refs[i].uri) for i in like]
        two = [Example(uri=hit.uri) for hit in wrong]
        asked = {"one": Question(like=three[:1]), "three": Question(like=three)}
        for way, question in asked.items():
            found = _asked(searcher, question, left_out, taken.setdefault(way, []))
            precision.setdefault(way, []).append(_share(found, labels[first]))
        for weight in WEIGHTS:
            way = f"three, against two by {weight:g}"
            examples.UNLIKE = weight
            question = Question(like=three, unlike=two)
            found = _asked(searcher, question, left_out, taken.setdefault(way, []))
            precision.setdefault(way, []).append(_share(found, labels[first]))
        examples.UNLIKE = usual
        for way, count in (("one vector", 1), ("five vectors", 3)):
            given = [Example(vector=rng.normal(size=searcher.collection.dim)) for _ in range(5)]
            question = Question(like=given[:count], unlike=given[3:] if count > 1 else ())
            _asked(searcher, question, set(), taken.setdefault(way, []))
    for way, shares in precision.items():
        print(f"{way:28} precision@{K} {100 * np.mean(shares):5.1f} %")
    for way, times in taken.items():
        print(f"{way:28} {1000 * np.median(times):6.3f} ms")


def _asked(
    searcher: Searcher, question: Question, left_out: set[str], taken: list[float]
) -> list[Hit]:
    started = time.perf_counter()
    hits = searcher.ask(question)
    taken.append(time.perf_counter() - started)
    if not left_out:
        return hits
    # More than are needed, so that ten are left of all ways.
    more = Question(
        like=question.like, unlike=question.unlike, n=K + len(left_out), without=frozenset(left_out)
    )
    return searcher.ask(more)[:K]


def _share(hits: Sequence[Hit], label: str) -> float:
    return sum(hit.label == label for hit in hits) / K


if __name__ == "__main__":
    main()
