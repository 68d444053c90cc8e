"""Parquet files: rows that hold images, or that name them."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from simdist.errors import SourceError
from simdist.sources.access import Access
from simdist.sources.columns import Columns, Misnamed, listed_image, plain
from simdist.sources.files import find, open_file
from simdist.sources.reference import MEMBER, Found, ImageRef, ListingFailure

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

IMAGE_COLUMN = "image"  # the one that is taken where several hold bytes
# Of a row group's images; they are read together.
MAX_ROW_GROUP = 1024 * 1024 * 1024

_ROWS = 1000
_READ_AHEAD = 1024 * 1024


def table_images(
    source: Found, access: Access, columns: Columns
) -> Iterator[ImageRef | ListingFailure]:
    """List the rows of a Parquet file.

    A column of bytes, or of structs with `bytes` as Hugging Face's datasets have them, holds the
    images themselves; without one, or with `columns.uri`, the rows name them. The images are not
    read here.

    Raises:
        SourceError: the file cannot be read, or a column is not there.
    """
    with open_file(source, access, read_ahead=_READ_AHEAD) as file:
        table = _parquet(source.uri, file)
        schema = table.schema_arrow
        holder = None if columns.uri else _image_column(schema, source.uri)
        names = [name for name in schema.names if name != holder]
        uri = columns.uri_in(names, source.uri) if holder is None else None
        label = columns.label_in(names, source.uri)
        for number, fields in enumerate(_rows(table, names, source.uri)):
            name = fields.pop(label, None) if label else None
            if uri is None:
                yield ImageRef(
                    uri=f"{source.uri}{MEMBER}{number}",
                    fingerprint=f"{source.fingerprint}-{number}",
                    size=0,
                    label=None if name is None or name == "" else str(name),
                    metadata=plain(fields),
                    offset=number,
                )
                continue
            try:
                yield listed_image(source, str(fields.pop(uri) or ""), label=name, metadata=fields)
            except Misnamed as error:
                yield ListingFailure(f"{source.uri}{MEMBER}{number}", f"row {number}: {error}")


def _parquet(uri: str, file: Any) -> ParquetFile:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(file)
    except pa.ArrowException as error:
        raise SourceError(f"{uri} is not a Parquet file that can be read") from error


def _image_column(schema: pa.Schema, uri: str) -> str | None:
    found = [field.name for field in schema if _holds_bytes(field.type)]
    if len(found) > 1 and IMAGE_COLUMN not in found:
        raise SourceError(
            f"{uri} has several columns of bytes ({', '.join(found)}): "
            f"name the one with the images {IMAGE_COLUMN!r}"
        )
    return IMAGE_COLUMN if IMAGE_COLUMN in found else next(iter(found), None)


def _holds_bytes(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(field.name == "bytes" and _holds_bytes(field.type) for field in kind)
    return bool(types.is_binary(kind) or types.is_large_binary(kind))


def _rows(table: ParquetFile, names: Sequence[str], uri: str) -> Iterator[dict[str, Any]]:
    import pyarrow as pa

    if not names:
        yield from ({} for _ in range(table.metadata.num_rows))
        return
    try:
        for batch in table.iter_batches(_ROWS, columns=list(names)):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{uri} is damaged: its rows cannot be read") from error


_reading = threading.Lock()


def read_rows(
    uri: str, state: str, rows: Sequence[int], access: Access
) -> Sequence[bytes | Exception]:
    """The images that rows of a file hold; for a row that holds none, the error.

    Args:
        state: changes when the file does; what was read of another state is not used.

    Raises:
        SourceError: the file cannot be read.
    """
    with _reading:  # or several threads would read the same row group
        table = _opened(uri, state, access)
        return [_image(table, uri, row) for row in rows]


def _image(table: _Table, uri: str, row: int) -> bytes | Exception:
    try:
        group, place = table.place(row)
        value = table.images(group)[place].as_py()
    except SourceError as error:
        return error
    if isinstance(value, Mapping):
        value = value.get("bytes")
    return value if isinstance(value, bytes) else SourceError(f"row {row} of {uri} has no image")


class _Table:
    """A Parquet file that is kept open, and the images of the row group that was read last."""

    def __init__(self, source: Found, access: Access) -> None:
        self._uri = source.uri
        self._file = _parquet(source.uri, open_file(source, access, read_ahead=_READ_AHEAD))
        holder = _image_column(self._file.schema_arrow, source.uri)
        if holder is None:
            raise SourceError(f"{source.uri} holds no images any more; ingest it again")
        self._holder = holder
        self._group, self._images = -1, None

    def place(self, row: int) -> tuple[int, int]:
        """The row group of a row, and its place there."""
        meta = self._file.metadata
        for group in range(meta.num_row_groups):
            rows = meta.row_group(group).num_rows
            if row < rows:
                return group, row
            row -= rows
        raise SourceError(f"{self._uri} has fewer rows than when it was listed; ingest it again")

    def images(self, group: int) -> Any:
        """The column of images of a row group."""
        import pyarrow as pa

        if group != self._group:
            self._group, self._images = -1, None
            size = self._file.metadata.row_group(group).total_byte_size
            if size > MAX_ROW_GROUP:
                raise SourceError(
                    f"{self._uri}: a row group has {size:,} bytes, at most {MAX_ROW_GROUP:,} are "
                    "read: write it again with smaller row groups"
                )
            try:
                read = self._file.read_row_group(group, columns=[self._holder])
            except (pa.ArrowException, OSError) as error:
                raise SourceError(f"{self._uri} is damaged in row group {group}") from error
            self._group, self._images = group, read.column(self._holder)
        return self._images


@lru_cache(maxsize=2)
def _opened(uri: str, state: str, access: Access) -> _Table:
    return _Table(find(uri, access), access)
