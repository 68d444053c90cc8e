"""What comes in the body of a request: JSON as a model, or the bytes of an image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from cluster.service.http.problems import ProblemError

IMAGE_TYPES = ("image/*", "application/octet-stream")
# That a body can have and be told about: each takes a kilobyte of memory, and a body could have a
# million.
MAX_ERRORS = 100
M = TypeVar("M", bound=BaseModel)


def is_json(headers: Mapping[str, str]) -> bool:
    """Whether a request says that it brings JSON."""
    return _media_type(headers) == "application/json"


async def image(request: Request) -> bytes:
    """The body as an image's bytes.

    Raises:
        ProblemError: it says that it is something else.
    """
    media_type = _media_type(request.headers)
    if not media_type.startswith("image/") and media_type != "application/octet-stream":
        raise ProblemError(415, f"send application/json, or an image as {' or '.join(IMAGE_TYPES)}")
    return await request.body()


def parsed(model: type[M], body: bytes, options: BaseModel | None = None) -> M:
    """A JSON body as its model; options of the address count where it does not say otherwise.

    Raises:
        RequestValidationError: it is no JSON, or not such a model.
        ProblemError: it is nothing like that.
    """
    try:
        found = model.model_validate_json(body, strict=True)
    except ValidationError as error:
        if error.error_count() > MAX_ERRORS:
            raise ProblemError(
                422, f"{error.error_count():,} things are wrong with it; see /v1/openapi.json"
            ) from None
        raise RequestValidationError(
            error.errors(include_url=False, include_context=False)
        ) from None
    if options is not None and options.model_fields_set:
        more = options.model_fields_set - found.model_fields_set
        found = found.model_copy(update={name: getattr(options, name) for name in more})
    return found


def _media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()
