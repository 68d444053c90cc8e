"""What a user searches by -> the vectors that are searched with, or a service's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simdist.embedding import Embedder
from simdist.errors import (
    ImageError,
    SourceError,
    UnknownImageError,
    UsageError,
)
from simdist.images.decoding import decode, open_image
from simdist.index.collection import Collection
from simdist.search.question import Hit
from simdist.settings import DEFAULT_RESULTS
from simdist.sources import file_uri, is_web_address, read_bytes

_READABLE = ("file://", "s3://", "gs://", "az://")


@dataclass(frozen=True)
class Query:
    """A query image.

    Attributes:
        name: what the user called it.
        uri: where its bytes are.
        data: its bytes, where they were read already.
    """

    name: str
    uri: str
    data: bytes | None

    def picture(self) -> Image.Image | None:
        """The image itself, upright RGB; None where it can no longer be read."""
        try:
            return open_image(self.data if self.data is not None else read_bytes(self.uri))
        except (SourceError, ImageError, UsageError):
            return None


def resolve_queries(
    images: Sequence[str], collection: Collection, *, load_embedder: Callable[[], Embedder]
) -> list[tuple[Query, NDArray[np.float32]]]:
    """Find the vector of each image, (dim,) float32: stored already, or embedded now.

    Args:
        images: URIs of indexed images, http(s) addresses, or paths of files.
        load_embedder: called once, and only if something must be embedded.

    Raises:
        SourceError: an image is none of these, or cannot be read.
        ImageError: one is not an acceptable image.
        ModelMismatchError: the embedder's model is not the collection's.
    """
    found: dict[str, tuple[Query, NDArray[np.float32]]] = {}
    unknown: dict[str, tuple[str, bytes]] = {}
    for image in images:
        record = collection.get(image) if "://" in image else None
        if record is not None:
            found[image] = Query(image, image, None), record.vector
        else:
            uri = _readable_uri(image, collection.name)
            unknown[image] = uri, _checked_bytes(uri, image)
    if unknown:
        embedder = load_embedder()
        collection.require_model(embedder.model.id)
        size = embedder.model.preprocessing.size
        pixels = np.stack([decode(data, size=size) for _, data in unknown.values()])
        for (image, (uri, data)), vector in zip(
            unknown.items(), embedder.embed(pixels), strict=True
        ):
            found[image] = Query(image, uri, data), vector
    return [found[image] for image in images]


class Service(Protocol):
    """What answers searches elsewhere: `simdist.Client`, `cluster.service.pool.Pool`."""

    def search(
        self,
        *,
        image: bytes | None = None,
        uri: str | None = None,
        url: str | None = None,
        n: int = DEFAULT_RESULTS,
        recall: float | None = None,
        collection: str | None = None,
    ) -> list[Hit]:
        """The images most similar to one, by its bytes, its URI or its address.

        Raises:
            UnknownImageError: no image of that URI is indexed.
        """


def ask(
    service: Service, image: str, *, n: int, recall: float | None, collection: str
) -> tuple[Query, list[Hit]]:
    """Have a service search by what `resolve_queries` takes too.

    Raises:
        SimdistError: as `resolve_queries`, or as the service.
    """
    if "://" in image:
        try:
            hits = service.search(uri=image, n=n, recall=recall, collection=collection)
            return Query(image, image, None), hits
        except UnknownImageError:
            if is_web_address(image):
                hits = service.search(url=image, n=n, recall=recall, collection=collection)
                return Query(image, image, None), hits
    uri = _readable_uri(image, collection)
    data = _checked_bytes(uri, image)
    hits = service.search(image=data, n=n, recall=recall, collection=collection)
    return Query(image, uri, data), hits


def _readable_uri(image: str, collection: str) -> str:
    if is_web_address(image) or image.startswith(_READABLE):
        return image
    if "://" in image:
        raise SourceError(
            f"{image} is not indexed in the collection {collection!r}: give the URI of an "
            "indexed image, a file, or an http(s), s3, gs or az address"
        )
    return file_uri(Path(image).expanduser())


def _checked_bytes(uri: str, name: str) -> bytes:
    """Read and decode once before a model is loaded: a bad image says so at once."""
    try:
        data = read_bytes(uri)
        open_image(data, at_least=1)
    except ImageError as error:
        raise ImageError(f"{name} cannot be searched with: {error}") from error
    return data
