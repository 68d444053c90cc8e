"""An indexed image, read again from its source: only from there, and only if it is still the same.

Whoever asks for it is not whoever ran the ingest, and what is stored of an image may come from a
stranger's file.
"""

from __future__ import annotations

import os
import stat
import threading
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from simdist.errors import SourceError, UsageError
from simdist.images.limits import check_size
from simdist.sources import objects
from simdist.sources.access import Access
from simdist.sources.background import interruptibly
from simdist.sources.files import open_file
from simdist.sources.folder import version_of
from simdist.sources.parquet import column_size, group_ends, image_in, open_parquet
from simdist.sources.place import Place, version_digest
from simdist.sources.reference import MEMBER, file_uri, local_path, uri_path
from simdist.sources.table import image_column

# Of a row group's images: bytes that may lie in one page, and that are decoded on the way to a row;
# and batches on that way, each 40 us.
MAX_DECODED = 64 * 1024 * 1024
_MAX_BATCHES = 4096
_DIGITS = 20  # of a row's number
_BUFFER = 1024 * 1024  # that is read ahead
# One at a time, or what they take would add up.
_reading = threading.Lock()


class OriginalError(SourceError):
    """Why an image is not read again; the message names no place, and may be shown to anyone."""


@dataclass(frozen=True)
class Original:
    """An indexed image.

    Attributes:
        place: where an ingest has read it, if one has.
        has: whether it was indexed with a fingerprint.
    """

    uri: str
    place: Place | None
    has: Callable[[str], bool]

    @property
    def file(self) -> str:
        """The URI of its file, which may be an archive."""
        return self.uri.partition(MEMBER)[0]

    @property
    def member(self) -> str:
        """What it is in its archive; empty where it is a file of its own."""
        return self.uri.partition(MEMBER)[2]

    @property
    def is_row(self) -> bool:
        """Whether it is a row of a Parquet file."""
        number = self.member.isdecimal() and len(self.member) < _DIGITS
        return number and self.file.lower().endswith(".parquet")

    def span(self) -> tuple[int, int] | None:
        """The first byte and the number of bytes in its file; None for all of it.

        Raises:
            OriginalError: it is in an archive, nobody knows where.
        """
        if self.place is not None and self.place.offset is not None:
            return self.place.offset, self.place.size or 0
        if self.member:
            raise OriginalError(
                "where the image lies in its archive is not known: ingest the archive itself"
            )
        return None

    def check(self, version: str) -> None:
        """Check that its file, which has this fingerprint now, had it when it was read.

        Raises:
            OriginalError: it has changed.
        """
        if self.place is None:
            return
        if self.place.version is not None:
            same = version_digest(version) == self.place.version
        else:
            within = self.member if self.is_row else self.place.offset
            same = self.has(version if not self.member else f"{version}-{within}")
        if not same:
            raise OriginalError("the image has changed since it was indexed: ingest it again")


def root_uri(location: str) -> str:
    """A folder, a file or a prefix of an object store, as a URI.

    Raises:
        UsageError: it names something else.
    """
    if not location:
        raise UsageError("an empty text names no place whose pictures are to be shown")
    if objects.is_object(location):
        return objects.Address.parse(location).uri
    return file_uri(local_path(location))


def read_original(original: Original, *, roots: Sequence[str], access: Access) -> bytes:
    """Read an indexed image's bytes.

    What an ingest has read below the folder or prefix that it was given may be read if it has not
    changed. Anything else must lie below one of the roots.

    Args:
        roots: see `root_uri`.

    Raises:
        OriginalError: it may not be read, has changed, or cannot be found in its archive.
        SourceError: it cannot be read.
        ImageError: it is larger than `limits.MAX_BYTES`.
        UsageError: its URI names nothing that simdist reads.
    """
    if objects.is_object(original.file):
        return _read_object(original, roots, access)
    with _open_below(uri_path(original.file), _folders(original, roots)) as file:
        details = os.fstat(file.fileno())
        original.check(version_of(details))
        if original.is_row:
            return _row(file, original)
        start, size = original.span() or (0, details.st_size)
        check_size(size)
        file.seek(start)
        return file.read(size)


def check_place(original: Original, *, roots: Sequence[str]) -> None:
    """Check that `read_original` might read an image, without opening anything.

    Raises:
        OriginalError: it lies where it may not be read.
        UsageError: its URI names nothing that simdist reads.
    """
    if objects.is_object(original.file):
        _check_object(original, objects.Address.parse(original.file), roots)
    else:
        _base(uri_path(original.file), _folders(original, roots))


