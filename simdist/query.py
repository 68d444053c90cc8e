"""What a user searches by -> the vectors that are searched with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from simdist.collection import Collection
from simdist.embedding import Embedder
from simdist.errors import ImageError, SourceError, UsageError
from simdist.images import decode, open_image
from simdist.sources import file_uri, is_web_address, read_bytes

_READABLE = ("file://", "s3://", "gs://", "az://")


@dataclass(frozen=True)
class Query:
    """A query image.

    Attributes:
        name: what the user called it.
        uri: where its bytes are.
        vector: (dim,) float32.
        data: its bytes, where they were read already.
    """

    name: str
    uri: str
    vector: NDArray[np.float32]
    data: bytes | None

    def picture(self) -> Image.Image | None:
        """The image itself, upright RGB; None where it can no longer be read."""
        try:
            return open_image(self.data if self.data is not None else read_bytes(self.uri))
        except (SourceError, ImageError, UsageError):
            return None


def resolve_queries(
    images: Sequence[str], collection: Collection, *, load_embedder: Callable[[], Embedder]
) -> list[Query]:
    """Find the vector of each image: stored already, or embedded now.

    Args:
        images: URIs of indexed images, http(s) addresses, or paths of files.
        load_embedder: called once, and only if something must be embedded.

    Raises:
        SourceError: an image is none of these, or cannot be read.
        ImageError: one is not an acceptable image.
        ModelMismatchError: the embedder's model is not the collection's.
    """
    found: dict[str, Query] = {}
    unknown: dict[str, tuple[str, bytes]] = {}
    for image in images:
        record = collection.get(image) if "://" in image else None
        if record is not None:
            found[image] = Query(image, image, record.vector, None)
        else:
            uri = _readable_uri(image, collection)
            unknown[image] = uri, _checked_bytes(uri, image)
    if unknown:
        embedder = load_embedder()
        collection.require_model(embedder.model.id)
        size = embedder.model.preprocessing.size
        pixels = np.stack([decode(data, size=size) for _, data in unknown.values()])
        for (image, (uri, data)), vector in zip(
            unknown.items(), embedder.embed(pixels), strict=True
        ):
            found[image] = Query(image, uri, vector, data)
    return [found[image] for image in images]


def _readable_uri(image: str, collection: Collection) -> str:
    if is_web_address(image) or image.startswith(_READABLE):
        return image
    if "://" in image:
        raise SourceError(
            f"{image} is not indexed in the collection {collection.name!r}: give the URI of an "
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
