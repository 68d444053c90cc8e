"""What do a picture's way to the network's square, the network and its pooling do to what is found?

    python -m bench.pixels [FOLDER ...] [--each 20] [--ways NAME ...]

Each folder is a set of photographs whose subfolders are categories: by default Caltech-101 and
groceries. Of each category some are embedded in each way; each is then searched for among all
others of its set, by exact search. Prints for each set the share of queries whose nearest
neighbour is of their category, and precision@5 and @10 (means over the queries), and what an image
costs: milliseconds of one thread for decoding and for the network, and both together relative to
the first way, which is always measured in the same run, the ways taking turns.

Vectors are kept in bench/out/, since they take minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray

from simdist.embedding import Embedder, load_model
from simdist.embedding.backbones import Preprocessing
from simdist.images.decoding import open_image
from simdist.images.limits import Pixels
from simdist.images.resizing import Resize

OUT = Path(__file__).parent / "out"
DATA = Path("../shared/data")
LEFT_OUT = {"BACKGROUND_Google", "Faces_easy"}  # clutter, and crops of another category
BATCH = 4
TIMED = 32  # photographs of each set whose cost is measured, in some rounds
ROUNDS = 5

# Of a set: what its vectors are called, and they, (n, dim).
Vectors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Way:
    """How a picture becomes a map of features.

    Attributes:
        share: of both sides of what `resize` takes, the part in the middle that is kept.
        aspect: the picture keeps its shape, at the area of the square, to multiples of 32 pixels.
    """

    model: str
    size: int
    resize: Resize = Resize.squash
    share: float = 1.0
    aspect: bool = False

    @property
    def name(self) -> str:
        kind = "aspect" if self.aspect else str(self.resize)
        share = "" if self.share == 1 else f"-{self.share}"
        return f"{self.model.removeprefix('efficientnet-')}-{self.size}-{kind}{share}"

    def pixels(self, data: bytes, usual: Preprocessing) -> Pixels:
        """(height, width, 3) uint8."""
        if self.share == 1 and not self.aspect:
            return replace(usual, size=self.size, resize=self.resize).pixels(data)
        picture = open_image(data, at_least=self.size)
        left, upper, right, lower = self.resize.box(*picture.size)
        width, height = (right - left) * self.share, (lower - upper) * self.share
        left, upper = (picture.width - width) / 2, (picture.height - height) / 2
        sides = (self.size, self.size)
        if self.aspect:
            longer = (width / height) ** 0.5
            sides = _to_32(self.size * longer), _to_32(self.size / longer)
        box = (left, upper, left + width, upper + height)
        return np.asarray(picture.resize(sides, 2, box=box))


@dataclass
class Row:
    """What was measured of one way and one kind of vectors."""

    way: str
    vectors: str
    decode_ms: float
    network_ms: float
    relative: float
    scores: dict[str, tuple[float, float, float]] = field(default_factory=dict)


WAYS = [
    Way("efficientnet-lite0", 224),
    Way("efficientnet-lite0", 224, Resize.trim),
    Way("efficientnet-lite0", 224, Resize.crop),
    Way("efficientnet-lite0", 224, Resize.crop, 0.875),
    Way("efficientnet-lite0", 224, aspect=True),
    Way("efficientnet-lite0", 256),
    Way("efficientnet-lite2", 192, Resize.trim),
    Way("efficientnet-lite2", 224),
    Way("efficientnet-lite2", 224, Resize.trim),
    Way("efficientnet-lite2", 256, Resize.trim),
]


def main() -> None:
    """Print a row for each way and each kind of vectors, and write `bench/out/pixels.json`."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description="Measure ways from pictures to vectors.")
    parser.add_argument(
        "sets", type=Path, nargs="*", default=[DATA / "caltech-101", DATA / "grocery"]
    )
    parser.add_argument("--each", type=int, default=20, help="photographs of each category")
    names = [way.name for way in WAYS[1:]]
    parser.add_argument("--ways", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    ways = [WAYS[0], *(way for way in WAYS if way.name in options.ways)]
    OUT.mkdir(exist_ok=True)
    samples = {folder.name: _sample(folder, options.each) for folder in options.sets}
    costs = _costs(ways, [path for paths, _ in samples.values() for path in paths[:TIMED]])
    rows = []
    for way in ways:
        found = {
            name: (_vectors(way, name, paths), labels) for name, (paths, labels) in samples.items()
        }
        rows += _rows(way, found, costs, sum(costs[ways[0].name]))
    OUT.joinpath("pixels.json").write_text(json.dumps([asdict(row) for row in rows], indent=2))


def _sample(folder: Path, each: int) -> tuple[list[Path], NDArray[np.int64]]:
    """Some photographs of each category, and the number of each one's category."""
    dice = random.Random(0)
    files: list[Path] = []
    labels: list[int] = []
    categories = [p for p in sorted(folder.iterdir()) if p.is_dir() and p.name not in LEFT_OUT]
    for number, category in enumerate(categories):
        photos = sorted(path for path in category.rglob("*") if path.is_file())
        picked = dice.sample(photos, min(each, len(photos)))
        files += picked
        labels += [number] * len(picked)
    return files, np.array(labels)


def _to_32(side: float) -> int:
    return max(32, round(side / 32) * 32)


class _Maps:
    """A model as simdist runs it, and the map of features of what it was last given."""

    def __init__(self, way: Way) -> None:
        model = load_model(way.model)
        model = replace(model, preprocessing=replace(model.preprocessing, size=way.size))
        self.embedder = Embedder(model, device="cpu")
        self.usual = model.preprocessing
        self._map: torch.Tensor | None = None
        self.embedder._network.get_submodule("_avg_pooling").register_forward_pre_hook(self._keep)

    def _keep(self, _layer: object, inputs: tuple[torch.Tensor, ...]) -> None:
        self._map = inputs[0]

    def of(self, pixels: Pixels) -> torch.Tensor:
        """(n, height, width, 3) uint8, at most a batch -> (n, channels, h, w) float32."""
        # Past `embed`, which takes squares only.
        with torch.inference_mode():
            self.embedder._forward(torch.from_numpy(np.require(pixels, requirements=["C", "W"])))
            assert self._map is not None
            return self._map.float()


def _vectors(way: Way, name: str, paths: Sequence[Path]) -> Vectors:
    """Pooled in each way, of all photographs of a set."""
    listed = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()[:8]
    kept = OUT / f"pixels-{name}-{listed}-{way.name}.npz"
    if not kept.exists():
        maps = _Maps(way)
        rows: dict[str, NDArray[np.float32]] = {}
        for numbers, pixels in _batches(way, maps.usual, paths):
            features = maps.of(pixels)
            for pooling, values in {
                "mean": features.mean((2, 3)),
                "GeM p=2": features.pow(2).mean((2, 3)).sqrt(),
                "GeM p=3": features.pow(3).mean((2, 3)).pow(1 / 3),
                "mean within the border": features[:, :, 1:-1, 1:-1].mean((2, 3)),
            }.items():
                shape = len(paths), values.shape[1]
                rows.setdefault(pooling, np.empty(shape, np.float32))[numbers] = values.numpy()
        np.savez(kept, **rows)  # type: ignore[arg-type]
    with np.load(kept) as stored:
        pooled: Vectors = dict(stored)
    mean = pooled["mean"]
    return {
        **pooled,
        "mean, square root": np.sqrt(mean),
        "mean, centred": _unit(mean) - _unit(mean).mean(axis=0),
        "GeM p=2, centred": _unit(pooled["GeM p=2"]) - _unit(pooled["GeM p=2"]).mean(axis=0),
        "mean, half whitened to 128": _half_whitened(_unit(mean)),
    }


def _batches(
    way: Way, usual: Preprocessing, paths: Sequence[Path]
) -> Iterator[tuple[list[int], Pixels]]:
    """Numbers of photographs of one shape, and their pixels."""
    waiting: dict[tuple[int, ...], list[tuple[int, Pixels]]] = {}
    for number, path in enumerate(paths):
        pixels = way.pixels(path.read_bytes(), usual)
        some = waiting.setdefault(pixels.shape, [])
        some.append((number, pixels))
        if len(some) == BATCH:
            del waiting[pixels.shape]
            yield [n for n, _ in some], np.stack([p for _, p in some])
    for some in waiting.values():
        yield [n for n, _ in some], np.stack([p for _, p in some])


def _costs(ways: Sequence[Way], paths: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """Milliseconds of one thread for an image: decoding, and the network."""
    files = [path.read_bytes() for path in paths]
    spent: dict[str, list[tuple[float, float]]] = {way.name: [] for way in ways}
    models = {way.name: _Maps(way) for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            maps = models[way.name]
            start = time.process_time()
            pixels = [way.pixels(data, maps.usual) for data in files]
            decoded = time.process_time()
            for at in range(0, len(files), BATCH):
                some = pixels[at : at + BATCH]
                if len({one.shape for one in some}) == 1:
                    maps.of(np.stack(some))
                else:
                    for one in some:
                        maps.of(one[None])
            spent[way.name].append((decoded - start, time.process_time() - decoded))
    each = 1000 / len(files)
    return {
        name: (each * median(d for d, _ in times), each * median(n for _, n in times))
        for name, times in spent.items()
    }


def _rows(
    way: Way,
    found: dict[str, tuple[Vectors, NDArray[np.int64]]],
    costs: dict[str, tuple[float, float]],
    usual: float,
) -> list[Row]:
    decode, network = costs[way.name]
    rows = []
    for kind in next(iter(found.values()))[0]:
        row = Row(way.name, kind, decode, network, (decode + network) / usual)
        for name, (vectors, labels) in found.items():
            row.scores[name] = _scores(_unit(vectors[kind]), labels)
        means = np.mean(list(row.scores.values()), axis=0)
        figures = "   ".join(
            " ".join(f"{score:.3f}" for score in scores) for scores in [*row.scores.values(), means]
        )
        cost = f"{decode:6.1f} {network:6.1f} {row.relative:6.2f}"
        print(f"{row.way:24} {kind:28} {cost}   {figures}", flush=True)
        rows.append(row)
    return rows


def _scores(vectors: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float, float]:
    """Leave-one-out: the nearest neighbour's category is right, precision@5, precision@10."""
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -np.inf)
    same = labels[np.argsort(-similar, axis=1)[:, :10]] == labels[:, None]
    return float(same[:, 0].mean()), float(same[:, :5].mean()), float(same.mean())


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return values


def _half_whitened(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """128 principal components of the set's own, each divided by the root of its deviation."""
    centred = rows - rows.mean(axis=0)
    variances, axes = np.linalg.eigh(centred.T @ centred / len(centred))
    halved: NDArray[np.float32] = (centred @ axes[:, -128:]) / variances[-128:] ** 0.25
    return halved


if __name__ == "__main__":
    main()
