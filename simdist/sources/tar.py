"""WebDataset shards: tar archives whose members belong together by the name before the dot."""

from __future__ import annotations

import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, BinaryIO
from urllib.parse import quote, unquote

from simdist.errors import SourceError
from simdist.images.limits import SUFFIXES
from simdist.sources.access import Access
from simdist.sources.columns import plain
from simdist.sources.files import find, open_file
from simdist.sources.reference import (
    MAX_NOTE,
    MEMBER,
    Found,
    ImageRef,
    ListingFailure,
)

# Bytes of one header of a member, such as a long name: they are read at once.
MAX_HEADER = 1024 * 1024
MAX_IMAGES = 1000  # of a key: they wait for what is said of them

_BLOCK = 512
_NAME = re.compile(r"((?:.*/)?[^./][^./]*)\.([^/]+)", re.DOTALL)


@dataclass
class _Sample:
    """The members of one key: images, and what is said of them."""

    key: str
    images: list[tarfile.TarInfo] = field(default_factory=list)
    label: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    notes: int = 0  # bytes of what is said

    def refs(self, tar: Found) -> Iterator[ImageRef]:
        for image in self.images:
            yield ImageRef(
                uri=tar.member(image.name),
                fingerprint=f"{tar.fingerprint}-{image.offset_data}",
                size=image.size,
                label=self.label,
                metadata=self.metadata,
                offset=image.offset_data,
                depth=tar.depth,
            )


def tar_images(tar: Found, access: Access) -> Iterator[ImageRef | ListingFailure]:
    """List the images of an archive.

    Beside `KEY.jpg`, `KEY.cls` holds its label, `KEY.json` an object of metadata, and `KEY.txt` a
    text that becomes the metadata `txt`. What is damaged is a failure; what follows is listed.

    Raises:
        SourceError: the archive cannot be read.
    """
    with open_file(tar, access) as file:
        sample = _Sample("")
        for member in _members(tar, file):
            if isinstance(member, ListingFailure):
                yield member
                continue
            name = _NAME.fullmatch(member.name)
            if name is None or not member.isreg():
                continue
            if name[1] != sample.key:
                yield from sample.refs(tar)
                sample = _Sample(name[1])
            reason = _take(sample, member, name[2].lower(), file)
            if reason:
                yield ListingFailure(tar.member(member.name), reason)
        yield from sample.refs(tar)


class _Headers:
    """A file of which headers are read; those that are too large are refused."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER:
            raise tarfile.ReadError("a header that is too large")
        return self._file.read(size)


def _members(tar: Found, file: BinaryIO) -> Iterator[tarfile.TarInfo | ListingFailure]:
    end = 0
    try:
        archive = tarfile.TarFile(fileobj=_Headers(file))  # type: ignore[arg-type]
        # Only from here on: a file that does not begin as an archive is none.
        archive.ignore_zeros = True
        while (member := archive.next()) is not None:
            if member.offset > end and _holds_something(file, end):
                yield _damage(tar, end)
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
            if member.offset_data + member.size > tar.size:
                yield ListingFailure(tar.member(member.name), "the archive ends within it")
                return
            yield member
            archive.members = []  # type: ignore[attr-defined]  # it would keep all it has met
    except tarfile.TarError:
        if end == 0:
            reason = "not a tar archive; if it is compressed, unpack it"
            yield ListingFailure(tar.uri, reason)
            return
    if _holds_something(file, end):
        yield _damage(tar, end)


def _holds_something(file: BinaryIO, at: int) -> bool:
    file.seek(at)
    return any(file.read(_BLOCK))


def _damage(tar: Found, at: int) -> ListingFailure:
    return ListingFailure(tar.uri, f"damaged at byte {at:,}: what lies there cannot be listed")


def _take(sample: _Sample, member: tarfile.TarInfo, kind: str, file: BinaryIO) -> str | None:
    """Take a member into its sample; returns why not."""
    if "." + kind.rpartition(".")[2] in SUFFIXES:
        if member.issparse():
            return "a sparse member, which cannot be read"
        if len(sample.images) == MAX_IMAGES:
            return f"its key has more than {MAX_IMAGES:,} images"
        sample.images.append(member)
    elif kind in ("cls", "json", "txt"):
        if sample.notes + member.size > MAX_NOTE:
            return f"it has {member.size:,} bytes; at most {MAX_NOTE:,} are kept with an image"
        sample.notes += member.size
        file.seek(member.offset_data)
        try:
            _note(sample, kind, file.read(member.size).decode().strip())
        except UnicodeDecodeError:
            return "not UTF-8"
        except (ValueError, RecursionError):
            return "not a JSON object"
    return None


def _note(sample: _Sample, kind: str, text: str) -> None:
    match kind:
        case "cls":
            sample.label = text or None
        case "txt":
            sample.metadata["txt"] = text
        case "json":
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise ValueError("no object")
            sample.metadata |= plain(fields)


def find_member(archive_uri: str, name: str, access: Access) -> tuple[int, int]:
    """Where a member's bytes begin in its archive, and how many there are.

    Raises:
        SourceError: the archive cannot be read, or has no such member.
    """
    archive = find(archive_uri, access)
    position = _positions(archive, access).get(quote(unquote(name)))
    if position is None:
        raise SourceError(f"{archive_uri} has no member {name!r}; ingest it again if it changed")
    return position


# The hits of one search often lie in the same few archives.
@lru_cache(maxsize=4)
def _positions(archive: Found, access: Access) -> dict[str, tuple[int, int]]:
    positions = {}
    for entry in tar_images(archive, access):
        if isinstance(entry, ImageRef) and entry.offset is not None:
            positions[entry.uri.partition(MEMBER)[2]] = entry.offset, entry.size
    return positions
