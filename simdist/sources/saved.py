"""Embeddings kept in Parquet files: written by an ingest, and indexed without image or GPU.

Columns: `uri`, `vector` (a list of floats), and where they are known `label`, `model` (the model's
id), `fingerprint`, and `metadata` (a JSON object, as text).
"""

from __future__ import annotations

import io
import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from simdist.errors import OutputError, SourceError
from simdist.settings import SORTED
from simdist.sources import (
    Access,
    ImageRef,
    file_uri,
    objects,
    uri_path,
)
from simdist.sources.files import find, open_file
from simdist.sources.object_listing import PAGE, list_objects
from simdist.sources.reference import Found
from simdist.sources.table import MAX_ROW_GROUP, open_parquet

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DIM = 65_536
# Rows decoded at once, and bytes of vectors that are held at most, about.
_DECODED = 2048
_HELD_BYTES = 1 << 27

_SUFFIX = ".parquet"
_OPTIONAL = ("label", "model", "fingerprint", "metadata")


@dataclass(frozen=True)
class SavedBatch:
    """Some embeddings of one model: `vectors` are the (n, dim) float32 embeddings of `refs`.

    `model` is the model's id; empty where the file does not say it.
    """

    model: str
    refs: tuple[ImageRef, ...]
    vectors: NDArray[np.float32]


