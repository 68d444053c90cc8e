"""What the HTTP API takes and answers where somebody looks around in a collection."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from cluster.service.http.answers import image_id
from cluster.service.http.changes import MAX_PAGE, Chosen
from cluster.service.http.models import EXAMPLE_ID, ImageId
from simdist.search.browsing import Facets, Found
from simdist.search.listing import Listed, Order

# Where no page begins: a listing has fewer images.
_MAX_OFFSET = 10_000_000
_VERSION = (
    "Another one where images have come, gone or changed: what was read before may lie elsewhere."
)
_EXAMPLE: JsonValue = {
    "id": EXAMPLE_ID,
    "uri": "file:///photos/2024/petra.jpg",
    "label": "monuments",
    "date": "2024-05-17T09:30:00",
    "version": "5b1f0c5de2a9",
}


class BrowseOptions(Chosen):
    """A part of an order."""

    order: Order = Field(
        default="newest",
        description="By date (`date` in the metadata), those without one behind all others and the "
        "one that was indexed last first; `oldest` is the same from behind; `name` is by folder, "
        "and then by name.",
    )
    offset: int = Field(default=0, ge=0, le=_MAX_OFFSET, description="Images that come before.")
    n: int = Field(default=100, ge=1, le=MAX_PAGE, description="Images of this part, at most.")


class FacetOptions(Chosen):
    """Which images are counted."""

    n: int = Field(
        default=100, ge=1, le=MAX_PAGE, description="Folders, and labels, at most: the fullest."
    )


class ListedAnswer(BaseModel):
    """An image of an order; its `date` as the clock showed it, as far as it is known."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: ImageId
    uri: str
    label: str | None
    date: str | None
    version: str = Field(
        description="Another one where its content, its label or its metadata has changed; by it "
        "its thumbnail can be kept for good (`v`)."
    )

    @classmethod
    def of(cls, one: Listed) -> ListedAnswer:
        """As it is answered."""
        return cls(
            id=image_id(one.uri),
            uri=one.uri,
            label=one.label,
            date=one.date,
            version=one.version,
        )


class BrowseAnswer(BaseModel):
    """Some of the images in an order, and how many there are in all."""

    collection: str
    version: str = Field(description=_VERSION, examples=["1204"])
    total: int
    offset: int
    images: list[ListedAnswer]

    @classmethod
    def of(cls, found: Found, options: BrowseOptions, collection: str) -> BrowseAnswer:
        """As it is answered."""
        some = found.images[options.offset : options.offset + options.n].tolist()
        return cls(
            collection=collection,
            version=found.listing.version,
            total=len(found.images),
            offset=options.offset,
            images=[ListedAnswer.of(found.listing.at(image)) for image in some],
        )


class FacetAnswer(BaseModel):
    """How many images have a value."""

    value: str = Field(examples=["2024-05"])
    count: int


class FacetsAnswer(BaseModel):
    """Which folders, labels and months the images are of."""

    collection: str
    version: str = Field(description=_VERSION, examples=["1204"])
    total: int
    folders: list[FacetAnswer] = Field(
        description="Of all images but for what is said of a `prefix`: each ends with a slash, and "
        "is one."
    )
    labels: list[FacetAnswer] = Field(
        description="Of all images but for what is said of a `label`."
    )
    months: list[FacetAnswer] = Field(
        description="The last first, all of them; images without a date are of none."
    )

    @classmethod
    def of(cls, facets: Facets, collection: str, n: int) -> FacetsAnswer:
        """As it is answered."""
        return cls(
            collection=collection,
            version=facets.version,
            total=facets.total,
            folders=_answers(facets.folders, n),
            labels=_answers(facets.labels, n),
            months=_answers(facets.months, len(facets.months)),
        )


def _answers(counts: Mapping[str, int], n: int) -> list[FacetAnswer]:
    return [FacetAnswer(value=value, count=count) for value, count in islice(counts.items(), n)]
