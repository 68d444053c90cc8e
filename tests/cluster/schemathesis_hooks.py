"""What schemathesis cannot make up: photographs, what is indexed, and long vectors."""

from __future__ import annotations

import os
import re
from typing import Any
from zlib import crc32

import schemathesis
from hypothesis import strategies

from tests.conftest import QUERIES

_PHOTOS = [path.read_bytes() for path in sorted(QUERIES.glob("*.jpg"))]
_DIM = 1280
_VECTOR = b"\x00\x00\x80\x3f" * _DIM
_IMAGES = strategies.sampled_from(_PHOTOS) | strategies.binary(max_size=1000)
_BYTES = _IMAGES | strategies.sampled_from([_VECTOR, 2 * _VECTOR])
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_IDS = os.environ["SIMDIST_IMAGE_IDS"].split(",")

schemathesis.openapi.media_type("image/*", _IMAGES)
schemathesis.openapi.media_type("application/octet-stream", _BYTES)


@schemathesis.hook
def map_path_parameters(context: Any, parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    """Let half of the ids be those of images, and names those of collections that may change."""
    return parameters and _named(context, _at_home(parameters), "name", copied="photos")


@schemathesis.hook
def map_query(context: Any, query: dict[str, Any] | None) -> dict[str, Any] | None:
    """Let half of the requests be for the collection that is served; its images are to stay."""
    if not query:
        return query
    query = _few_duplicates(context, _at_home(query))
    prefix = query.get("prefix")
    return query | {"prefix": f"urn:{prefix}"} if isinstance(prefix, str) and prefix else query


@schemathesis.hook
def map_body(context: Any, body: Any) -> Any:
    """As the others; and vectors have as many numbers as those of the collection."""
    if not isinstance(body, dict):
        return body
    body = _named(context, _at_home(body), "to", aliased="photos")
    body = _few_duplicates(context, body)
    vector, queries = body.get("vector"), body.get("queries")
    if isinstance(vector, list) and vector:
        body["vector"] = (vector * _DIM)[:_DIM]
    if isinstance(queries, list):
        body["queries"] = [map_body(context, query) for query in queries]
    return body


def _few_duplicates(context: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Nothing that is similar may be marked for removal, and few questions are asked at a time."""
    threshold = values.get("threshold")
    if context.operation.path.startswith("/v1/duplicates") and isinstance(threshold, float | int):
        return {name: value for name, value in values.items() if name != "threshold"}
    return values


def _at_home(values: dict[str, Any]) -> dict[str, Any]:
    changed = dict(values)
    for name in ("id", "image_id"):
        given = values.get(name)
        if isinstance(given, str) and len(given) == len(_IDS[0]) and _odd(given):
            changed[name] = _IDS[_number(given) % len(_IDS)]
    collection = values.get("collection")
    if isinstance(collection, str) and len(collection) <= 64 and _odd(collection):
        del changed["collection"]
    return changed


def _named(
    context: Any, values: dict[str, Any], field: str, *, copied: str = "", aliased: str = ""
) -> dict[str, Any]:
    """A name as one that is served: what is copied, what an alias leads to, or one to spare."""
    given = values.get(field)
    if not isinstance(given, str) or not _NAME.fullmatch(given):
        return values
    path = context.operation.path
    named = copied if path.endswith("/copy") else aliased if "/aliases/" in path else ""
    return values | {field: named or ("spare", "other")[_number(given) % 2]}


def _odd(text: str) -> bool:
    return _number(text) % 2 == 1


def _number(text: str) -> int:
    return crc32(text.encode(errors="replace"))