@dataclass(frozen=True)
class SavedEmbeddings:
    """A folder, or a prefix in an object store, that embeddings of one model are written to."""

    uri: str
    access: Access
    model_id: str

    @classmethod
    def create(cls, location: str, *, access: Access, model_id: str) -> SavedEmbeddings:
        """Make sure that files can be written there: by an empty one that is removed again.

        Raises:
            OutputError: it cannot be written to.
            UsageError: files cannot be written to such a location.
        """
        uri = location if "://" in location else file_uri(Path(location).expanduser())
        saved = cls(uri.rstrip("/"), access, model_id)
        name = f"embeddings-{uuid4().hex}.tmp"
        saved._put(name, b"")
        saved._remove(name)
        return saved

    def write(self, refs: Sequence[ImageRef], vectors: NDArray[np.float32]) -> None:
        """Write one file of (n, dim) float32 vectors; whoever reads sees all of it or nothing.

        Raises:
            OutputError: it cannot be written.
        """
        from pyarrow import parquet

        made = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{uuid4().hex[:8]}"
        buffer = io.BytesIO()
        parquet.write_table(
            _table(refs, vectors, self.model_id),
            buffer,
            use_dictionary=["model", "label"],
            # Floats that are nearly random: compressing them costs time and gains nothing.
            compression=dict.fromkeys(("uri", *_OPTIONAL), "zstd"),
        )
        self._put(f"embeddings-{made}{_SUFFIX}", buffer.getvalue())

    def _put(self, name: str, data: bytes) -> None:
        with self._writing():
            if objects.is_object(self.uri):
                objects.write_object(f"{self.uri}/{name}", self.access, data)
                return
            path = uri_path(self.uri) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.replace(path)

    def _remove(self, name: str) -> None:
        with self._writing():
            if objects.is_object(self.uri):
                objects.delete_object(f"{self.uri}/{name}", self.access)
            else:
                (uri_path(self.uri) / name).unlink()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Raise what goes wrong as an `OutputError`."""
        try:
            yield
        except SourceError as error:
            raise OutputError(str(error), remedy=error.remedy, about=error.about) from error
        except OSError as error:
            raise OutputError(
                f"cannot write embeddings into {uri_path(self.uri)}: {error.strerror}"
            ) from error


def is_saved(location: str, access: Access) -> bool:
    """Whether a location holds embeddings: a Parquet file, or a folder or prefix of such files.

    Only the first of them is looked at, and of a bucket only the first page of its listing.
    """
    first = next(_files(location, access, limit=PAGE), None)
    if first is None:
        return False
    try:
        with open_file(first, access) as file:
            schema = open_parquet(first.uri, file).schema_arrow
    except SourceError:
        return False
    return "uri" in schema.names and "vector" in schema.names and _is_vector(schema)


def read_saved(location: str, access: Access) -> Iterator[SavedBatch]:
    """Read embeddings, about as many at a time as are sorted together, see `tables`.

    A vector may hold anything but nulls: checking it is the reader's.

    Raises:
        SourceError: a file cannot be read, or holds no embeddings; what came before it is yielded.
    """
    held: list[SavedBatch] = []
    try:
        for batch in chain.from_iterable(
            _read_file(file, access) for file in _files(location, access)
        ):
            if held and not _fits(held, batch):
                yield _joined(held)
                held = []
            held.append(batch)
    except SourceError:
        if held:
            yield _joined(held)
        raise
    if held:
        yield _joined(held)


def _fits(held: Sequence[SavedBatch], batch: SavedBatch) -> bool:
    """Whether a batch is of the same kind as those held, and there is room for it."""
    rows, dim = sum(len(some.refs) for some in held) + len(batch.refs), batch.vectors.shape[1]
    same = (batch.model, dim) == (held[0].model, held[0].vectors.shape[1])
    return same and rows <= SORTED and 4 * rows * dim <= _HELD_BYTES


def _joined(held: Sequence[SavedBatch]) -> SavedBatch:
    refs = tuple(ref for batch in held for ref in batch.refs)
    return SavedBatch(held[0].model, refs, np.concatenate([batch.vectors for batch in held]))


def _files(location: str, access: Access, *, limit: int | None = None) -> Iterator[Found]:
    """The Parquet files of a location, and no deeper; none where there is nothing."""
    if objects.is_object(location):
        address = objects.Address.parse(location)
        if address.key.lower().endswith(_SUFFIX):
            yield objects.describe(address, access)
            return
        root = address.uri.rstrip("/")
        for file in islice(list_objects(address, access), limit):
            if file.suffix == _SUFFIX and posixpath.dirname(file.uri) == root:
                yield file
        return
    path = Path(
        os.path.abspath(uri_path(location) if "://" in location else Path(location).expanduser())
    )
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.suffix.lower() == _SUFFIX:
                yield find(file_uri(entry), access)
    elif path.suffix.lower() == _SUFFIX and path.is_file():
        yield find(file_uri(path), access)


def _read_file(found: Found, access: Access) -> Iterator[SavedBatch]:
    import pyarrow as pa

    with open_file(found, access) as file:
        table = open_parquet(found.uri, file)
        names = table.schema_arrow.names
        if not {"uri", "vector"} <= set(names) or not _is_vector(table.schema_arrow):
            raise SourceError(
                f"{found.uri} holds no embeddings: it needs a column 'uri' and a column 'vector', "
                "lists of floats"
            )
        meta = table.metadata
        sizes = [meta.row_group(group).total_byte_size for group in range(meta.num_row_groups)]
        largest = max(sizes, default=0)
        if largest > MAX_ROW_GROUP:
            raise SourceError(
                f"{found.uri}: a row group has {largest:,} bytes, at most {MAX_ROW_GROUP:,} are "
                "read: write it again with smaller row groups"
            )
        columns = ["uri", "vector", *(name for name in _OPTIONAL if name in names)]
        try:
            for batch in table.iter_batches(_DECODED, columns=columns):
                yield from _batches(batch, found.uri)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{found.uri} is damaged: its rows cannot be read") from error


def _batches(batch: pa.RecordBatch, uri: str) -> Iterator[SavedBatch]:
    """A batch, parted where the model changes."""
    vectors = _vectors(batch.column("vector"), uri)
    others = batch.drop_columns("vector").to_pylist()
    refs = [_ref(fields, vector, uri) for fields, vector in zip(others, vectors, strict=True)]
    models = [str(fields.get("model") or "") for fields in others]
    start = 0
    for stop in range(1, len(models) + 1):
        if stop == len(models) or models[stop] != models[start]:
            yield SavedBatch(models[start], tuple(refs[start:stop]), vectors[start:stop])
            start = stop


def _vectors(column: Any, uri: str) -> NDArray[np.float32]:
    """(n, dim) float32."""
    flat = column.flatten()
    count = len(column)
    dim = len(flat) // count if count else 0
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if column.null_count or flat.null_count or (lengths != dim).any() or not 0 < dim <= MAX_DIM:
        raise SourceError(
            f"{uri}: its vectors must all be there, and be of one length, at most {MAX_DIM:,}"
        )
    values: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    return values.reshape(count, dim)


def _ref(fields: Mapping[str, Any], vector: NDArray[np.float32], uri: str) -> ImageRef:
    name = fields["uri"]
    if not isinstance(name, str) or not name or not name.isascii():
        raise SourceError(f"{uri}: {name!r} is not a URI: write it in ASCII, percent-encoded")
    fingerprint = fields.get("fingerprint") or blake2b(vector.tobytes(), digest_size=16).hexdigest()
    label = fields.get("label")
    return ImageRef(
        uri=name,
        fingerprint=str(fingerprint),
        size=0,
        label=None if label is None else str(label),
        metadata=_metadata(fields.get("metadata"), uri),
    )


def _metadata(text: Any, uri: str) -> Mapping[str, Any]:
    if text is None or text == "":
        return {}
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SourceError(f"{uri}: 'metadata' must be a JSON object, as text, or null")
    return value


def _table(refs: Sequence[ImageRef], vectors: NDArray[np.float32], model: str) -> pa.Table:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(vectors, dtype=np.float32).ravel())
    text = pa.string()
    columns = {
        "uri": pa.array([ref.uri for ref in refs], text),
        "label": pa.array([ref.label for ref in refs], text),
        "model": pa.array([model] * len(refs), text),
        "fingerprint": pa.array([ref.fingerprint for ref in refs], text),
        "metadata": pa.array(
            [json.dumps(ref.metadata) if ref.metadata else None for ref in refs], text
        ),
        "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1]),
    }
    return pa.table(columns)


def _is_vector(schema: pa.Schema) -> bool:
    from pyarrow import types

    kind = schema.field("vector").type
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list and types.is_floating(kind.value_type))
