"""What the HTTP API takes where images and collections are listed, changed and deleted."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from cluster.service.http.models import (
    MAX_METADATA,
    Collection,
    Label,
    Model,
    checked_metadata,
)
from simdist.index.amending import Amendment
from simdist.index.scrolling import Choice
from simdist.index.where import MAX_FILTER, Where

MAX_PAGE = 1000
_MAX_URI = 2048

Name = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="A collection that is served, or the name of one that is to be.",
        examples=["shop-2"],
    ),
]
Cursor = Annotated[
    str | None,
    Field(
        pattern=r"^[0-9]{1,9}-[0-9]{1,10}$",
        description="Go on where another answer has stopped: its `next`.",
        examples=["0-1000"],
    ),
]


class Chosen(Model):
    """Which images: those of which all holds that is said."""

    prefix: str | None = Field(
        default=None,
        min_length=1,
        max_length=_MAX_URI,
        description="What their URIs begin with.",
        examples=["urn:shop:"],
    )
    label: Label = None
    where: str | None = Field(
        default=None,
        max_length=MAX_FILTER,
        description="A filter that they pass (docs/filters.md).",
        examples=['label = "cat" and price < 20'],
    )
    collection: Collection = None

    def choice(self) -> Choice:
        """The images that are meant.

        Raises:
            UsageError: the filter is none.
        """
        where = None if self.where is None else Where.parse(self.where)
        return Choice(self.prefix, self.label, where)


class ChoiceOptions(Chosen):
    """Which images, from where on."""

    after: Cursor = None


class PageOptions(ChoiceOptions):
    """A page of images."""

    n: int = Field(default=100, ge=1, le=MAX_PAGE, description="Images on a page, at most.")


class DeleteOptions(ChoiceOptions):
    """One image, by its URI, or those that are chosen."""

    uri: str | None = Field(default=None, min_length=1, max_length=_MAX_URI)


class ImageOptions(Model):
    """How to show an image."""

    vector: bool = Field(default=False, description="Show its embedding, too.")
    collection: Collection = None


class AmendRequest(Model):
    """What is to change. No image is read, and nothing embedded again."""

    model_config = ConfigDict(
        json_schema_extra={
            "minProperties": 1,
            "examples": [{"label": "cat", "metadata": {"price": 3, "sale": None}}],
        }
    )

    label: Label = Field(default=None, description="The new label; null takes it away.")
    metadata: dict[str, JsonValue] = Field(
        default={},
        max_length=64,
        description="Merged into what there is (RFC 7386): null takes a field away. At most "
        f"{MAX_METADATA:,} bytes of JSON.",
    )

    @field_validator("metadata")
    @classmethod
    def _can_be_json(cls, metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return checked_metadata(metadata)

    @model_validator(mode="after")
    def _some_change(self) -> AmendRequest:
        if not self.model_fields_set:
            raise ValueError("say what is to change: label or metadata")
        return self

    def amendment(self) -> Amendment:
        """The change."""
        given = self.model_fields_set
        return Amendment(
            self.label,
            unlabel="label" in given and self.label is None,
            metadata=self.metadata if "metadata" in given else None,
        )


class ToRequest(Model):
    """The other name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"to": "shop-2"}]})

    to: Name
