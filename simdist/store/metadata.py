"""What is stored of an image's metadata, read back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# How deep metadata is shown.
_MAX_DEPTH = 64


def unpack_metadata(packed: bytes) -> Mapping[str, Any]:
    """Metadata that can be written as JSON in UTF-8; earlier versions stored what cannot.

    Raises:
        ValueError: it is damaged.
    """
    try:
        metadata: Mapping[str, Any] = json.loads(packed)
    except RecursionError:
        return {}
    if not isinstance(metadata, dict):
        raise ValueError("its metadata is not an object")
    # A surrogate of its own, or many brackets.
    if b"\\ud" in packed or packed.count(b"{") + packed.count(b"[") > _MAX_DEPTH:
        shown: Mapping[str, Any] = _shown(metadata, _MAX_DEPTH)
        return shown
    return metadata


def _shown(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return "..."
    if isinstance(value, list):
        return [_shown(part, depth - 1) for part in value]
    return {_shown(key, 0): _shown(part, depth - 1) for key, part in value.items()}
