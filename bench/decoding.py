"""How fast are photographs decoded to a network's square, and does the way change what is found?

Speed: processor time of one thread, the variants in turns, on photographs as they are and enlarged
to those of a camera. Retrieval: leave-one-out over some categories, by exact cosine similarity.

    python -m bench.decoding [FOLDER] [--rounds 5]
"""

from __future__ import annotations

import argparse
import io
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simdist.images.decoding import decode
from simdist.images.limits import Pixels

OUT = Path(__file__).parent / "out" / "decoding.json"
SOURCE = Path("../shared/data/caltech-101")
MODEL = "efficientnet-lite0"
SIZE = 224
CAMERA = (2000, 1500)
CATEGORIES, IN_EACH = 30, 20
LEFT_OUT = {"BACKGROUND_Google", "Faces_easy"}  # clutter, and crops of another category
BILINEAR, BICUBIC = Image.Resampling.BILINEAR, Image.Resampling.BICUBIC

Decoder = Callable[[bytes], Pixels]


@dataclass(frozen=True)
class Speed:
    """Images a second of one thread; `relative` to plain decoding."""

    photographs: str
    variant: str
    per_s: float
    relative: float


@dataclass(frozen=True)
class Retrieval:
    """Leave-one-out: is the nearest of the same category, and how many of the nearest five?

    `cosine` is the mean similarity of an embedding to that of the plainly decoded photograph.
    """

    photographs: str
    variant: str
    nearest: float
    precision_at_5: float
    cosine: float


def main() -> None:
    """Print both tables and write `bench/out/decoding.json`."""
    import torch

    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description="Measure the decoding of photographs.")
    parser.add_argument("source", type=Path, nargs="?", default=SOURCE, help="categories in it")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    files, labels = _sample(options.source)
    sets = {"as they are": files, "{}x{}".format(*CAMERA): [_enlarged(data) for data in files]}
    speeds = [
        row
        for (name, data), every in zip(sets.items(), (1, 10), strict=True)
        for row in _speeds(name, data[::every], options.rounds)
    ]
    found = [row for name, data in sets.items() for row in _retrieval(name, data, labels)]
    OUT.parent.mkdir(exist_ok=True)
    rows = {"speed": [asdict(s) for s in speeds], "retrieval": [asdict(r) for r in found]}
    OUT.write_text(json.dumps(rows, indent=2) + "\n")
    print(f"written to {OUT}")


def _sample(source: Path) -> tuple[list[bytes], NDArray[np.int64]]:
    """Some photographs of some categories, and the number of each one's category."""
    dice = random.Random(0)
    folders = [p for p in sorted(source.iterdir()) if p.is_dir() and p.name not in LEFT_OUT]
    photos = [sorted(folder.glob("*.jpg")) for folder in folders]
    picked = dice.sample([paths for paths in photos if len(paths) >= IN_EACH], CATEGORIES)
    files = [path.read_bytes() for paths in picked for path in dice.sample(paths, IN_EACH)]
    return files, np.repeat(np.arange(CATEGORIES), IN_EACH)


def _enlarged(data: bytes) -> bytes:
    """As from a camera: many pixels, with grain."""
    dice = np.random.default_rng(len(data))
    large = Image.open(io.BytesIO(data)).convert("RGB").resize(CAMERA, Image.Resampling.LANCZOS)
    grain = dice.normal(0, 4, (CAMERA[1], CAMERA[0], 1)).astype(np.float32)
    file = io.BytesIO()
    Image.fromarray(np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8)).save(
        file, "JPEG", quality=90
    )
    return file.getvalue()


def _pillow(data: bytes, *, at_least: int = 0, filter_: Image.Resampling = BILINEAR) -> Pixels:
    """By Pillow; with `at_least` at a scale that leaves that many pixels to both sides."""
    picture = Image.open(io.BytesIO(data))
    if at_least:
        picture.draft("RGB", (at_least, at_least))
    return np.asarray(picture.convert("RGB").resize((SIZE, SIZE), filter_))


def _pillow_gap(data: bytes) -> Pixels:
    picture = Image.open(io.BytesIO(data)).convert("RGB")
    return np.asarray(picture.resize((SIZE, SIZE), BILINEAR, reducing_gap=2.0))


