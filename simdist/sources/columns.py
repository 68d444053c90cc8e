"""A row of a list -> the image that it names."""

from __future__ import annotations

import hashlib
import json
import math
import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from simdist.errors import Remedy, SourceError, UsageError
from simdist.sources import folder, objects
from simdist.sources.reference import (
    MEMBER,
    Found,
    ImageRef,
    ListingFailure,
    file_uri,
    local_path,
    split_member,
    uri_path,
)

# The usual names, whatever their case, the first first.
URI_COLUMNS = (
    *("uri", "url", "image_url", "path", "image_uri", "img_url", "image_path", "file_path"),
    *("file_name", "file", "image", "src", "link", "href"),
)
LABEL_COLUMNS = ("label", "class", "category")
_SHOWN = 4
MAX_ADDRESS = 8192

# The fingerprint of what is not asked for.
_LISTED = "listed"
# What stays as it is in a web address: all that means something there.
_WEB = "%:/?#[]@!$&'()*+,;=~"


@dataclass(frozen=True)
class Columns:
    """Which columns hold the image's URI and its label; None: look for the usual names."""

    uri: str | None = None
    label: str | None = None

    def uri_in(self, names: Sequence[str], source: str) -> str:
        """The column of URIs.

        Raises:
            SourceError: there is none.
        """
        if self.uri is not None:
            return _named_column(self.uri, names, source)
        usual = _usual(URI_COLUMNS, names)
        if usual is None:
            raise SourceError(
                f"{source} has no column {' or '.join(URI_COLUMNS[:_SHOWN])}: name the one to use; "
                f"it has {_listed(names)}",
                remedy=Remedy.URI_COLUMN,
            )
        return usual

    def label_in(self, names: Sequence[str], source: str) -> str | None:
        """The column of labels, if there is one.

        Raises:
            SourceError: the one that was asked for is not there.
        """
        if self.label is not None:
            return _named_column(self.label, names, source)
        return _usual(LABEL_COLUMNS, names)


def _usual(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of the usual names that is there, also as "Image URL" or "imageurl"."""
    plain_names: dict[str, str] = {}
    for name in names:
        plain_names.setdefault(_plain_name(name), name)
    found = (name if name in names else plain_names.get(_plain_name(name)) for name in wanted)
    return next(filter(None, found), None)


def _plain_name(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum())


def _named_column(wanted: str, names: Sequence[str], source: str) -> str:
    if wanted in names:
        return wanted
    alike = [name for name in names if name.casefold() == wanted.casefold()]
    if len(alike) != 1:
        raise SourceError(f"{source} has no column {wanted!r}; it has {_listed(names)}")
    return alike[0]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:20]) or "no columns"
    return shown + (f" and {len(names) - 20} more" if len(names) > 20 else "")


def listed_image(
    source: Found, text: str, *, label: object = None, metadata: Mapping[str, Any] | None = None
) -> ImageRef:
    """The image that a list names.

    Its fingerprint is what the list says of it, so that a changed row is indexed anew; of a file
    on this machine also size and mtime. What a web address or an object holds is not asked for.

    Raises:
        SourceError, UsageError: it names nothing that can be read.
    """
    found = _named(source, text.strip())
    name = None if label is None or label == "" else str(label)
    extra = plain(metadata or {})
    fingerprint = found.fingerprint
    if name is not None or extra:
        said = json.dumps([name, extra], sort_keys=True).encode()
        fingerprint += "-" + hashlib.blake2b(said, digest_size=8).hexdigest()
    version = None if found.fingerprint == _LISTED else found.fingerprint
    ref = ImageRef(
        found.uri, fingerprint, found.size, name, extra, depth=found.depth, version=version
    )
    if flaw := ref.flaw():
        raise SourceError(flaw)
    return ref


def _named(source: Found, text: str) -> Found:
    if not text:
        raise SourceError("it names no image")
    if len(text) > MAX_ADDRESS:
        raise SourceError(f"its address is longer than {MAX_ADDRESS:,} characters")
    if not text.isprintable():
        raise SourceError("its address holds bytes that cannot be printed, or is not UTF-8")
    scheme = text.partition("://")[0].lower() if "://" in text else ""
    if scheme in ("http", "https"):
        return Found(_web(text), _LISTED, 0, depth=0)
    if objects.is_object(text):
        archive, member = split_member(text)
        uri = objects.Address.parse(archive).uri
        uri += "" if member is None else MEMBER + member
        return Found(uri, _LISTED, 0, depth=0)
    if scheme not in ("", "file"):
        raise SourceError(f"simdist does not read {scheme}:// addresses")
    return _in_store(source, text) if objects.is_object(source.uri) else _here(source, text)


def _web(text: str) -> str:
    try:
        parts = urlsplit(text)
        if not parts.hostname:
            raise SourceError("its address names no host")
    except ValueError:
        raise SourceError("its address is malformed") from None
    # One address for one place: neither scheme nor host has a case.
    user, at, host = parts.netloc.rpartition("@")
    same = parts._replace(scheme=parts.scheme.lower(), netloc=user + at + host.lower())
    return quote(urlunsplit(same), safe=_WEB)


def _in_store(source: Found, text: str) -> Found:
    """A list from elsewhere names what lies beside it, and nothing on this machine."""
    if text.startswith(("/", "file:")):
        raise SourceError("a list in an object store cannot name files of this machine")
    address = objects.Address.parse(source.uri)
    key = posixpath.normpath(posixpath.join(posixpath.dirname(address.key), text))
    if key.startswith(".."):
        raise SourceError("it lies outside the bucket")
    return Found(objects.Address(address.scheme, address.bucket, key).uri, _LISTED, 0, depth=0)


def _here(source: Found, text: str) -> Found:
    if text.startswith("file:"):
        archive, member = split_member(text)
        if member is not None:
            return Found(file_uri(uri_path(archive)) + MEMBER + member, _LISTED, 0, depth=0)
        path = uri_path(text)
    else:
        path = Path(os.path.abspath(uri_path(source.uri).parent / local_path(text)))
    # A list may come from anywhere: what it names elsewhere is nothing that the user has named.
    beside = uri_path(source.uri).parent
    depth = len(path.relative_to(beside).parts) if path.is_relative_to(beside) else 0
    entry = folder.describe(path, depth=depth)
    if isinstance(entry, ListingFailure):
        raise SourceError(f"cannot read {path}: {entry.reason}")
    return entry


def plain(value: Any) -> Any:
    """A value as JSON can hold it; of a mapping, what is None, empty or bytes is left out."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items() if _says_something(v)}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value if not isinstance(item, bytes)]
    return str(value)


def _says_something(value: object) -> bool:
    if value is None or value == "" or isinstance(value, bytes):
        return False
    return not (isinstance(value, float) and not math.isfinite(value))


Misnamed = (SourceError, UsageError)  # what `listed_image` raises, to be caught by row
