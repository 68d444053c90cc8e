"""What comes in the body of a request: JSON as a model, or bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.types import Scope

from cluster.service.http.problems import ProblemError

BYTES = "application/octet-stream"
IMAGE_TYPES = ("image/*", BYTES)
# That a body can have and be told about: each takes a kilobyte of memory, and a body could have a
# million.
MAX_ERRORS = 100
# Where a request's scope has its headers, once they were asked for.
_HEADERS = "simdist.headers"
M = TypeVar("M", bound=BaseModel)


def headers_of(scope: Scope) -> Mapping[str, str]:
    """A request's headers, by their names in small letters; of several of a name the first.

    Starlette's would search a list for each name that is asked for, a dozen of them a request.
    """
    found: dict[str, str] | None = scope.get(_HEADERS)
    if found is None:
        pairs = reversed(scope["headers"])
        found = {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}
        scope[_HEADERS] = found
    return found


def is_json(scope: Scope) -> bool:
    """Whether a request says that it brings JSON."""
    return _media_type(scope) == "application/json"


def is_image_type(scope: Scope) -> bool:
    """Whether a request says that it brings an image, and not just bytes."""
    return _media_type(scope).startswith("image/")


async def binary(request: Request, what: str, *, images: bool = True) -> bytes:
    """The body's bytes.

    Args:
        what: they are to be.
        images: it may say that it is an image.

    Raises:
        ProblemError: it says that it is something else.
    """
    given = _media_type(request.scope)
    if given != BYTES and not (images and given.startswith("image/")):
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


def _media_type(scope: Scope) -> str:
    return headers_of(scope).get("content-type", "").partition(";")[0].strip().lower()
