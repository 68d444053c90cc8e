"""The fields of an image that can be asked for, and how their values are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Value = str | float | bool
# A value with the type that it is compared as.
Key = tuple[type, Value]

# Those that are not in the metadata.
OWN = ("label", "uri", "folder")


def field_named(name: str) -> str:
    """What a field is called within: "label", "uri", "folder", or "metadata." and a name."""
    return name if name in OWN or name.startswith("metadata.") else f"metadata.{name}"


def value_of(field: str, uri: str, label: str | None, metadata: Mapping[str, Any]) -> object:
    """What an image has in a field; None for nothing."""
    if field == "uri":
        return uri
    if field == "label":
        return label
    if field == "folder":
        return uri.rpartition("/")[0] or None
    return metadata.get(field.removeprefix("metadata."))


def typed(value: object) -> Key | None:
    """A value with the type that it is compared as; None for what is compared with nothing."""
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, int | float):
        return float, _as_float(value)
    return (str, value) if isinstance(value, str) else None


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # JSON's whole numbers have no end
        return math.inf if value > 0 else -math.inf
