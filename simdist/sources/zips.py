"""Zip archives: their members, listed by the directory at their end, and read by name."""

from __future__ import annotations

import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import BinaryIO

from simdist.errors import SourceError
from simdist.images.limits import MAX_BYTES, check_size
from simdist.sources.access import Access
from simdist.sources.files import find, open_file
from simdist.sources.members import Member, Samples
from simdist.sources.passed import PassedOver
from simdist.sources.reference import Found, ImageRef, ListingFailure

# Bytes of the directory, which is read at once: some 600,000 members.
MAX_DIRECTORY = 64 * 1024 * 1024
_END, _END_SIZE, _LONGEST_NOTE = b"PK\5\6", 22, 65_535
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1
_DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError, NotImplementedError)

_reading = threading.RLock()  # a zip file is read by one thread at a time


def zip_images(
    archive: Found, access: Access, passed: PassedOver
) -> Iterator[ImageRef | ListingFailure]:
    """List the images of an archive, see `Samples`. What is damaged is a failure."""
    try:
        members = _opened(archive, access).infolist()
    except SourceError as error:
        yield ListingFailure(archive.uri, str(error))
        return
    found = (_member(archive, access, info) for info in members if not info.is_dir())
    yield from Samples(archive, placed=False).entries(found, passed)


def read_zip_member(archive_uri: str, name: str, access: Access) -> bytes:
    """A member of an archive.

    Raises:
        ImageError: it has more than `MAX_BYTES`.
        SourceError: the archive cannot be read, or has no such member.
    """
    archive = find(archive_uri, access)
    found = _names(archive, access).get(name)
    if found is None:
        raise SourceError(f"{archive_uri} has no member {name!r}; ingest it again if it changed")
    check_size(found.file_size)
    return _read(archive, access, found, MAX_BYTES)


def _member(archive: Found, access: Access, info: zipfile.ZipInfo) -> Member:
    flaw = None
    if info.flag_bits & _ENCRYPTED:
        flaw = "encrypted"
    elif info.compress_type not in _METHODS:
        flaw = "packed in a way that is not read"
    read = partial(_read, archive, access, info)
    return Member(info.filename, info.file_size, info.header_offset, read, flaw)


def _read(archive: Found, access: Access, info: zipfile.ZipInfo, size: int) -> bytes:
    if info.flag_bits & _ENCRYPTED or info.compress_type not in _METHODS:
        return b""
    try:
        with _reading, _opened(archive, access).open(info) as file:
            return file.read(size)
    except _DAMAGED as error:
        raise SourceError(f"{info.filename!r} in {archive.uri} is damaged: {error}") from error


@lru_cache(maxsize=4)
def _names(archive: Found, access: Access) -> dict[str, zipfile.ZipInfo]:
    """The members by name, the last of each."""
    return {info.filename: info for info in _opened(archive, access).infolist()}


@lru_cache(maxsize=4)
def _opened(archive: Found, access: Access) -> zipfile.ZipFile:
    file = open_file(archive, access)
    try:
        _check_directory(archive, file)
        opened = zipfile.ZipFile(file)
    except _DAMAGED as error:
        file.close()
        raise SourceError(f"{archive.uri} is damaged: {error}") from error
    except SourceError:
        file.close()
        raise
    weakref.finalize(opened, file.close)
    return opened


def _check_directory(archive: Found, file: BinaryIO) -> None:
    """Check how large the directory is, before it is read."""
    file.seek(max(0, archive.size - _END_SIZE - _LONGEST_NOTE))
    end = file.read()
    at = end.rfind(_END)
    if at < 0:
        raise SourceError(f"{archive.uri} is not a zip archive, or is cut: it has no directory")
    if int.from_bytes(end[at + 12 : at + 16], "little") > MAX_DIRECTORY:
        raise SourceError(f"{archive.uri} has a directory of more than {MAX_DIRECTORY:,} bytes")
