"""Parquet files: rows that hold images, or that name them."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any

from simdist.errors import SourceError
from simdist.sources.access import Access
from simdist.sources.columns import (
    Columns,
    Misnamed,
    listed_image,
    plain,
)
from simdist.sources.files import find, open_file
from simdist.sources.parquet import ImageColumn, batches, group_ends, open_parquet, rows_of
from simdist.sources.reference import (
    MEMBER,
    Found,
    ImageRef,
    ListingFailure,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

# The one that is taken where several hold bytes.
IMAGE_COLUMNS = ("image", "jpg", "jpeg", "png", "webp", "img", "bytes")

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
        table = open_parquet(source.uri, file)
        schema = table.schema_arrow
        holder = None if columns.uri else _image_column(schema, source.uri)
        names = [name for name in schema.names if name != holder]
        uri = columns.uri_in(names, source.uri) if holder is None else None
        if holder and _is_empty(table, holder):
            # Datasets that were made without the pictures keep their paths.
            names, uri = [*names, holder], holder
        label = columns.label_in(names, source.uri)
        for number, fields in enumerate(_rows(source.uri, file, table, names)):
            if isinstance(fields, str):
                yield ListingFailure(f"{source.uri}{MEMBER}{number}", f"row {number}: {fields}")
                continue
            name = fields.pop(label, None) if label else None
            if uri is None:
                yield ImageRef(
                    uri=f"{source.uri}{MEMBER}{number}",
                    fingerprint=f"{source.fingerprint}-{number}",
                    size=0,
                    label=None if name is None or name == "" else str(name),
                    metadata=plain(fields),
                    offset=number,
                    depth=source.depth,
                )
                continue
            try:
                address = _address(fields.pop(uri, None))
                yield listed_image(source, address, label=name, metadata=fields)
            except Misnamed as error:
                yield ListingFailure(f"{source.uri}{MEMBER}{number}", f"row {number}: {error}")


def _address(value: object) -> str:
    if isinstance(value, dict):
        value = value.get("path")
    return str(value or "")


def _is_empty(table: ParquetFile, holder: str) -> bool:
    """Whether a column of structs with bytes and paths has paths alone, in all of its rows."""
    leaves = [table.schema.column(i).path for i in range(len(table.schema))]
    if f"{holder}.bytes" not in leaves or f"{holder}.path" not in leaves:
        return False
    at = leaves.index(f"{holder}.bytes")
    chunks = [table.metadata.row_group(i).column(at) for i in range(table.metadata.num_row_groups)]
    return bool(chunks) and all(
        chunk.is_stats_set
        and chunk.statistics.has_null_count
        and chunk.statistics.null_count == chunk.num_values
        for chunk in chunks
    )


def _image_column(schema: pa.Schema, uri: str) -> str | None:
    found = [field.name for field in schema if _holds_bytes(field.type)]
    usual = next((name for name in IMAGE_COLUMNS if name in found), None)
    if len(found) > 1 and usual is None:
        raise SourceError(
            f"{uri} has several columns of bytes ({', '.join(found)}): "
            f"name the one with the images {IMAGE_COLUMNS[0]!r}"
        )
    return usual or next(iter(found), None)


def image_column(table: ParquetFile, uri: str) -> str:
    """The column that holds a file's images.

    Raises:
        SourceError: there is none.
    """
    holder = _image_column(table.schema_arrow, uri)
    if holder is None:
        raise SourceError(f"{uri} holds no images any more; ingest it again")
    return holder


def _holds_bytes(kind: pa.DataType) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        # None that has two of that name.
        at = kind.get_field_index("bytes")
        return at >= 0 and _holds_bytes(kind.field(at).type)
    if types.is_dictionary(kind):
        return _holds_bytes(kind.value_type)
    return bool(types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind))


def _rows(uri: str, file: Any, table: ParquetFile, names: Sequence[str]) -> Iterator[Any]:
    if not names:
        return iter({} for _ in range(table.metadata.num_rows))
    read = batches(uri, file, table, names, rows=_ROWS)
    return chain.from_iterable(map(rows_of, read))


_reading = threading.Lock()


def read_rows(
    uri: str, fingerprint: str, rows: Sequence[int], access: Access
) -> Sequence[bytes | Exception]:
    """The images that rows of a file hold; for a row that holds none, the error.

    Args:
        fingerprint: of the file; what was read under another one is not used.

    Raises:
        SourceError: the file cannot be read.
    """
    with _reading:  # or several threads would read the same row group
        return [_image(uri, fingerprint, row, access) for row in rows]


def _image(uri: str, fingerprint: str, row: int, access: Access) -> bytes | Exception:
    source, ends = _layout(uri, fingerprint, access)
    group = bisect_right(ends, row)
    if group == len(ends):
        return SourceError(f"{uri} has fewer rows than when it was listed; ingest it again")
    before = ends[group - 1] if group else 0
    try:
        images = _images(source, group, access)
        if row - before < images.first:
            _images.cache_clear()
            images = _images(source, group, access)
        value = images[row - before]
    except SourceError as error:
        return error
    return SourceError(f"row {row} of {uri} has no image") if value is None else value


@lru_cache(maxsize=64)
def _layout(uri: str, fingerprint: str, access: Access) -> tuple[Found, tuple[int, ...]]:
    """A file as it is now, and the rows at which its row groups end."""
    source = find(uri, access)
    with open_file(source, access, read_ahead=_READ_AHEAD) as file:
        return source, group_ends(open_parquet(uri, file).metadata)


# Shards come about in the order of the rows: the row group of the last one is that of the next.
@lru_cache(maxsize=1)
def _images(source: Found, group: int, access: Access) -> ImageColumn:
    """The column of images of a row group."""
    with open_file(source, access, read_ahead=_READ_AHEAD) as file:
        holder = image_column(open_parquet(source.uri, file), source.uri)
    return ImageColumn(source, group, access, holder)
