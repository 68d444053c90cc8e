"""The vectors that `bench.index` measures on, and what an exact search finds among them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Numbers = NDArray[np.int32]

OUT = Path(__file__).parent / "out"
QUERIES = 1000
NEIGHBOURS = 10
# Of each feature's deviation: the noise of a vector that is made by spreading.
NOISE = 0.35
SEED = 0
# Rows handled at once: a block of their scores with a thousand queries has 64 MB.
BLOCK = 16384
CROPS = 2
URI_BYTES = 60


@dataclass(frozen=True)
class Data:
    """Vectors to index, queries held out of them, and the exact answers.

    Attributes:
        sources: the photograph that each vector comes from.
        nearest: (q, 10) rows of the greatest cosine similarity to each query.
        nearest_others: the same among the rows of other photographs than the query's.
        own: how many rows are of the query's own photograph.
        real: how many of the first vectors are embeddings; the others were made by spreading.
    """

    vectors: Vectors
    sources: Numbers
    queries: Vectors
    query_sources: Numbers
    nearest: Numbers
    nearest_others: Numbers
    own: Numbers
    real: Numbers

    @classmethod
    def load(cls, folder: Path) -> Data:
        """Read what `save` wrote, into memory."""
        return cls(**{field.name: np.load(folder / f"{field.name}.npy") for field in fields(cls)})

    def save(self, folder: Path) -> None:
        """Write it to a folder, which is whole or absent."""
        unfinished = folder.with_name(folder.name + ".part")
        unfinished.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(unfinished / f"{field.name}.npy", getattr(self, field.name))
        unfinished.rename(folder)

    def head(self, size: int) -> Data:
        """The first rows alone, with answers of their own."""
        if size >= len(self.vectors):
            return self
        return _with_answers(
            self.vectors[:size], self.sources[:size], self.queries, self.query_sources, self.real
        )

    def ask(self, queries: int) -> Data:
        """The same rows, asked fewer queries."""
        fewer: dict[str, Any] = {
            name: getattr(self, name)[:queries]
            for name in ("queries", "query_sources", "nearest", "nearest_others", "own")
        }
        return replace(self, **fewer)


def uri(row: int) -> str:
    """The address of a row's image: 60 bytes, as a path of some depth has."""
    return f"file:///photographs/caltech-101/{row % 101:03d}/crop_{row:014d}.jpeg"


def row_of(address: str | bytes) -> int:
    """The row that an address is of."""
    text = address if isinstance(address, str) else address.decode()
    return int(text[41:55])


def prepare(*, vectors: Path, photos: Path | None, size: int | None) -> Path:
    """The folder with the data set of a size, made unless it is there already.

    Args:
        vectors: an .npz file with `vectors` (n, d) and `source` (n,).
        photos: a folder of photographs to embed crops of instead.
        size: vectors to index: fewer than there are, or more, made by spreading; None for all.
    """
    if not vectors.exists() and photos is None:
        raise SystemExit(f"{vectors} is not there: name a file with --vectors, or --photos FOLDER")
    name = f"photos-{photos.resolve().name}" if photos else vectors.stem
    folder = OUT / f"index-{name}-{size or 'all'}"
    if not folder.exists():
        print(f"making the data set in {folder}", file=sys.stderr, flush=True)
        _make(*(_from_photos(photos) if photos else _from_file(vectors)), size).save(folder)
    return folder


