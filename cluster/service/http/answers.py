"""What the HTTP API answers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic_core import to_json
from starlette.responses import Response

from cluster.service.http.models import ImageId
from simdist.index.images import Added, IndexedImage
from simdist.index.scrolling import Page
from simdist.joining.arrival import Copy
from simdist.search.question import Hit
from simdist.store import layout


class HitAnswer(BaseModel):
    """A similar image; `score` is the cosine similarity."""

    id: ImageId
    uri: str
    score: float
    label: str | None
    metadata: dict[str, Any]


class SearchAnswer(BaseModel):
    """What was found, the most similar image first."""

    collection: str
    hits: list[HitAnswer]
    next: str | None = Field(description="Where the next page begins (`after`); null: nowhere.")


class ProblemAnswer(BaseModel):
    """What is wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None


class BatchError(BaseModel):
    """What is wrong with one search of a batch."""

    error: ProblemAnswer


class BatchAnswer(BaseModel):
    """An answer for each search, in their order."""

    results: list[SearchAnswer | BatchError]


class StoredAnswer(BaseModel):
    """What is stored of an image, on a page of them."""

    id: ImageId
    uri: str
    label: str | None
    metadata: dict[str, Any]


class ImageAnswer(StoredAnswer):
    """What is stored of an image; its `vector` where that was asked for."""

    collection: str
    vector: list[float] | None = None

    @classmethod
    def of(cls, image: IndexedImage, collection: str, *, vector: bool = False) -> ImageAnswer:
        """As it is answered."""
        return cls(
            id=image_id(image.uri),
            uri=image.uri,
            label=image.label,
            metadata=dict(image.metadata),
            collection=collection,
            vector=image.vector.tolist() if vector else None,
        )


class PageAnswer(BaseModel):
    """Some images; `next` is where the next page begins, null after the last."""

    collection: str
    images: list[StoredAnswer]
    next: str | None

    @classmethod
    def of(cls, page: Page, collection: str) -> PageAnswer:
        """As it is answered."""
        images = [
            StoredAnswer(
                id=image_id(one.uri), uri=one.uri, label=one.label, metadata=dict(one.metadata)
            )
            for one in page.images
        ]
        return cls(collection=collection, images=images, next=page.next)


class ChangeAnswer(BaseModel):
    """How many images were changed so far; where `next` is not null, go on `after` it."""

    changed: int
    next: str | None


class CopyAnswer(BaseModel):
    """An image that was there already, and that a new one is a copy of."""

    id: ImageId
    uri: str
    score: float = Field(description="How much they agree, where one shows the other.")
    kind: Literal["same", "similar"] = Field(
        description="The same picture in another form, or one that is a part of the other."
    )


class AddAnswer(BaseModel):
    """What became of an image."""

    id: ImageId
    uri: str
    outcome: Literal["added", "replaced", "unchanged"]
    duplicates: list[CopyAnswer]

    @classmethod
    def of(cls, uri: str, added: Added, copies: Sequence[Copy]) -> AddAnswer:
        """As it is answered; the copies are those that were there before."""
        return cls(
            id=image_id(uri),
            uri=uri,
            outcome="added" if added.added else "replaced" if added.replaced else "unchanged",
            duplicates=[
                CopyAnswer(id=image_id(copy.uri), uri=copy.uri, score=copy.score, kind=copy.kind)
                for copy in copies
            ],
        )


class DeleteAnswer(BaseModel):
    """How many images were deleted so far; where `next` is not null, go on `after` it."""

    deleted: int
    next: str | None = None


class CollectionAnswer(BaseModel):
    """A collection that is served; `recalls` can be asked for, and with `words` texts, too.

    `alias_of` says what it is called itself, where the name is an alias; `writable` whether this
    token may change it.
    """

    name: str
    alias_of: str | None
    writable: bool
    images: int
    dim: int
    model: str
    recalls: list[float]
    words: bool


class WorkAnswer(BaseModel):
    """What is under way: `name` is dropped, or becomes a copy of `source`."""

    doing: Literal["drop", "copy"]
    name: str
    source: str | None


class UnreadableAnswer(BaseModel):
    """A collection that another version made: what is wrong, and what to do."""

    name: str
    problem: str


class CollectionsAnswer(BaseModel):
    """The collections that are served, the one taken by default first; those of them that cannot be
    read; and what is under way."""

    collections: list[CollectionAnswer]
    unreadable: list[UnreadableAnswer]
    work: list[WorkAnswer]


class NameAnswer(BaseModel):
    """What a name leads to now; null for nothing."""

    name: str
    collection: str | None


class StatusAnswer(BaseModel):
    """How the service is."""

    status: Literal["ok", "ready"]


@lru_cache(maxsize=16_384)  # of ten hits they would take as long as their JSON
def image_id(uri: str) -> str:
    """The id of the image with this URI: 24 hex digits."""
    return layout.uri_digest(uri).hex()


def hit_answer(hit: Hit) -> dict[str, Any]:
    """A `HitAnswer`, not as a model: that takes four times as long to become JSON."""
    return {
        "id": image_id(hit.uri),
        "uri": hit.uri,
        "score": hit.score,
        "label": hit.label,
        "metadata": dict(hit.metadata),
    }


def answered(answer: BaseModel, status: int = 200) -> Response:
    """A whole answer."""
    return Response(answer.model_dump_json(), status, media_type="application/json")


def as_json(answer: dict[str, Any]) -> bytes:
    """An answer's body, as models write it."""
    return to_json(answer, inf_nan_mode="null")