def _pillow_torch(data: bytes) -> Pixels:
    picture = Image.open(io.BytesIO(data))
    picture.draft("RGB", (2 * SIZE, 2 * SIZE))
    return _torch_resize(np.array(picture.convert("RGB")))


def _simplejpeg_pillow(data: bytes) -> Pixels:
    import simplejpeg

    width, height = Image.open(io.BytesIO(data)).size
    scale = max((s for s in (1, 2, 4, 8) if min(width, height) >= s * 2 * SIZE), default=1)
    pixels = simplejpeg.decode_jpeg(
        data, "RGB", min_width=-(-width // scale), min_height=-(-height // scale)
    )
    return np.asarray(Image.fromarray(pixels).resize((SIZE, SIZE), BILINEAR))


def _torchvision(data: bytes) -> Pixels:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    return _torch_resize(decode_jpeg(encoded, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy())


def _torch_resize(pixels: Pixels) -> Pixels:
    from torch import from_numpy
    from torch.nn.functional import interpolate

    planes = from_numpy(pixels)[None].permute(0, 3, 1, 2)
    resized = interpolate(planes, size=(SIZE, SIZE), mode="bilinear", antialias=True)
    return np.asarray(resized[0].permute(1, 2, 0))


def _simdist(data: bytes) -> Pixels:
    return decode(data, size=SIZE)


def _to_the_square(data: bytes) -> Pixels:
    return _pillow(data, at_least=SIZE)


def _bicubic(data: bytes) -> Pixels:
    return _pillow(data, filter_=BICUBIC)


SPEED: dict[str, Decoder] = {
    "Pillow, full scale (plain)": _pillow,
    "Pillow, reducing_gap=2": _pillow_gap,
    "Pillow, bicubic": _bicubic,
    "Pillow, reduced scale, twice the square": lambda data: _pillow(data, at_least=2 * SIZE),
    "Pillow, reduced scale, once the square": _to_the_square,
    "Pillow, reduced scale, torch's resize": _pillow_torch,
    "torchvision, full scale, torch's resize": _torchvision,
    "simplejpeg, reduced scale, Pillow's resize": _simplejpeg_pillow,
    "simdist: simplejpeg, reduced, torch's resize": _simdist,
}
RETRIEVAL: dict[str, Decoder] = {
    "plain": _pillow,
    "simdist": _simdist,
    "reduced scale, once the square": _to_the_square,
    "bicubic": _bicubic,
}


def _speeds(name: str, files: list[bytes], rounds: int) -> list[Speed]:
    seconds: dict[str, list[float]] = {variant: [] for variant in SPEED}
    for run in SPEED.values():
        run(files[0])  # loads what it needs
    for _ in range(rounds):
        for variant, run in SPEED.items():
            start = time.process_time()
            for data in files:
                run(data)
            seconds[variant].append(time.process_time() - start)
    kilobytes = sum(map(len, files)) / len(files) / 1000
    print(f"\n{len(files)} photographs, {name}, {kilobytes:.0f} kB each")
    plain = median(next(iter(seconds.values())))
    rows = []
    for variant, took in seconds.items():
        row = Speed(name, variant, len(files) / median(took), plain / median(took))
        print(f"{variant:48}{row.per_s:8.0f}/s{row.relative:7.2f}", flush=True)
        rows.append(row)
    return rows


def _retrieval(name: str, files: list[bytes], labels: NDArray[np.int64]) -> list[Retrieval]:
    from simdist.embedding import Embedder

    embedder = Embedder.load(MODEL, device="cpu")
    print(f"\n{len(files)} photographs, {name}: nearest, precision@5, cosine to plain")
    plain: NDArray[np.float32] | None = None
    rows = []
    for variant, run in RETRIEVAL.items():
        vectors = embedder.embed(np.stack([run(data) for data in files]))
        plain = vectors if plain is None else plain
        similar = vectors @ vectors.T
        np.fill_diagonal(similar, -np.inf)
        same = labels[np.argsort(-similar, axis=1)[:, :5]] == labels[:, None]
        cosine = float((vectors * plain).sum(axis=1).mean())
        row = Retrieval(name, variant, float(same[:, 0].mean()), float(same.mean()), cosine)
        print(f"{variant:48}{row.nearest:8.3f}{row.precision_at_5:8.3f}{cosine:9.4f}", flush=True)
        rows.append(row)
    return rows


if __name__ == "__main__":
    main()