def _folders(original: Original, roots: Sequence[str]) -> list[Path]:
    """The folders below which a file may lie."""
    folders = [uri_path(root) for root in roots if not objects.is_object(root)]
    parents = uri_path(original.file).parents
    if original.place is not None and original.place.depth and parents:
        folders.append(parents[min(original.place.depth, len(parents)) - 1])
    return folders


def _base(path: Path, folders: Sequence[Path]) -> tuple[Path, Path]:
    """A file without links on its way, and the folder below which it may be read."""
    real = Path(os.path.realpath(path))
    for folder in folders:
        base = Path(os.path.realpath(folder))
        if base == real:
            base = real.parent
        if real.is_relative_to(base):
            return real, base
    raise _not_shown()


def _open_below(path: Path, folders: Sequence[Path]) -> BinaryIO:
    real, base = _base(path, folders)
    try:
        descriptor = _open_step_by_step(base, real.relative_to(base).parts)
    except OSError as error:
        raise SourceError(f"cannot read {path}: {error.strerror}") from error
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise SourceError(f"{path} is not a regular file")


def _open_step_by_step(base: Path, parts: Sequence[str]) -> int:
    """Open a file so that a link that somebody puts into the way meanwhile is not followed."""
    folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # It may have become a pipe, and a pipe waits for its writer.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(parts[-1], flags, dir_fd=folder)
    finally:
        os.close(folder)


def _not_shown() -> OriginalError:
    return OriginalError(
        "the image lies in no folder or bucket from which an ingest has read it, and in none that "
        "this service was told to show: its operator can name one"
    )


def _check_object(original: Original, address: objects.Address, roots: Sequence[str]) -> None:
    known = original.place is not None and original.place.depth > 0
    if not known and not any(_is_below(address, root) for root in roots):
        raise _not_shown()


def _read_object(original: Original, roots: Sequence[str], access: Access) -> bytes:
    address = objects.Address.parse(original.file)
    _check_object(original, address, roots)
    if original.is_row:
        found = objects.describe(address, access)
        original.check(found.fingerprint)
        with open_file(found, access, read_ahead=_BUFFER) as file:
            return _row(file, original)
    span = original.span()
    options: dict[str, Any] = {"range": (span[0], span[0] + span[1])} if span else {}
    with objects.translated(address, access):
        store = objects.bucket_store(address.scheme, address.bucket, access)
        answer = interruptibly(store.get, address.key, options=options)  # type: ignore[arg-type]
        found = objects.found(address, answer.meta)
        # The version of the bytes that come, with one request.
        original.check(found.fingerprint)
        check_size(span[1] if span else found.size)
        return bytes(interruptibly(answer.bytes))


def _is_below(address: objects.Address, root: str) -> bool:
    # A store's client takes no such key; whoever does might go up with it.
    if {"", ".", ".."}.intersection(address.key.split("/")):
        return False
    prefix = root.rstrip("/")
    return objects.is_object(root) and (address.uri + "/").startswith(prefix + "/")


def _row(file: BinaryIO, original: Original) -> bytes:
    """The image in a row of a Parquet file, reached in little memory and time."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    row, uri = int(original.member), original.file
    try:
        # By default it reads the row group's whole column ahead.
        meta = open_parquet(uri, file).metadata
        table = ParquetFile(file, metadata=meta, buffer_size=_BUFFER, pre_buffer=False)
        ends = group_ends(meta)
        group = bisect_right(ends, row)
        if group == len(ends):
            raise SourceError(f"{uri} has fewer rows than when it was listed; ingest it again")
        with _reading:
            value = _value(table, uri, group, row - (ends[group - 1] if group else 0))
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{uri} is damaged: row {row} cannot be read") from error
    if value is None:
        raise SourceError(f"row {row} of {uri} has no image")
    check_size(len(value))
    return value


def _value(table: Any, uri: str, group: int, row: int) -> bytes | None:
    """A value of the column of images, by its row in the row group."""
    holder = image_column(table, uri)
    size = max(1, column_size(table.metadata, group, holder))
    # No value is larger than the column, but with a dictionary all may be as large.
    batch = max(1, min(1000, MAX_DECODED // size))
    if size > MAX_DECODED or row // batch > _MAX_BATCHES:
        raise _too_large()
    start = decoded = 0
    for some in table.iter_batches(batch, row_groups=[group], columns=[holder]):
        if row < start + len(some):
            return image_in(some.column(0)[row - start])
        start += len(some)
        decoded += some.nbytes
        if decoded > MAX_DECODED:
            break
    raise _too_large()


def _too_large() -> OriginalError:
    return OriginalError(
        "the image lies in too large a row group: write the file again with smaller ones"
    )
