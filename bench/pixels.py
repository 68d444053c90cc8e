"""What do a picture's way to the network's square, the network and its pooling do to what is found?

    python -m bench.pixels [FOLDER ...] [--each 20] [--plans NAME ...]

Each folder is a set of photographs whose subfolders are categories: by default Caltech-101 and
groceries. Of each category some are embedded in each way; each is then searched for among all
others of its set, by exact search. Prints for each set the share of queries whose nearest
neighbour is of their category, and precision@5 and @10 (means over the queries), and what an image
costs: milliseconds of one thread for decoding and the network, and that relative to the first way,
which is always measured in the same run, the ways taking turns.

Vectors are kept in bench/out/, since they take minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from simdist.embedding import Embedder, Preprocessing, load_model
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
        box = self.resize.box(*picture.size)
        width, height = (box[2] - box[0]) * self.share, (box[3] - box[1]) * self.share
        left, upper = (picture.width - width) / 2, (picture.height - height) / 2
        sides = (self.size, self.size)
        if self.aspect:
            longer = (width / height) ** 0.5
            sides = _to_32(self.size * longer), _to_32(self.size / longer)
        part = left, upper, left + width, upper + height
        return np.asarray(picture.resize(sides, Image.Resampling.BILINEAR, box=part))


@dataclass(frozen=True)
class Row:
    """What was measured of a plan and one kind of vectors: of each set, what `_scores` gives."""

    plan: str
    decode_ms: float
    network_ms: float
    vectors: str
    scores: dict[str, tuple[float, float, float]]


LITE0, LITE2 = "efficientnet-lite0", "efficientnet-lite2"
TODAY = Way(LITE0, 224)
# Each is one way, or several whose vectors are put behind each other; the first is what the others
# are compared with.
PLANS: list[tuple[Way, ...]] = [
    (TODAY,),
    (Way(LITE0, 224, Resize.trim),),
    (Way(LITE0, 224, Resize.crop),),
    (Way(LITE0, 224, Resize.crop, 0.875),),
    (Way(LITE0, 224, aspect=True),),
    (Way(LITE0, 256, Resize.trim),),
    (Way(LITE2, 192, Resize.trim),),
    (Way(LITE2, 224, Resize.trim),),
    (Way(LITE2, 256, Resize.trim),),
    (TODAY, Way(LITE0, 224, Resize.crop)),
    (Way(LITE0, 224, Resize.trim), Way(LITE2, 192, Resize.trim)),
]


def main() -> None:
    """Print a row for each way and each kind of vectors, and write `bench/out/pixels.json`."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description="Measure ways from pictures to vectors.")
    parser.add_argument(
        "sets", type=Path, nargs="*", default=[DATA / "caltech-101", DATA / "grocery"]
    )
    parser.add_argument("--each", type=int, default=20, help="photographs of each category")
    parser.add_argument("--plans", nargs="+", choices=[_name(plan) for plan in PLANS])
    options = parser.parse_args()
    plans = [p for p in PLANS if p is PLANS[0] or _name(p) in (options.plans or map(_name, PLANS))]
    OUT.mkdir(exist_ok=True)
    samples = {folder.name: _sample(folder, options.each) for folder in options.sets}
    ways = {way.name: way for plan in plans for way in plan}
    costs = _costs(ways, [path for paths, _ in samples.values() for path in paths[:TIMED]])
    rows: list[Row] = []
    for plan in plans:
        found = {
            name: (_kinds([_pooled(way, name, paths) for way in plan]), labels)
            for name, (paths, labels) in samples.items()
        }
        decode, network = np.sum([costs[way.name] for way in plan], axis=0)
        row = partial(Row, _name(plan), decode_ms=decode, network_ms=network)
        rows += _rows(row, found, sum(costs[TODAY.name]))
    OUT.joinpath("pixels.json").write_text(json.dumps([asdict(row) for row in rows], indent=2))


def _name(plan: Sequence[Way]) -> str:
    return "+".join(way.name for way in plan)


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


def _pooled(way: Way, name: str, paths: Sequence[Path]) -> Vectors:
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
        return dict(stored)


def _kinds(pooled: Sequence[Vectors]) -> Vectors:
    """The vectors of a plan's ways behind each other, and what can be made of them for nothing."""
    kinds = {kind: np.hstack([_unit(vectors[kind]) for vectors in pooled]) for kind in pooled[0]}
    mean = kinds["mean"]
    kinds["mean, square root"] = np.sqrt(mean)
    kinds["mean, centred"] = mean - mean.mean(axis=0)
    kinds["mean, half whitened to 128"] = _half_whitened(mean)
    return kinds


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


def _costs(ways: Mapping[str, Way], paths: Sequence[Path]) -> dict[str, tuple[float, float]]:
    """Milliseconds of one thread for an image: decoding, and the network."""
    files = [path.read_bytes() for path in paths]
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    models = {name: _Maps(way) for name, way in ways.items()}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            maps = models[name]
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
            spent[name].append((decoded - start, time.process_time() - decoded))
    each = 1000 / len(files)
    return {
        name: (each * median(d for d, _ in times), each * median(n for _, n in times))
        for name, times in spent.items()
    }


def _rows(
    row: Callable[..., Row], found: dict[str, tuple[Vectors, NDArray[np.int64]]], today: float
) -> list[Row]:
    rows = []
    for kind in next(iter(found.values()))[0]:
        scores = {
            name: _scores(_unit(vectors[kind]), labels) for name, (vectors, labels) in found.items()
        }
        one = row(vectors=kind, scores=scores)
        cost = one.decode_ms + one.network_ms
        means = np.mean(list(scores.values()), axis=0)
        figures = "   ".join(
            " ".join(f"{score:.3f}" for score in three) for three in [*scores.values(), means]
        )
        print(f"{one.plan:33} {kind:26} {cost:6.1f} {cost / today:5.2f}   {figures}", flush=True)
        rows.append(one)
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