def _make(vectors: Vectors, sources: Numbers, size: int | None) -> Data:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.random.default_rng(SEED).permutation(len(vectors))
    queries = min(QUERIES, len(vectors) // 10)
    held_out, kept = np.sort(order[:queries]), np.sort(order[queries:])
    size = size or len(kept)
    rows, row_sources = vectors[kept][:size], sources[kept][:size]
    real = np.array(len(rows), dtype=np.int32)
    if size > len(kept):
        rows, row_sources = _spread(rows, row_sources, size)
    return _with_answers(rows, row_sources, vectors[held_out], sources[held_out], real)


def _with_answers(
    vectors: Vectors, sources: Numbers, queries: Vectors, query_sources: Numbers, real: Numbers
) -> Data:
    counts = np.bincount(sources, minlength=int(query_sources.max()) + 1)
    return Data(
        vectors=vectors,
        sources=sources,
        queries=queries,
        query_sources=query_sources,
        nearest=_exact(vectors, queries),
        nearest_others=_exact(vectors, queries, apart=(sources, query_sources)),
        own=counts[query_sources].astype(np.int32),
        real=real,
    )


def _exact(
    vectors: Vectors, queries: Vectors, *, apart: tuple[Numbers, Numbers] | None = None
) -> Numbers:
    """(q, 10) rows nearest to each query, the nearest first.

    Args:
        apart: a mark of each vector and of each query; those of equal marks do not count.
    """
    nearest = Nearest(queries)
    for start in range(0, len(vectors), BLOCK):
        block = queries @ vectors[start : start + BLOCK].T
        if apart is not None:
            marks, query_marks = apart
            block[query_marks[:, None] == marks[None, start : start + BLOCK]] = -np.inf
        nearest.see(block)
    return nearest.rows()


class Nearest:
    """The rows nearest to each of (q, d) queries, as blocks of rows go by."""

    def __init__(self, queries: Vectors) -> None:
        """None has been seen."""
        self._scores = np.full((len(queries), NEIGHBOURS), -np.inf, dtype=np.float32)
        self._rows = np.zeros((len(queries), NEIGHBOURS), dtype=np.int32)
        self._seen = 0

    def see(self, scores: Vectors) -> None:
        """Take the (q, n) scores of the next n rows into account."""
        # Once many have gone by, few are nearer than what there is.
        near = np.flatnonzero((scores > self._scores.min(axis=1)[:, None]).any(axis=0))
        every = np.hstack([self._scores, scores[:, near]])
        rows = np.hstack([self._rows, np.tile(self._seen + near, (len(scores), 1))])
        best = np.argpartition(-every, NEIGHBOURS - 1, axis=1)[:, :NEIGHBOURS]
        self._scores = np.take_along_axis(every, best, axis=1)
        self._rows = np.take_along_axis(rows, best, axis=1).astype(np.int32)
        self._seen += scores.shape[1]

    def rows(self) -> Numbers:
        """(q, 10) of all that were seen, the nearest first."""
        order = np.argsort(-self._scores, axis=1, kind="stable")
        return np.take_along_axis(self._rows, order, axis=1)


class Spreader:
    """More vectors of the same kind; an easy set, for it has far fewer independent directions.

    Each new one is a random convex mix of an embedding and two of its ten nearest neighbours,
    with noise, and counts as of that embedding's photograph.
    """

    def __init__(self, vectors: Vectors) -> None:
        """Spread these embeddings, (n, d)."""
        marks = np.arange(len(vectors), dtype=np.int32)
        self._near = np.vstack(
            [
                _exact(vectors, vectors[part], apart=(marks, marks[part]))
                for part in _parts(0, len(vectors), QUERIES)
            ]
        )
        self._vectors = vectors
        self._deviation = NOISE * vectors.std(axis=0)

    def more(self, count: int, random: np.random.Generator) -> tuple[Vectors, Numbers]:
        """(count, d) new vectors of length 1, and of which embedding each counts as."""
        vectors = self._vectors
        first = random.integers(len(vectors), size=count)
        pairs = np.argsort(random.random((count, NEIGHBOURS)), axis=1)[:, :2]
        corners = np.column_stack([first, np.take_along_axis(self._near[first], pairs, axis=1)])
        shares = random.dirichlet([1, 1, 1], size=count).astype(np.float32)
        block = random.standard_normal((count, vectors.shape[1]), dtype=np.float32)
        block *= self._deviation
        for corner, share in zip(corners.T, shares.T, strict=True):
            block += vectors[corner] * share[:, None]
        return block / np.linalg.norm(block, axis=1, keepdims=True), first.astype(np.int32)


def _spread(vectors: Vectors, sources: Numbers, size: int) -> tuple[Vectors, Numbers]:
    spreader = Spreader(vectors)
    spread = np.empty((size, vectors.shape[1]), dtype=np.float32)
    origin = np.empty(size, dtype=np.int32)
    spread[: len(vectors)], origin[: len(vectors)] = vectors, np.arange(len(vectors))
    random = np.random.default_rng(SEED)
    for part in _parts(len(vectors), size, BLOCK):
        spread[part], origin[part] = spreader.more(part.stop - part.start, random)
    return spread, sources[origin]


def _parts(start: int, stop: int, step: int) -> list[slice]:
    return [slice(first, min(first + step, stop)) for first in range(start, stop, step)]


def _from_file(path: Path) -> tuple[Vectors, Numbers]:
    with np.load(path, allow_pickle=False) as file:
        return file["vectors"].astype(np.float32), file["source"].astype(np.int32)


def _from_photos(folder: Path) -> tuple[Vectors, Numbers]:
    """Photographs and random crops of them (35 to 80 % of the area), embedded."""
    from simdist.embedding import Embedder
    from simdist.images.decoding import open_image
    from simdist.sources import ImageRef, list_folder, uri_path

    embedder = Embedder.load("efficientnet-lite0")
    size = embedder.model.preprocessing.size
    random = np.random.default_rng(SEED)
    refs = sorted((r for r in list_folder(folder) if isinstance(r, ImageRef)), key=lambda r: r.uri)
    found = []
    for ref in refs:
        picture = open_image(uri_path(ref.uri).read_bytes())
        boxes = [(0.0, 0.0, 1.0)]
        sides = np.sqrt(random.uniform(0.35, 0.8, CROPS))
        boxes += [(*random.uniform(0, 1 - side, 2), side) for side in sides]
        pixels = []
        for left, top, side in boxes:
            box = np.array([left, top, left + side, top + side]) * (picture.size * 2)
            pixels.append(np.asarray(picture.resize((size, size), box=tuple(box))))
        found.append(embedder.embed(np.stack(pixels)))
    sources = np.repeat(np.arange(len(found), dtype=np.int32), CROPS + 1)
    return np.vstack(found), sources
