"""Parquet files, read within bounds of what is decoded, not of what lies in the file.

A kilobyte can stand for gigabytes: a value is written once and repeated by its number, or packed.
"""

from __future__ import annotations

import io
import os
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from simdist.errors import SourceError
from simdist.sources.access import Access
from simdist.sources.files import open_file
from simdist.sources.reference import Found

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow.parquet import ColumnSchema, FileMetaData, ParquetFile

# Bytes of a row group's images that are gone through, a page at a time. An image is at most as
# large as that, and so is what its writer had in memory.
MAX_ROW_GROUP = 1024 * 1024 * 1024
# Of its other columns: repeated texts are counted once, numbers in lists each.
MAX_DECODED = 512 * 1024 * 1024
# Of a row without its images, of which an index holds a fraction, and of rows that become Python's
# objects together.
MAX_ROW = 1024 * 1024
# Of the images read last that are kept: shards may be read in another order than they are listed.
MAX_KEPT = 128 * 1024 * 1024

_READ_AHEAD = 1024 * 1024
# Of decoded texts and fixed bytes in a batch that cannot be had by their numbers.
_BATCH_BYTES = 64 * 1024 * 1024
_WIDTHS = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8}


def open_parquet(uri: str, file: Any) -> ParquetFile:
    """An open file as a Parquet file.

    Raises:
        SourceError: it is none, or damaged.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    try:
        table = ParquetFile(file)
        _check_columns(file, table.metadata)
        return table
    # `OSError`: what it says of itself is damaged; `ValueError`: a name is not UTF-8.
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{uri} is not a Parquet file that can be read") from error


class _UnreadError(Exception):
    """Something was about to be read."""


class _Unreadable(io.RawIOBase):
    """A file of so many bytes, none of which can be read."""

    def __init__(self, size: int) -> None:
        self._size, self._at = size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise _UnreadError


def _check_columns(file: Any, meta: Any) -> None:
    """Have Arrow look at what the file says of its columns, where what it raises can be caught.

    In `RowGroupMetaData.column` it cannot: the process is aborted.
    """
    from pyarrow.parquet import ParquetFile

    blind = _Unreadable(file.seek(0, os.SEEK_END))
    with suppress(_UnreadError):
        # With `pre_buffer` it looks at all of them before it reads.
        next(ParquetFile(blind, metadata=meta, pre_buffer=True).iter_batches(1), None)


def batches(
    uri: str, file: Any, table: ParquetFile, names: Sequence[str], *, rows: int
) -> Iterator[pa.RecordBatch]:
    """Columns of a file but for plain bytes, so many rows at a time or fewer; texts stay numbers.

    Args:
        file: what `table` was opened from.

    Raises:
        SourceError: it is damaged, or a row group would take more than `MAX_DECODED` bytes.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    schema = [table.schema.column(i) for i in range(len(table.schema))]
    leaves = {i: leaf for i, leaf in enumerate(schema) if _is_wanted(leaf, names)}
    paths = [leaf.path for leaf in leaves.values()]
    meta = table.metadata
    groups = [meta.row_group(number) for number in range(meta.num_row_groups)]
    texts = [
        leaf.path
        for i, leaf in leaves.items()
        if leaf.physical_type == "BYTE_ARRAY"
        and not any(_is_shared(group.column(i)) for group in groups)
    ]
    try:
        by_number = ParquetFile(file, metadata=meta, read_dictionary=texts)
        for number, group in enumerate(groups):
            chunks = [(leaf, group.column(i)) for i, leaf in leaves.items()]
            size = sum(_decoded(*chunk) for chunk in chunks)
            if size > MAX_DECODED:
                raise _too_large(uri, size, MAX_DECODED)
            mean = size // max(group.num_rows, 1)
            largest = max(mean, 1, *(_largest(*chunk) for chunk in chunks))
            most = max(1, min(rows, _BATCH_BYTES // largest))
            yield from by_number.iter_batches(most, row_groups=[number], columns=paths)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{uri} is damaged: its rows cannot be read") from error


def rows_of(batch: pa.RecordBatch) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch; for one that cannot be taken, the reason."""
    import pyarrow as pa

    try:
        size = sum(_size(column) for column in batch.columns)
        if size <= MAX_ROW:
            yield from _plain(batch)
            return
        reason = f"it has {size:,} bytes: at most {MAX_ROW:,} are read"
    # Text that is not UTF-8, a date that Python does not know, the number of no text.
    except (ValueError, OverflowError, pa.ArrowException):
        reason = "it holds a value that cannot be read"
    if len(batch) == 1:
        yield reason
        return
    half = len(batch) // 2
    yield from rows_of(batch.slice(0, half))
    yield from rows_of(batch.slice(half))


class ImageColumn:
    """The images of a row group, read row by row, forward; the last `MAX_KEPT` bytes are kept.

    Attributes:
        first: the first row that can still be had.
    """

    def __init__(self, source: Found, group: int, access: Access, name: str) -> None:
        """Nothing is read yet but what the file says of itself.

        Raises:
            SourceError: it is damaged, or the row group has more than `MAX_ROW_GROUP` bytes.
        """
        from pyarrow.parquet import ParquetFile

        self.first = self._next = self._size = 0
        self._where = f"{source.uri} is damaged in row group {group}"
        self._kept: OrderedDict[int, pa.Array] = OrderedDict()
        file = open_file(source, access, read_ahead=_READ_AHEAD)
        weakref.finalize(self, file.close)
        meta = open_parquet(source.uri, file).metadata
        size = column_size(meta, group, name)
        if size > MAX_ROW_GROUP:
            raise _too_large(source.uri, size, MAX_ROW_GROUP)
        # With a buffer, pages are read one by one, not the whole column at once.
        table = ParquetFile(file, metadata=meta, buffer_size=_READ_AHEAD)
        self._batches = table.iter_batches(1, row_groups=[group], columns=[name])

    def __getitem__(self, row: int) -> bytes | None:
        """The image of a row, if it holds one; of none before `first`.

        Raises:
            SourceError: the file is damaged before its end.
        """
        import pyarrow as pa

        while self._next <= row:
            try:
                value = next(self._batches).column(0)
            except (pa.ArrowException, OSError, StopIteration) as error:
                raise SourceError(self._where) from error
            self._kept[self._next] = value
            self._size += value.nbytes
            self._next += 1
            while self._size > MAX_KEPT and len(self._kept) > 1:
                self._size -= self._kept.popitem(last=False)[1].nbytes
                self.first += 1
        return image_in(self._kept[row][0])


def group_ends(meta: FileMetaData) -> tuple[int, ...]:
    """The rows at which the row groups of a file end."""
    return tuple(accumulate(meta.row_group(i).num_rows for i in range(meta.num_row_groups)))


def column_size(meta: FileMetaData, number: int, name: str) -> int:
    """Bytes of a column of a row group in its pages, not packed."""
    group, schema = meta.row_group(number), meta.schema
    # By the schema's names: those that a row group repeats nobody has looked at.
    leaves = (i for i in range(len(schema)) if _is_of(schema.column(i).path, name))
    return int(sum(group.column(i).total_uncompressed_size for i in leaves))


def image_in(value: pa.Scalar) -> bytes | None:
    """The image that a value of a column of images holds; what else is in it may be damaged."""
    import pyarrow as pa

    while isinstance(value, pa.StructScalar):
        value = value["bytes"]
    image = value.as_py()
    return image if isinstance(image, bytes) else None


def _is_of(path: str, name: str) -> bool:
    return path == name or path.startswith(name + ".")


def _is_wanted(leaf: ColumnSchema, names: Sequence[str]) -> bool:
    plain_bytes = leaf.physical_type == "BYTE_ARRAY" and leaf.logical_type.type == "NONE"
    return not plain_bytes and any(_is_of(leaf.path, name) for name in names)


def _decoded(leaf: ColumnSchema, chunk: Any) -> int:
    """Bytes that a column of a row group takes at most when it is held, texts by their numbers."""
    if leaf.max_repetition_level == 0:
        return int(chunk.total_uncompressed_size)
    width = _WIDTHS.get(leaf.physical_type) or max(leaf.length, 4)
    return max(int(chunk.total_uncompressed_size), int(chunk.num_values) * width)


def _largest(leaf: ColumnSchema, chunk: Any) -> int:
    """Bytes of the largest value, where there is no other bound for so many rows of them."""
    if leaf.physical_type == "FIXED_LEN_BYTE_ARRAY":
        return int(leaf.length)
    return int(chunk.total_uncompressed_size) if _is_shared(chunk) else 0


def _is_shared(chunk: Any) -> bool:
    """Whether a value is what it shares with the one before, and the rest: none has a number."""
    return "DELTA_BYTE_ARRAY" in chunk.encodings


def _size(array: pa.Array) -> int:
    """Bytes of an array whose texts are no longer numbers."""
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import types

    if types.is_map(array.type):  # lists of pairs, which cannot be flattened as they are
        pairs = pa.StructArray.from_arrays([array.keys, array.items], ["key", "value"])
        array = pa.ListArray.from_arrays(array.offsets, pairs)
    kind = array.type
    if types.is_dictionary(kind):
        value = kind.value_type
        if types.is_fixed_size_binary(value) or types.is_primitive(value):
            return 8 * len(array)
        lengths = pc.binary_length(array.dictionary).take(array.indices)
        return 8 * len(array) + (pc.sum(lengths).as_py() or 0)
    if types.is_struct(kind):
        return sum(_size(field) for field in array.flatten())
    if types.is_nested(kind):
        return 8 * len(array) + _size(array.flatten())
    return max(int(array.nbytes), 8 * len(array))


def _plain(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    from pyarrow import types

    columns = []
    for column in batch.columns:
        if types.is_dictionary(column.type):
            values = column.dictionary_decode().to_pylist()
            # What is repeated is held once.
            held: dict[Any, Any] = {}
            columns.append([held.setdefault(value, value) for value in values])
        else:
            columns.append(column.to_pylist())
    names = batch.schema.names
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _too_large(uri: str, size: int, limit: int) -> SourceError:
    return SourceError(
        f"{uri}: a row group has {size:,} bytes, at most {limit:,} are read: write it again with "
        "smaller row groups"
    )
