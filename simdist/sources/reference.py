"""What a listing says of one image, and the form of its URI."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, unquote_to_bytes, urlsplit

from simdist.errors import UsageError

# What tar archives are called that are packed as a whole.
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tbz", ".tar.xz", ".txz", ".tar.zst", ".tar.z")
ARCHIVES = (".tar", ".zip", ".parquet")
MEMBER = "#"  # between an archive's URI and what lies in it
# What can be stored of one image, and shown: bytes of its URI and of its label, and of its metadata
# as JSON, and how deep that may be nested.
MAX_URI = 65_535
MAX_LABEL = 65_534
MAX_NOTE = 64 * 1024
MAX_DEPTH = 64


@dataclass(frozen=True)
class ImageRef:
    """One image, as the listing alone knows it.

    Attributes:
        uri: its address: ASCII only, percent-encoded where needed; of an image in an archive,
            `ARCHIVE#MEMBER`.
        fingerprint: changes when the content does: the store's ETag and size, or size and mtime.
        size: bytes; 0 where the listing does not know.
        label: what it shows: the name of its folder, or what its list says; or None.
        metadata: a JSON object: what else its list or its archive says of it.
        offset: where it is in its archive: its first byte, or its row; or None.
        depth: how many of the last parts of its file's path lie below the folder, the bucket or the
            file's folder that was listed; 0 if it lies elsewhere.
        version: its file's own fingerprint, where `fingerprint` may have more in it; or None.
        look: its print (`simdist.prints`), once it is decoded; empty for none.
    """

    uri: str
    fingerprint: str
    size: int
    label: str | None
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    offset: int | None = None
    depth: int = 0
    version: str | None = None
    look: bytes = b""

    def with_facts(self, facts: Mapping[str, Any]) -> ImageRef:
        """The same with what its file says of it; what somebody says of it already wins."""
        more = replace(self, metadata={**facts, **self.metadata})
        return self if more.flaw() else more

    def flaw(self) -> str | None:
        """Why an index cannot hold this; None if it can."""
        if not self.uri or not self.uri.isascii() or len(self.uri) > MAX_URI:
            return f"its URI has {len(self.uri):,} characters: 1 to {MAX_URI:,} of ASCII are held"
        if self.label is not None:
            try:
                size = len(self.label.encode())
            except UnicodeEncodeError:
                return "its label is not UTF-8"
            if size > MAX_LABEL:
                return f"its label has {size:,} bytes: at most {MAX_LABEL:,} are held"
        return _flaw_of(self.metadata) if self.metadata else None


@dataclass(frozen=True)
class ListingFailure:
    """An entry that the listing met but could not read."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A file or an object that a listing met: an image, an archive or a list.

    `depth` is as in `ImageRef`; what is named itself lies in its own folder.
    """

    uri: str
    fingerprint: str
    size: int
    depth: int = 1

    @property
    def name(self) -> str:
        """Its path, or its key, without percent-encoding."""
        return unquote(urlsplit(self.uri).path, errors="replace").lstrip("/")

    @property
    def suffix(self) -> str:
        """Such as '.jpg', in lower case."""
        return suffix_of(self.name)

    def image(self) -> ImageRef:
        """It as an image, whose label is the name of its folder."""
        folder = self.name.rpartition("/")[0].rpartition("/")[2]
        return ImageRef(self.uri, self.fingerprint, self.size, folder or None, depth=self.depth)

    def member(self, name: str) -> str:
        """The URI of something in it."""
        return self.uri + MEMBER + quote(os.fsencode(name))


def split_member(uri: str) -> tuple[str, str | None]:
    """An archive's URI and the name in it; of anything else, that may hold a '#', all and None."""
    at = uri.find(MEMBER)
    while at >= 0:
        if suffix_of(uri[:at]) in ARCHIVES:
            return uri[:at], uri[at + 1 :]
        at = uri.find(MEMBER, at + 1)
    return uri, None


def suffix_of(name: str) -> str:
    """Such as '.jpg', in lower case; '.tar' of an archive that is packed as well."""
    name = name.lower()
    return ".tar" if name.endswith(PACKED) else os.path.splitext(name)[1]


def _flaw_of(metadata: Mapping[str, Any]) -> str | None:
    if _is_deeper(metadata, MAX_DEPTH):
        return f"its metadata is nested more than {MAX_DEPTH} deep"
    try:
        size = len(json.dumps(metadata, ensure_ascii=False, allow_nan=False).encode())
    except UnicodeEncodeError:
        return "its metadata is not UTF-8"
    except (TypeError, ValueError):
        return "its metadata is not JSON"
    if size > MAX_NOTE:
        return f"its metadata has {size:,} bytes: at most {MAX_NOTE:,} are held"
    return None


def _is_deeper(value: object, depth: int) -> bool:
    if not isinstance(value, Mapping | list | tuple):
        return False
    parts = value.values() if isinstance(value, Mapping) else value
    return depth == 0 or any(_is_deeper(part, depth - 1) for part in parts)


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


def local_path(location: str) -> Path:
    """The path that a path or a `file://` URI names; `~` and `~user` are homes that there are.

    Raises:
        UsageError: as for `uri_path`.
    """
    if "://" in location:
        return uri_path(location)
    # pathlib's raises where there is no such user: a file may have that name.
    return Path(os.path.expanduser(location))  # noqa: PTH111


def uri_of(given: str) -> str:
    """What a person names an image by: a URI as it is, or that of a path."""
    return given if "://" in given or given.startswith("urn:") else file_uri(local_path(given))


def prefix_of(given: str) -> str:
    """What a person names a folder by, as that which its images' URIs begin with.

    It ends in a slash, or its neighbours' would begin with it.
    """
    if not given:
        return ""
    prefix = uri_of(given)
    is_folder = prefix.startswith("file:") and local_path(prefix).is_dir()
    return prefix.rstrip("/") + "/" if is_folder else prefix
