"""What the HTTP API takes."""

from __future__ import annotations

import json
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
)

MAX_NAME = 2048
MAX_METADATA = 16 * 1024

EXAMPLE_ID = "3b1f0c5de2a94c7788d06e0f"
# No user name or password: what is indexed is shown to all who may read. Not `\s`: what a space is
# depends on who reads the pattern.
WEB_ADDRESS = r"https?://[^/?#@\\\x00-\x20]+([/?#]{})?"

ImageId = Annotated[str, Field(pattern=r"^[0-9a-f]{24}$", examples=[EXAMPLE_ID])]
Collection = Annotated[
    str | None,
    Field(max_length=64, description="By default the first that is served.", examples=["images"]),
]
Label = Annotated[str | None, Field(max_length=MAX_NAME)]


class Model(BaseModel):
    """What all have in common: nothing unknown is taken, no number is infinite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    def completed(self, options: Model) -> Self:
        """With the options of the address, where it does not say otherwise itself."""
        more = options.model_fields_set - self.model_fields_set
        if not more:
            return self
        return self.model_copy(update={name: getattr(options, name) for name in more})


def checked_metadata(metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Metadata, if it is not too much of it; raises ValueError."""
    # `allow_inf_nan` is not for what lies within a JsonValue.
    if len(json.dumps(metadata, allow_nan=False)) > MAX_METADATA:
        raise ValueError(f"more than {MAX_METADATA:,} bytes of JSON")
    return metadata


class AddOptions(Model):
    """Where an image goes."""

    label: Label = None
    collection: Collection = None


class UploadOptions(AddOptions):
    """How to add an image; `uri` is what an uploaded one is to be known by."""

    uri: str | None = Field(
        default=None,
        max_length=MAX_NAME,
        pattern=f"^({WEB_ADDRESS.format('[!-~]*')}|urn:[!-~]+)$",
        description="Of an image in the body: an http(s) address, or a name of your own, such as "
        "urn:shop:4711.",
        examples=["urn:shop:4711"],
    )


class AddRequest(AddOptions):
    """An image that the service fetches."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "url": "https://example.org/photo.jpg",
                    "label": "monuments",
                    "metadata": {"title": "Petra", "year": 2024},
                }
            ]
        }
    )

    url: str = Field(
        max_length=MAX_NAME,
        pattern=f"^{WEB_ADDRESS.format('[!-~]*')}$",
        description="A public address, by which the image will be known.",
        examples=["https://example.org/photo.jpg"],
    )
    metadata: dict[str, JsonValue] = Field(
        default={},
        max_length=64,
        description=f"What hits are to show; at most {MAX_METADATA:,} bytes of JSON.",
    )

    @field_validator("metadata")
    @classmethod
    def _can_be_json(cls, metadata: dict[str, JsonValue]) -> dict[str, JsonValue]:
        return checked_metadata(metadata)
