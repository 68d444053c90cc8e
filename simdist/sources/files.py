"""A file, here or in an object store, as something that can be read and sought in."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from simdist.errors import SourceError
from simdist.sources import folder, objects
from simdist.sources.access import Access
from simdist.sources.reference import Found, ListingFailure, uri_path

# What is read ahead: a request's latency is small beside what so many bytes take.
READ_AHEAD = 4 * 1024 * 1024


def find(uri: str, access: Access) -> Found:
    """What is known of the file that a URI names.

    Raises:
        SourceError: it is missing, or cannot be read.
        UsageError: it is a URI of another kind.
    """
    if objects.is_object(uri):
        return objects.describe(objects.Address.parse(uri), access)
    entry = folder.describe(uri_path(uri))
    if isinstance(entry, ListingFailure):
        raise SourceError(f"cannot read {uri_path(uri)}: {entry.reason}")
    return entry


def open_file(file: Found, access: Access, *, read_ahead: int = READ_AHEAD) -> BinaryIO:
    """Open it; an object is read in requests of `read_ahead` bytes or more.

    Raises:
        SourceError: it cannot be opened; reading may raise it too.
    """
    if objects.is_object(file.uri):
        return io.BufferedReader(_ObjectFile(file.uri, access, file.size), read_ahead)
    path = uri_path(file.uri)
    try:
        return path.open("rb", buffering=1024 * 1024)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error


class _ObjectFile(io.RawIOBase):
    """An object that is read by ranges, as a seekable file."""

    def __init__(self, uri: str, access: Access, size: int) -> None:
        self._uri, self._access, self._size, self._at = uri, access, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        length = min(len(view), self._size - self._at)
        if length <= 0:
            return 0
        [data] = objects.read_ranges(self._uri, self._access, starts=[self._at], lengths=[length])
        view[: len(data)] = data
        self._at += len(data)
        return len(data)
