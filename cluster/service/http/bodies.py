"""What comes in the body of a request: JSON as a model, or bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from cluster.service.http.problems import ProblemError

BYTES = "application/octet-stream"
IMAGE_TYPES = ("image/*", BYTES)
# That a body can have and be told about: each takes a kilobyte of memory, and a body could have a
# million.
MAX_ERRORS = 100
M = TypeVar("M", bound=BaseModel)


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether a request says that it brings JSON."""
    return _media_type(headers) == "application/json"


def is_image_type(headers: Mapping[str, str]) -> bool:
    """Whether a request says that it brings an image, and not just bytes."""
    return _media_type(headers).startswith("image/")


async def binary(request: Request, what: str, *, images: bool = True) -> bytes:
    """The body's bytes.

    Args:
        what: they are to be.
        images: it may say that it is an image.

    Raises:
        ProblemError: it says that it is something else.
    """
    if _media_type(request.headers) != BYTES and not (images and is_image_type(request.headers)):
        types = " or ".join(IMAGE_TYPES if images else (BYTES,))
        raise ProblemError(415, f"send application/json, or {what} as {types}")
    return await request.body()


def parsed(model: type[M], body: bytes) -> M:
    """A JSON body as its model.

    Raises:
        ProblemError: it is no JSON, or not such a model.
    """
    try:
        return model.model_validate_json(body, strict=True)
    except ValidationError as error:
        if error.error_count() > MAX_ERRORS:
            raise ProblemError(
                422, f"{error.error_count():,} things are wrong with it; see /v1/openapi.json"
            ) from None
        raise ProblemError.invalid(error.errors(include_url=False, include_context=False)) from None


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
