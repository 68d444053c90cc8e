"""What schemathesis cannot make up: photographs, and ids of images that are indexed."""

from __future__ import annotations

import os
from typing import Any

import schemathesis
from hypothesis import strategies

from tests.conftest import QUERIES

_PHOTOS = [path.read_bytes() for path in sorted(QUERIES.glob("*.jpg"))]
_IMAGES = strategies.sampled_from(_PHOTOS) | strategies.binary(max_size=1000)
_IDS = os.environ["SIMDIST_IMAGE_IDS"].split(",")

for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, _IMAGES)


@schemathesis.hook
def map_path_parameters(_: object, parameters: dict[str, Any]) -> dict[str, Any]:
    """Let half of the ids be those of images."""
    given = str(parameters.get("image_id"))
    if len(given) == len(_IDS[0]) and sum(given.encode()) % 2:
        return parameters | {"image_id": _IDS[sum(given.encode()) % len(_IDS)]}
    return parameters
