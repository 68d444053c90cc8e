"""What a listing says of one image, and the form of its URI."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from simdist.errors import UsageError


@dataclass(frozen=True)
class ImageRef:
    """One image, as the listing alone knows it.

    Attributes:
        uri: its address: ASCII only, percent-encoded where needed.
        fingerprint: changes when the content does: the store's ETag, or size and mtime.
        size: bytes.
        label: the name of the folder it lies in, or None.
    """

    uri: str
    fingerprint: str
    size: int
    label: str | None


@dataclass(frozen=True)
class ListingFailure:
    """An entry that the listing met but could not read."""

    uri: str
    reason: str


def file_uri(path: Path) -> str:
    """The `file://` URI of a path; bytes that are not UTF-8 survive, percent-encoded."""
    return Path(os.path.abspath(path)).as_uri()


def uri_path(uri: str) -> Path:
    """The path that a `file://` URI names.

    Raises:
        UsageError: it names another host, or is no `file://` URI.
    """
    try:
        parts = urlsplit(uri)
    except ValueError:  # such as an unclosed bracket
        parts = urlsplit("")
    path = unquote_to_bytes(parts.path)
    here = parts.scheme == "file" and parts.netloc in ("", "localhost")
    if not here or not path.startswith(b"/") or b"\0" in path:
        raise UsageError(f"{uri} does not name a file of this machine")
    return Path(os.fsdecode(path))
