"""WebDataset shards, and other tar archives."""

from __future__ import annotations

import os
import tarfile
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import lru_cache, partial
from typing import Any, BinaryIO
from urllib.parse import quote, unquote_to_bytes

from simdist.errors import SourceError
from simdist.images.limits import check_size
from simdist.sources.access import Access
from simdist.sources.files import find, open_file
from simdist.sources.members import Member, Samples
from simdist.sources.packed import MAGIC, Unpacked, packing_of
from simdist.sources.passed import PassedOver
from simdist.sources.reference import (
    Found,
    ImageRef,
    ListingFailure,
)

# Bytes of one header of a member, such as a long name: they are read at once.
MAX_HEADER = 1024 * 1024

_BLOCK = 512


def tar_images(
    tar: Found, access: Access, passed: PassedOver | None = None
) -> Iterator[ImageRef | ListingFailure]:
    """List the images of an archive, see `Samples`; packed by gzip, bzip2 or xz, too.

    What is damaged is a failure; what follows is listed.

    Args:
        passed: counts what is passed over.

    Raises:
        SourceError: the archive cannot be read.
    """
    passed = passed or PassedOver()
    file = open_file(tar, access)
    try:
        opened = _unpacked(tar, file)
    except SourceError as error:
        file.close()
        yield ListingFailure(tar.uri, str(error))
        return
    with closing(opened):
        # Of what is packed no range can be read: its members have no place.
        samples = Samples(tar, placed=not isinstance(opened, Unpacked))
        yield from samples.entries(_files(tar, opened, passed), passed)


def open_tar(tar: Found, access: Access) -> Any:
    """Open an archive: a file, or an `Unpacked`.

    Raises:
        SourceError: it cannot be read, or is packed in a way that is not read.
    """
    return _unpacked(tar, open_file(tar, access))


def _unpacked(tar: Found, file: BinaryIO) -> Any:
    packing = packing_of(file.read(MAGIC))
    file.seek(0)
    return Unpacked(file, packing, tar.size) if packing else file


def _files(tar: Found, file: Any, passed: PassedOver) -> Iterator[Member | ListingFailure]:
    """The members that are files."""
    for member in _members(tar, file):
        if isinstance(member, ListingFailure):
            yield member
        elif member.isreg():
            flaw = "a sparse member, which cannot be read" if member.issparse() else None
            read = partial(_read, file, member)
            yield Member(member.name, member.size, member.offset_data, read, flaw)
        elif not member.isdir():
            passed.counts["links"] += 1


def _read(file: Any, member: tarfile.TarInfo, size: int) -> bytes:
    file.seek(member.offset_data)
    data: bytes = file.read(min(size, member.size))
    return data


class _Headers:
    """A file of which headers are read; those that are too large are refused."""

    def __init__(self, file: Any) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise tarfile.ReadError("a header that is too large")
        data: bytes = self._file.read(size)
        return data


def _members(tar: Found, file: Any) -> Iterator[tarfile.TarInfo | ListingFailure]:
    end, is_packed = 0, isinstance(file, Unpacked)
    try:
        archive = tarfile.TarFile(fileobj=_Headers(file))  # type: ignore[arg-type]
        # Only from here on: a file that does not begin as an archive is none.
        archive.ignore_zeros = True
        while (member := archive.next()) is not None:
            if member.offset > end and not is_packed and _holds_something(file, end):
                yield _damage(tar, end)
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            if not is_packed and member.offset_data + member.size > tar.size:
                yield ListingFailure(tar.member(member.name), "the archive ends within it")
                return
            yield member
            archive.members = []  # type: ignore[attr-defined]  # it would keep all it has met
    except tarfile.TarError:
        if end == 0:
            yield ListingFailure(tar.uri, "not a tar archive")
            return
    except SourceError as error:
        if not is_packed:
            raise
        yield ListingFailure(tar.uri, f"{error}; what lies behind byte {end:,} is not listed")
        return
    if not is_packed and _holds_something(file, end):
        yield _damage(tar, end)


def _holds_something(file: Any, at: int) -> bool:
    file.seek(at)
    return any(file.read(_BLOCK))


def _damage(tar: Found, at: int) -> ListingFailure:
    return ListingFailure(tar.uri, f"damaged at byte {at:,}: what lies there cannot be listed")


def find_member(archive_uri: str, name: str, access: Access) -> tuple[int, int]:
    """Where a member's bytes begin in its archive, and how many there are.

    Raises:
        SourceError: the archive cannot be read, or has no such member.
    """
    return _position(find(archive_uri, access), name, access)


def _position(archive: Found, name: str, access: Access) -> tuple[int, int]:
    position = _positions(archive, access).get(quote(unquote_to_bytes(name)))
    if position is None:
        raise SourceError(f"{archive.uri} has no member {name!r}; ingest it again if it changed")
    return position


# The hits of one search often lie in the same few archives.
@lru_cache(maxsize=4)
def _positions(archive: Found, access: Access) -> dict[str, tuple[int, int]]:
    with closing(open_tar(archive, access)) as file:
        return {
            quote(os.fsencode(member.name)): (member.offset, member.size)
            for member in _files(archive, file, PassedOver())
            if isinstance(member, Member) and not member.flaw
        }


_reading = threading.Lock()


def read_member(archive_uri: str, name: str, access: Access) -> bytes | None:
    """A member of an archive that is packed as a whole; None of one that is not.

    Raises:
        SourceError: the archive cannot be read, or has no such member.
    """
    with _reading:
        archive = find(archive_uri, access)
        reader = _reader(archive, access)
        if reader is None:
            return None
        start, size = _position(archive, name, access)
        check_size(size)
        try:
            reader.seek(start)
        except SourceError:  # it lies before what has been read
            _reader.cache_clear()
            reader = _reader(archive, access)
            if reader is None:
                return None
            reader.seek(start)
        return reader.read(size)


# A process reads an archive once, forward, and once more to find its members.
@lru_cache(maxsize=2)
def _reader(archive: Found, access: Access) -> Unpacked | None:
    file = open_tar(archive, access)
    if isinstance(file, Unpacked):
        return file
    file.close()
    return None
