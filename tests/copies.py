"""Photographs with copies of them, and collections of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from simdist.embedding import Embedder, Model
from simdist.images.facts import facts
from simdist.images.opening import open_file
from simdist.index.collection import Collection
from simdist.prints.prints import TINY, is_tiny, prints_of
from simdist.sources import ImageRef, file_uri, list_folder, uri_path
from simdist.store import Store
from simdist.vectors.checks import normalised
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


def make_groups(folder: Path, count: int) -> None:
    """Write so many photographs to a folder, each in two or three sizes, forms and of two dates."""
    sources = sorted(PHOTOS.rglob("*.jpg"))
    for number in range(count):
        picture = Image.open(sources[number % len(sources)]).convert("RGB")
        turn = number // len(sources)
        picture = picture.rotate(turn * 45).resize((240, 180)) if turn else picture
        exif = Image.Exif()
        exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] = "2019:05:01 10:00:00"
        picture.save(folder / f"{number:04}-a.jpg", quality=90, exif=exif)
        small = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3))
        small.save(folder / f"{number:04}-b.jpg", quality=60)
        if number % 3 == 0:
            small.save(folder / f"{number:04}-c.webp", quality=50)


def index_groups(store: Store, model: Model, folder: Path, *, name: str = "groups") -> Collection:
    """Index such a folder with all that an ingest notes, but vectors of which each group has one.

    Nothing needs to be embedded, and 1,200 groups are there in seconds.
    """
    collection = Collection.ensure(store, name, model=model)
    refs = [ref for ref in list_folder(folder) if isinstance(ref, ImageRef)]
    refs = [replace(ref, metadata=facts(open_file(uri_path(ref.uri).read_bytes()))) for ref in refs]
    values = np.random.default_rng(1).standard_normal((len(refs), model.dim)).astype(np.float32)
    groups = [int(ref.uri.rpartition("/")[2][:4]) for ref in refs]
    collection.add(normalised(values[groups]), refs)
    return collection
