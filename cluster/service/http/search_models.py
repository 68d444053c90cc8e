"""What searches take over HTTP."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any

import numpy as np
from pydantic import (
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    field_validator,
    model_validator,
)

from cluster.service.http.models import (
    EXAMPLE_ID,
    MAX_NAME,
    WEB_ADDRESS,
    Collection,
    ImageId,
    Label,
    Model,
)
from simdist.index.where import MAX_FILTER
from simdist.search.question import MAX_EXAMPLES, MAX_TEXT, MAX_WEIGHT, WAYS, Example, Question
from simdist.settings import DEFAULT_RESULTS, MAX_RESULTS

MAX_BATCH = 64
# Hits that all searches of a batch may ask for together: each takes some hundred bytes.
MAX_BATCH_RESULTS = 64_000
_MAX_DIM = 65_536

# JSON has one type of number: 5.0 is a whole one.
_Whole = Annotated[
    int, BeforeValidator(lambda n: int(n) if isinstance(n, float) and n.is_integer() else n)
]
_Score = Annotated[float, Field(ge=-1, le=1)]


_Crop = Annotated[
    str | None,
    Field(
        max_length=100,
        pattern=r"^[0-9.]+(,[0-9.]+){3}$",
        description="Search by this part of the image: x,y,w,h, in fractions of its width and "
        "height.",
        examples=["0.25,0.1,0.5,0.5"],
    ),
]


class SearchOptions(Model):
    """How to search."""

    n: _Whole = Field(DEFAULT_RESULTS, ge=1, le=MAX_RESULTS, description="Number of results.")
    recall: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share of the 10 most similar images to find; needs a collection that was "
        "tuned.",
    )
    min_score: _Score | None = Field(
        None, description="All images that are at least so similar, up to n."
    )
    offset: _Whole = Field(0, ge=0, le=MAX_RESULTS, description="Leave out so many of the best.")
    after: str | None = Field(
        None,
        pattern="^[A-Za-z0-9_-]{22}$",
        description="Go on behind an answer: its `next`, with the same search.",
    )
    group_by: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="Find n groups of images that agree in this: label, folder, or a field of the "
        "metadata. Those that have no such field are groups by themselves.",
        examples=["product"],
    )
    group_size: _Whole = Field(
        1, ge=1, le=MAX_RESULTS, description="Hits of each group, at most, one after the other."
    )
    label: Label = Field(None, description="Only images with this label.")
    where: str | None = Field(
        None,
        max_length=MAX_FILTER,
        description="Only images that pass this filter (docs/filters.md).",
        examples=['label = "cat" and price < 20'],
    )
    crop: _Crop = None
    collection: Collection = None

    def question(self, **what: Any) -> Question:
        """The question, given what to search by."""
        given = self.__dict__
        return Question(**{name: given[name] for name in _OPTIONS}, **what)


_OPTIONS = tuple(SearchOptions.model_fields)


def _describe_ways(schema: dict[str, Any]) -> None:
    """That one of them is to be given, and has no default, is not in their types."""
    ways = [*WAYS, "like"] if "like" in schema["properties"] else WAYS
    for way in ways:
        del schema["properties"][way]["default"]
    schema["oneOf"] = [{"required": [way]} for way in ways]


def _describe_searches(schema: dict[str, Any]) -> None:
    _describe_ways(schema)
    schema["examples"] = [
        {"url": "https://example.org/photo.jpg", "n": 5},
        {"id": EXAMPLE_ID, "recall": 0.95, "label": "monuments"},
        {"uri": "urn:shop:4711", "n": 20, "offset": 20, "where": "price < 20"},
        {"uri": "urn:shop:4711", "n": 10, "group_by": "product", "group_size": 2},
        {"image": "data:image/gif;base64,R0lGODlhAQABAAAAACw=", "n": 5},
        {"url": "https://example.org/photo.jpg", "crop": "0.25,0.1,0.5,0.5"},
        {"text": "a red bicycle", "n": 5},
        {
            "like": [{"id": EXAMPLE_ID}, {"uri": "urn:shop:1", "weight": 2}],
            "unlike": [{"uri": "urn:shop:2"}],
        },
    ]


class _Way(Model):
    """One of `vector`, `uri`, `id`, `url`, `image` and `text`."""

    vector: Annotated[list[float], FailFast()] = Field(
        default=[],
        min_length=1,
        max_length=_MAX_DIM,
        description="An embedding: as many numbers as the collection has dimensions (`dim`).",
    )
    uri: str = Field(
        default="", min_length=1, max_length=MAX_NAME, description="URI of an indexed image."
    )
    id: ImageId = Field(default="", description="Id of an indexed image.")
    url: str = Field(
        default="",
        max_length=MAX_NAME,
        pattern=f"^{WEB_ADDRESS.format('.*')}$",
        description="A public address of an image.",
    )
    image: str = Field(
        default="",
        min_length=1,
        description="An image in base64, or as a data URL; as the body itself it takes less.",
    )

    text: str = Field(
        default="",
        max_length=MAX_TEXT,
        pattern="[^ \t\r\n]",
        description="Words, where the collection's model reads them (`words` of the collection).",
    )

    @field_validator("url", mode="before")
    @classmethod
    def _not_the_image_itself(cls, url: Any) -> Any:
        if isinstance(url, str) and url.startswith("data:"):
            raise ValueError("a data URL is the image itself: give it as image")
        return url

    @field_validator("image")
    @classmethod
    def _in_base64(cls, image: str) -> str:
        _decoded(image)
        return image

    def way(self) -> dict[str, Any]:
        """What is given of them, as a question takes it."""
        with np.errstate(over="ignore"):  # what float32 does not hold becomes infinite: refused
            vector = np.array(self.vector, np.float32) if self.vector else None
        return {
            "vector": vector,
            "uri": self.uri or None,
            "id": self.id or None,
            "url": self.url or None,
            "image": _decoded(self.image) if self.image else None,
            "text": self.text or None,
        }


class ExampleRequest(_Way):
    """One of several examples, by exactly one of the six ways to say it."""

    model_config = ConfigDict(json_schema_extra=_describe_ways)

    weight: float = Field(
        default=1.0, gt=0, le=MAX_WEIGHT, description="How much it counts beside the others."
    )

    crop: _Crop = None

    @model_validator(mode="after")
    def _one_way(self) -> ExampleRequest:
        if len(self.model_fields_set.intersection(WAYS)) != 1:
            raise ValueError(f"give exactly one of {', '.join(WAYS)}")
        return self

    def example(self) -> Example:
        """The example."""
        return Example(**self.way(), crop=self.crop, weight=self.weight)


class SearchRequest(_Way, SearchOptions):
    """A search by exactly one of `vector`, `uri`, `id`, `url`, `image`, `text` and `like`."""

    model_config = ConfigDict(json_schema_extra=_describe_searches)

    like: list[ExampleRequest] = Field(
        default=[],
        min_length=1,
        max_length=MAX_EXAMPLES,
        description="Several examples. Those that are indexed are no hits.",
    )
    unlike: list[ExampleRequest] = Field(
        default=[],
        max_length=MAX_EXAMPLES,
        description="What hits are not to be like. All examples of a search count as a batch's "
        f"searches do, and are at most {MAX_EXAMPLES}.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> SearchRequest:
        ways = (*WAYS, "like")
        if len(self.model_fields_set.intersection(ways)) != 1:
            raise ValueError(f"give exactly one of {', '.join(ways)}")
        if len(self.like) + len(self.unlike) > MAX_EXAMPLES:
            raise ValueError(f"a search has at most {MAX_EXAMPLES} examples")
        return self

    def asked(self) -> Question:
        """The question."""
        like, unlike = ([one.example() for one in side] for side in (self.like, self.unlike))
        return self.question(**self.way(), like=like, unlike=unlike)


def _decoded(image: str) -> bytes:
    """An image's bytes from base64 or a data URL; raises ValueError."""
    head, comma, data = image.partition(",")
    if comma and not (head.startswith("data:") and head.endswith(";base64")):
        raise ValueError("not a data URL of base64: data:image/jpeg;base64,...")
    try:
        return base64.b64decode(data if comma else image, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64") from error


class BatchRequest(Model):
    """Several searches."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"queries": [{"id": EXAMPLE_ID}, {"uri": "urn:shop:1"}]}]}
    )

    queries: list[SearchRequest] = Field(
        min_length=1,
        max_length=MAX_BATCH,
        description=f"They may ask for {MAX_BATCH_RESULTS:,} hits together.",
    )
