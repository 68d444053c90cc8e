"""What a user searches by -> the vectors that are searched with, or a service's answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
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
from simdist.images.decoding import open_image
from simdist.images.parts import Part
from simdist.index.collection import Collection
from simdist.search.pages import Hits
from simdist.search.question import Example, Question
from simdist.sources import file_uri, is_web_address, local_path, read_bytes

_READABLE = ("file://", "s3://", "gs://", "az://")


class Words(str):
    """Words to search by, where the name of an image could stand as well."""

    __slots__ = ()


@dataclass(frozen=True)
class Query:
    """What was searched by: an image, or words.

    Attributes:
        name: what the user called it; or the words.
        uri: where its bytes are; None of words.
        data: its bytes, where they were read already.
    """

    name: str
    uri: str | None
    data: bytes | None

    def picture(self) -> Image.Image | None:
        """The image itself, upright RGB; None where it can no longer be read, and of words."""
        if self.uri is None:
            return None
        try:
            return open_image(self.data if self.data is not None else read_bytes(self.uri))
        except (SourceError, ImageError, UsageError):
            return None


def resolve_queries(
    images: Sequence[str],
    collection: Collection,
    *,
    load_embedder: Callable[[], Embedder],
    crop: str | None = None,
) -> list[tuple[Query, NDArray[np.float32]]]:
    """Find the vector of each image, (dim,) float32: stored already, or embedded now.

    Args:
        images: URIs of indexed images (such as urn:shop:4711), http(s) addresses, or paths of
            files; or `Words`.
        load_embedder: called once, and only if something must be embedded.
        crop: the part of each that is meant (`Question.crop`): what is stored is of the whole.

    Raises:
        UnknownImageError: the URI is not that of an indexed image, and nothing else.
        SourceError: an image cannot be read.
        ImageError: one is not an acceptable image.
        ModelMismatchError: the embedder's model is not the collection's.
        UsageError: it reads no words.
    """
    found: dict[str, tuple[Query, NDArray[np.float32]]] = {}
    unknown: dict[str, tuple[str, bytes]] = {}
    words = [image for image in images if isinstance(image, Words)]
    spoken: dict[str, NDArray[np.float32]] = {}
    for image in images:
        if isinstance(image, Words):
            continue
        named = crop is None and _may_be_indexed(image)
        record = collection.get(image) if named else None
        if record is not None:
            found[image] = Query(image, image, None), record.vector
        else:
            uri = _readable_uri(image, collection.name)
            data = _checked_bytes(uri, image)
            unknown[image] = uri, data if crop is None else Part.parse(crop).cut(data)
    if unknown or words:
        embedder = load_embedder()
        collection.require_model(embedder.model.id)
        if words:
            spoken = dict(zip(words, embedder.embed_texts(words), strict=True))
        vectors = embedder.embed_images(data for _, data in unknown.values())
        for (image, (uri, data)), vector in zip(unknown.items(), vectors, strict=True):
            found[image] = Query(image, uri, data), vector
    return [
        (Query(image, None, None), spoken[image]) if isinstance(image, Words) else found[image]
        for image in images
    ]


class Service(Protocol):
    """What answers questions elsewhere: `simdist.Client`, `cluster.service.pool.Pool`."""

    def ask(self, question: Question) -> Hits:
        """The images most similar to what a question asks by.

        Raises:
            UnknownImageError: no image of that URI is indexed.
        """


def ask_by(image: str, service: Service, question: Question) -> tuple[Query, Hits]:
    """Have a service search by what `resolve_queries` takes too.

    Args:
        question: how to answer; it does not say yet what to search by.

    Raises:
        SimdistError: as `resolve_queries`, or as the service.
    """
    if isinstance(image, Words):
        return Query(image, None, None), service.ask(replace(question, text=image))
    if question.crop is not None and is_web_address(image):
        return Query(image, image, None), service.ask(replace(question, url=image))
    if question.crop is None and _may_be_indexed(image):
        query = Query(image, image, None)
        try:
            return query, service.ask(replace(question, uri=image))
        except UnknownImageError:
            if is_web_address(image):
                return query, service.ask(replace(question, url=image))
    uri = _readable_uri(image, question.collection)
    data = _checked_bytes(uri, image)
    return Query(image, uri, data), service.ask(replace(question, image=data))


def examples_of(
    like: Sequence[str],
    unlike: Sequence[str],
    collection: Collection,
    *,
    load_embedder: Callable[[], Embedder],
    crop: str | None = None,
) -> tuple[Query, list[Example], list[Example]]:
    """The examples of one question, given what `resolve_queries` takes; and the first of them.

    Args:
        crop: the part of the first that is meant.

    Raises:
        SimdistError: as `resolve_queries`.
    """
    load = lru_cache(1)(load_embedder)
    cut, whole = ([], [*like, *unlike]) if crop is None else (like[:1], [*like[1:], *unlike])
    queries = [
        *resolve_queries(cut, collection, load_embedder=load, crop=crop),
        *resolve_queries(whole, collection, load_embedder=load),
    ]
    examples = [
        Example(uri=query.uri) if query.uri and query.data is None else Example(vector=vector)
        for query, vector in queries
    ]
    first = replace(queries[0][0], name=" + ".join(like))
    return first, examples[: len(like)], examples[len(like) :]


def ask_by_several(
    like: Sequence[str], unlike: Sequence[str], service: Service, question: Question
) -> tuple[Query, Hits]:
    """As `ask_by`, by several examples."""

    whole = replace(question, crop=None)

    def asked(indexed: bool) -> Hits:
        sides = [
            [_example(image, question.collection, indexed) for image in side]
            for side in (like, unlike)
        ]
        if question.crop is not None:
            first = _example(like[0], question.collection, indexed=False)
            sides[0][0] = replace(first, crop=question.crop)
        return service.ask(replace(whole, like=sides[0], unlike=sides[1]))

    try:
        hits = asked(indexed=True)
    except UnknownImageError:
        hits = asked(indexed=False)
    name = " + ".join(like)
    if isinstance(like[0], Words):
        return Query(name, None, None), hits
    if _may_be_indexed(like[0]):
        return Query(name, like[0], None), hits
    return Query(name, _readable_uri(like[0], question.collection), None), hits


def _example(image: str, collection: str | None, indexed: bool) -> Example:
    """An example for a service; one that is not `indexed` is read, where it can be."""
    if isinstance(image, Words):
        return Example(text=image)
    if image.startswith("urn:") or (indexed and _may_be_indexed(image)):
        return Example(uri=image)
    if is_web_address(image):
        return Example(url=image)
    return Example(image=_checked_bytes(_readable_uri(image, collection), image))


def _may_be_indexed(image: str) -> bool:
    """Whether it is written as the URI of an image; anything else is a file's path."""
    return "://" in image or image.startswith("urn:")


def _readable_uri(image: str, collection: str | None) -> str:
    if is_web_address(image) or image.startswith(_READABLE):
        return image
    if _may_be_indexed(image) and not Path(image).exists():
        raise UnknownImageError(
            f"{image} is not indexed in the collection {collection!r}: give the URI of an "
            "indexed image, a file, or an http(s), s3, gs or az address"
        )
    return file_uri(local_path(image))


def _checked_bytes(uri: str, name: str) -> bytes:
    """Read and decode once before a model is loaded: a bad image says so at once."""
    try:
        data = read_bytes(uri)
        open_image(data, at_least=1)
    except ImageError as error:
        raise ImageError(f"{name} cannot be searched with: {error}") from error
    return data
