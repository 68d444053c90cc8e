"""What schemathesis cannot make up: photographs."""

from __future__ import annotations

import schemathesis
from hypothesis import strategies

from tests.conftest import QUERIES

_PHOTOS = [path.read_bytes() for path in sorted(QUERIES.glob("*.jpg"))]
_IMAGES = strategies.sampled_from(_PHOTOS) | strategies.binary(max_size=1000)

for media_type in ("image/*", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, _IMAGES)
