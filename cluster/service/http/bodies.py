"""What comes in the body of a request: JSON as a model, or bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.types import Scope

from cluster.service.http.problems import ProblemError
from simdist.images.formats import begins_as_image

BYTES = "application/octet-stream"
FORM = "multipart/form-data"
IMAGE_TYPES = ("image/*", BYTES, FORM)
# What curl says of any body when it is told nothing; and nothing at all.
_UNSAID = ("application/x-www-form-urlencoded", "")
# How a NumPy file begins.
NUMPY = b"\x93NUMPY"
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


def require_json(scope: Scope) -> None:
    """Check that a request says that it brings JSON.

    Raises:
        ProblemError: it says something else.
    """
    if not is_json(scope):
        raise ProblemError(415, "send application/json")


def is_image_type(scope: Scope) -> bool:
    """Whether a request says that it brings an image, and not just bytes."""
    return _media_type(scope).startswith("image/")


async def binary(request: Request, what: str, *, images: bool = True) -> bytes:
    """The body's bytes, or those of the one file in it.

    Args:
        what: they are to be.
        images: it may say that it is an image, or a form with one, or be one and not say so.

    Raises:
        ProblemError: it says that it is something else, or is a form of something else.
    """
    given = _media_type(request.scope)
    if given == BYTES or (images and given.startswith("image/")):
        return await request.body()
    if images and given == FORM:
        return await _file(request)
    data = await request.body() if given in _UNSAID else b""
    if data.startswith(NUMPY) or (images and begins_as_image(data)):
        return data
    types = " or ".join(IMAGE_TYPES if images else (BYTES,))
    raise ProblemError(415, f"send application/json, or {what} as {types}")


class _InMemory(MultiPartParser):
    """Nothing is written to files: the whole body is in memory's limits."""

    spool_max_size = 1 << 30


async def _file(request: Request) -> bytes:
    """The one file of a form."""
    parser = _InMemory(request.headers, request.stream(), max_files=1, max_fields=0)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError) as error:
        raise ProblemError(
            422, "the form is to have one file and nothing else; options go in the address"
        ) from error
    for part in form.values():
        if isinstance(part, UploadFile):
            return await part.read()
    raise ProblemError(422, "the form has no file: curl -F file=@photo.jpg")


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
