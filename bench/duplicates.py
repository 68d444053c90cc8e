"""Measure duplicates and neighbours: `make bench-duplicates`.

(a) What is found of copies of known strength, and of faces that are cropped; (b) pairs and
neighbours of many vectors; (c) groups of blank pictures and logos.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from bench import copies
from bench.found_copies import DATA, Drawn, measure_copies
from bench.indexer import Indexer
from bench.joining import measure_vectors
from simdist.joining.duplicates import SIMILAR, find_duplicates
from simdist.joining.judging import COPY
from simdist.settings import Settings
from simdist.store import Store, open_store


def main() -> None:
    """Run the parts that are asked for, in a collection of their own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", default="copies,faces,blank,vectors")
    parser.add_argument("--sets", default="caltech-101,grocery", help="of which photographs")
    parser.add_argument("--draws", default="0,1,2", help="seeds by which they are drawn")
    parser.add_argument("--photographs", type=int, default=200, help="that are copied")
    parser.add_argument("--distractors", type=int, default=2800, help="others, at most")
    parser.add_argument("--blank", type=int, default=2000, help="blank pictures and logos")
    parser.add_argument("--sizes", default="25000,250000", help="of vectors")
    parser.add_argument("--peers", action="store_true", help="hashes, FAISS and pynndescent, too")
    parser.add_argument("--workers", action="store_true", help="Ray's, one and two")
    arguments = parser.parse_args()
    parts = arguments.parts.split(",")
    # The server may write a little longer than it is waited for.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        settings = Settings(redis_url=None, ray_address=None, data_dir=Path(folder))
        with open_store(settings) as store:
            if "copies" in parts:
                for name in arguments.sets.split(","):
                    for draw in map(int, arguments.draws.split(",")):
                        count, others = arguments.photographs, arguments.distractors
                        drawn = Drawn(name, draw, count, others)
                        measure_copies(store, drawn, peers=arguments.peers)
            if "faces" in parts:
                _faces(store)
            if "blank" in parts:
                _blank(store, arguments.blank)
        if "vectors" in parts:
            for size in map(int, arguments.sizes.split(",")):
                measure_vectors(settings, size, peers=arguments.peers, workers=arguments.workers)


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
    for least in (SIMILAR, COPY, 0.97, 0.975, 0.98):
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
    for name in ("caltech-101", "grocery"):
        for path in copies.photographs(DATA / name):
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


if __name__ == "__main__":
    main()
