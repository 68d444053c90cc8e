"""Photographs with copies of them, and collections of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from simdist.embedding import Embedder
from simdist.index.collection import Collection
from simdist.prints.prints import TINY, is_tiny, prints_of
from simdist.sources import ImageRef, file_uri
from simdist.store import Store
from tests.conftest import PHOTOS

# The copied photographs, by name, and what is made of each.
COPIED = ("animals/bison", "animals/cat-face", "fish/boarfish")
SAME = ("small", "poor", "trimmed", "grey")


def make_copies(folder: Path, others: int = 12) -> list[Path]:
    """Write photographs and copies of three of them to a folder; returns all paths, sorted."""
    for name in COPIED:
        picture = Image.open(PHOTOS / f"{name}.jpg").convert("RGB")
        width, height = picture.size
        stem = name.partition("/")[2]
        picture.save(folder / f"{stem}.jpg", quality=95)
        picture.resize((width // 3, height // 3)).save(folder / f"{stem}-small.png")
        picture.save(folder / f"{stem}-poor.jpg", quality=15)
        trimmed = picture.crop((width // 25, height // 25, width, height))
        trimmed.save(folder / f"{stem}-trimmed.jpg")
        ImageOps.grayscale(picture).save(folder / f"{stem}-grey.jpg")
        half = picture.crop((width // 5, height // 10, width * 9 // 10, height * 8 // 10))
        half.save(folder / f"{stem}-part.jpg")
        ImageOps.mirror(picture).save(folder / f"{stem}-mirrored.jpg")
    for number, shade in enumerate(("white", "black", "#ddeeff")):
        Image.new("RGB", (300, 200), shade).save(folder / f"blank-{number}.png")
        Image.new("RGB", (20, 20), shade).save(folder / f"tiny-{number}.png")
    copied = {PHOTOS / f"{name}.jpg" for name in COPIED}
    rest = [path for path in sorted(PHOTOS.rglob("*.jpg")) if path not in copied]
    for path in rest[:: len(rest) // others][:others]:
        (folder / path.name).write_bytes(path.read_bytes())
    return sorted(folder.iterdir())


def index(
    store: Store,
    embedder: Embedder,
    paths: Sequence[Path],
    *,
    name: str = "copies",
    partitions: int = 1,
    prints: bool = True,
) -> Collection:
    """Index images as an ingest does, in the order in which they are given."""
    collection = Collection.ensure(store, name, model=embedder.model, partitions=partitions)
    vectors, refs = embedded(embedder, paths)
    collection.add(vectors, refs if prints else [replace(ref, look=b"") for ref in refs])
    return collection


def embedded(
    embedder: Embedder, paths: Sequence[Path]
) -> tuple[NDArray[np.float32], list[ImageRef]]:
    """Images as an ingest has them before it commits them."""
    data = [path.read_bytes() for path in paths]
    pixels = np.stack([embedder.model.preprocessing.pixels(one) for one in data])
    both = zip(data, prints_of(pixels), strict=True)
    looks = [TINY if is_tiny(one) else look for one, look in both]
    refs = [
        ImageRef(file_uri(path), str(len(one)), len(one), None, look=look)
        for path, one, look in zip(paths, data, looks, strict=True)
    ]
    return embedder.embed(pixels), refs
