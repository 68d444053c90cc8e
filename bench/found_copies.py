"""What is found of copies of known strength: part (a) of `make bench-duplicates`.

Beside simdist, on the same pictures: the cosine of the embeddings alone, and the hashes of
imagededup and pdqhash, in an environment of their own.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from bench import copies
from bench.indexer import Indexer
from bench.peers.hashes import hashed
from simdist.joining.duplicates import find_duplicates
from simdist.joining.judging import COPY
from simdist.joining.whole import Whole
from simdist.store import Store

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
_ORIGINAL = "original"


@dataclass(frozen=True)
class Drawn:
    """Photographs of a set that are copied, and others, as a seed draws them."""

    name: str
    seed: int
    copied: int
    others: int

    def pictures(self) -> Pictures:
        """They, and what is made of them."""
        generator = np.random.default_rng(self.seed)
        paths = copies.photographs(DATA / self.name)
        order = generator.permutation(len(paths))[: self.copied + self.others]
        files: list[bytes] = []
        sources: list[int] = []
        ways: list[str] = []
        for number, path in enumerate(paths[i] for i in order):
            files.append(path.read_bytes())
            sources.append(number if number < self.copied else -1)
            ways.append(_ORIGINAL if number < self.copied else "")
            if number >= self.copied:
                continue
            picture = Image.open(path).convert("RGB")
            for way, make in copies.ways().items():
                files.append(copies.encoded(make(picture, generator)))
                sources.append(number)
                ways.append(way)
        return Pictures(files, np.array(sources), np.array(ways))


@dataclass(frozen=True)
class Pictures:
    """n pictures: files, the number of the photograph that each is a copy of, and how it was made.

    Attributes:
        sources: (n,), -1 for what is nobody's copy.
        ways: (n,) names of `copies.ways`, "original", or empty.
    """

    files: list[bytes]
    sources: NDArray[np.int64]
    ways: NDArray[np.str_]

    @property
    def originals(self) -> NDArray[np.int64]:
        """Their numbers."""
        return np.flatnonzero(self.ways == _ORIGINAL)


def measure_copies(store: Store, drawn: Drawn, *, peers: bool) -> None:
    """Print what is found of the pairs of an original with a copy or another photograph."""
    pictures = drawn.pictures()
    made = list(copies.ways())
    print(
        f"\n(a) {drawn.name}, draw {drawn.seed}: {drawn.copied} photographs, {len(made)} copies "
        f"of each, {(pictures.sources < 0).sum():,} others"
    )
    indexer = Indexer(store, f"copies-{drawn.name}-{drawn.seed}")
    for number, data in enumerate(pictures.files):
        indexer.add(f"urn:{number:06}", data)
    indexer.flush()
    started = time.process_time()
    found = find_duplicates(indexer.collection, turns=True)
    print(f"  simdist, turned, too: {time.process_time() - started:.0f} core seconds")
    # In the order of their URIs images are numbered as the pictures are.
    scores = np.full((len(pictures.originals), len(pictures.files)), -1, np.float32)
    row = np.full(len(pictures.files), -1)
    row[pictures.originals] = np.arange(len(pictures.originals))
    for one, other in (found.pairs.numbers.T, found.pairs.numbers.T[::-1]):
        asked = row[one] >= 0
        scores[row[one[asked]], other[asked]] = found.pairs.scores[asked]
    _report(pictures, f"score >= {COPY}", scores, COPY)
    for way in made:
        own = scores[_own(pictures, pictures.ways == way)]
        print(f"    {way:17} recall {(own >= COPY).mean():.2f}")
    _report(pictures, "cosine alone, >= .95", _cosines(found.whole, pictures.originals), 0.95)
    if peers:
        with tempfile.TemporaryDirectory() as folder:
            for peer in hashed(pictures.files, Path(folder)):
                print(f"  {peer.name}: {peer.seconds / len(pictures.files) * 1e3:.1f} ms an image")
                likeness = peer.likeness(pictures.originals)
                _report(pictures, f"{peer.name}, {peer.rule}", likeness, peer.least)


def _own(pictures: Pictures, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(originals, n) which pairs are of an original and a copy of it that is chosen."""
    same = pictures.sources == pictures.sources[pictures.originals][:, None]
    own: NDArray[np.bool_] = same & chosen
    return own


def _report(pictures: Pictures, rule: str, scores: NDArray[np.float32], least: float) -> None:
    """Print micro-AP, and precision and recall at a threshold.

    Args:
        scores: (originals, n) of all pairs.
    """
    for label, group in (("all", list(copies.ways())), ("imagededup's", copies.IMAGEDEDUP)):
        chosen = np.isin(pictures.ways, group)
        asked = chosen | (pictures.sources < 0)
        right = _own(pictures, chosen)[:, asked].ravel()
        flat = scores[:, asked].ravel()
        taken = flat >= least
        wrong = int((~right[taken]).sum())
        print(
            f"  {rule}, of {label} changes: micro-AP {_ap(flat, right):.3f}, "
            f"precision {right[taken].mean() if taken.any() else 1:.4f} ({wrong} wrong), "
            f"recall {right[taken].sum() / right.sum():.3f}",
            flush=True,
        )


def _ap(scores: NDArray[Any], right: NDArray[Any]) -> float:
    """The mean of the precision at each pair that is right, over all pairs at once.

    Pairs that were not looked at have no score: they are not found.
    """
    ordered = right[np.argsort(-scores, kind="stable")][: int((scores > -1).sum())]
    precision = np.cumsum(ordered) / np.arange(1, len(ordered) + 1)
    return float((precision * ordered).sum() / right.sum())


def _cosines(whole: Whole, images: NDArray[Any]) -> NDArray[np.float32]:
    """Of some images with all."""
    slots = whole.slots
    vectors = whole.values[slots] * whole.inverse_lengths[slots][:, None]
    cosines: NDArray[np.float32] = vectors[images] @ vectors.T
    return cosines
