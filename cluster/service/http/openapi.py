"""The OpenAPI document: what the routes say of themselves, and what all have in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from cluster.service.http.answers import ProblemAnswer
from cluster.service.http.bodies import BYTES, FORM, IMAGE_TYPES
from cluster.service.http.changes import AmendRequest, ToRequest
from cluster.service.http.duplicate_models import (
    DecideRequest,
    FindRequest,
    RemovalRequest,
    RuleRequest,
)
from cluster.service.http.guard import is_open
from cluster.service.http.models import AddRequest
from cluster.service.http.problems import MEDIA_TYPE
from cluster.service.http.search_models import BatchRequest, SearchRequest

BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {
    "schema": {
        "type": "object",
        "properties": {"file": BINARY["schema"]},
        "required": ["file"],
        "additionalProperties": False,
    }
}
_MODELS = (
    *(SearchRequest, BatchRequest, AddRequest, AmendRequest, ToRequest),
    *(FindRequest, DecideRequest, RuleRequest, RemovalRequest, ProblemAnswer),
)
_COMPONENT = "#/components/schemas/{model}"
_BEARER = "bearer"
# Marks the operation of a route that takes a write token; it is not left in the document.
_WRITE_MARK = "x-write"
WRITES: dict[str, Any] = {_WRITE_MARK: True}
_PROBLEM = {MEDIA_TYPE: {"schema": {"$ref": _COMPONENT.format(model=ProblemAnswer.__name__)}}}
_SECONDS = {"schema": {"type": "integer"}, "description": "Seconds to wait before trying again."}
_PROBLEMS: dict[int, dict[str, Any]] = {
    400: {"description": "The path has a space or a character that cannot be printed."},
    401: {
        "description": "The token is missing or unknown.",
        "headers": {"WWW-Authenticate": {"schema": {"type": "string"}, "required": True}},
    },
    403: {"description": "The token may only read, here or everywhere."},
    404: {"description": "There is no such image or collection, or its source is gone."},
    408: {"description": "The request did not arrive in time."},
    409: {"description": "The collection is gone, or is not one for this service's model."},
    413: {"description": "The body is too large."},
    414: {"description": "The address is too long."},
    415: {"description": "The body is neither JSON nor an image."},
    422: {"description": "Something in the request cannot be: `errors` or `detail` say what."},
    429: {
        "description": "The token's rate is used up.",
        "headers": {"Retry-After": _SECONDS | {"required": True}},
    },
    503: {
        "description": "The service is busy, or a part of it is missing.",
        "headers": {"Retry-After": _SECONDS},
    },
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors that a route may answer; those of the guard are added to all that need them."""
    return {status: _PROBLEMS[status] | {"content": _PROBLEM} for status in statuses}


def body(
    model: type[BaseModel], *, images: bool = False, binary: str | None = None
) -> dict[str, Any]:
    """A route's body: JSON, or an image as well, or bytes that are described."""
    schema = {"$ref": _COMPONENT.format(model=model.__name__)}
    content: dict[str, Any] = {"application/json": {"schema": schema}}
    if images:
        content |= dict.fromkeys(IMAGE_TYPES, BINARY) | {FORM: _FORM}
    if binary:
        content[BYTES] = {"schema": BINARY["schema"] | {"description": binary}}
    return {"requestBody": {"required": True, "content": content}}


def describe(app: FastAPI, *, tokens: bool) -> Callable[[], dict[str, Any]]:
    """A function that makes the application's document, once.

    Args:
        tokens: the service has tokens: it may answer 401, 403 and 429.
    """

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = _document(app, tokens=tokens)
        return app.openapi_schema

    return document


def _document(app: FastAPI, *, tokens: bool) -> dict[str, Any]:
    made = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        tags=app.openapi_tags,
    )
    given = [(model, "validation") for model in _MODELS]
    _, models = models_json_schema(given, ref_template=_COMPONENT)  # type: ignore[arg-type]
    components = made.setdefault("components", {})
    components["schemas"] = components.get("schemas", {}) | models["$defs"]
    if tokens:
        components["securitySchemes"] = {
            _BEARER: {
                "type": "http",
                "scheme": "bearer",
                "description": "A read token, or a write token for what changes something.",
            }
        }
    for path, operation in _operations(made):
        writes = operation.pop(_WRITE_MARK, False)
        if tokens and not is_open(path):
            more = (401, 403, 429) if writes else (401, 429)
            answers = {str(status): answer for status, answer in problems(*more).items()}
            operation["responses"] = dict(sorted((operation["responses"] | answers).items()))
            operation["security"] = [{_BEARER: []}]
    return made


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for operation in methods.values():
            yield path, operation
