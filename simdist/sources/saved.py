"""Embeddings kept in Parquet files: written by an ingest, and indexed without image or GPU.

Columns: `uri`, `vector` (a list of floats), and where they are known `label`, `model` (the model's
id), `fingerprint`, and `metadata` (a JSON object, as text).
"""

from __future__ import annotations

import io
import json
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from simdist.errors import SourceError
from simdist.settings import SORTED
from simdist.sources import (
    Access,
    ImageRef,
    file_uri,
    local_path,
    objects,
)
from simdist.sources.files import find, open_file
from simdist.sources.object_listing import PAGE, list_objects
from simdist.sources.output import OutputFolder
from simdist.sources.parquet import batches, open_parquet
from simdist.sources.reference import Found, ListingFailure
from simdist.sources.saved_rows import SavedRow, saved_rows, usual_length

if TYPE_CHECKING:
    import pyarrow as pa

# Rows decoded at once; bytes of vectors, and of what is said of them, that are held at most, about.
_DECODED = 2048
_HELD_BYTES = 1 << 27
_HELD_NOTES = 1 << 24

_SUFFIX = ".parquet"
_OPTIONAL = ("label", "model", "fingerprint", "metadata")


@dataclass(frozen=True)
class SavedBatch:
    """Some embeddings of one model: `vectors` are the (n, dim) float32 embeddings of `refs`.

    Attributes:
        model: the model's id; empty where the file does not say it.
        failures: rows before or among them that hold none.
        notes: characters of their texts in the file.
    """

    model: str
    refs: tuple[ImageRef, ...]
    vectors: NDArray[np.float32]
    failures: tuple[ListingFailure, ...] = ()
    notes: int = 0


@dataclass(frozen=True)
class SavedEmbeddings:
    """A folder, or a prefix in an object store, that embeddings of one model are written to."""

    folder: OutputFolder
    model_id: str

    @classmethod
    def create(cls, location: str, *, access: Access, model_id: str) -> SavedEmbeddings:
        """Make sure that files can be written there: by an empty one that is removed again.

        Raises:
            OutputError: it cannot be written to.
            UsageError: files cannot be written to such a location.
        """
        folder = OutputFolder.of(location, access)
        folder.check()
        return cls(folder, model_id)

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
        self.folder.put(f"embeddings-{made}{_SUFFIX}", buffer.getvalue())


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

    A vector may hold anything but nulls: checking it is the reader's. A row without one, one of
    another length than the file's others, or that names no image, is a failure of that row.

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
    notes = sum(some.notes for some in held) + batch.notes
    same = (batch.model, dim) == (held[0].model, held[0].vectors.shape[1])
    return same and rows <= SORTED and 4 * rows * dim <= _HELD_BYTES and notes <= _HELD_NOTES


def _joined(held: Sequence[SavedBatch]) -> SavedBatch:
    refs = tuple(ref for batch in held for ref in batch.refs)
    failures = tuple(failure for batch in held for failure in batch.failures)
    vectors = np.concatenate([batch.vectors for batch in held])
    return SavedBatch(held[0].model, refs, vectors, failures)


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
    path = Path(os.path.abspath(local_path(location)))
    if path.is_dir():
        for entry in sorted(path.iterdir()):
            if entry.suffix.lower() == _SUFFIX:
                yield find(file_uri(entry), access)
    elif path.suffix.lower() == _SUFFIX and path.is_file():
        yield find(file_uri(path), access)


def _read_file(found: Found, access: Access) -> Iterator[SavedBatch]:
    with open_file(found, access) as file:
        table = open_parquet(found.uri, file)
        names = table.schema_arrow.names
        if not {"uri", "vector"} <= set(names) or not _is_vector(table.schema_arrow):
            raise SourceError(
                f"{found.uri} holds no embeddings: it needs a column 'uri' and a column 'vector', "
                "lists of floats"
            )
        columns = ["uri", "vector", *(name for name in _OPTIONAL if name in names)]
        row = dim = 0
        for batch in batches(found.uri, file, table, columns, rows=_DECODED):
            dim = dim or usual_length(batch.column("vector"))
            yield from _parted(saved_rows(batch, found.uri, row, dim), dim)
            row += len(batch)


def _parted(rows: Iterable[SavedRow], dim: int) -> Iterator[SavedBatch]:
    """Rows as batches, parted where the model changes, or much is said of them."""
    some: list[SavedRow] = []
    failures: list[ListingFailure] = []
    model, notes = "", 0
    for row in rows:
        if row.failure:
            failures.append(row.failure)
            continue
        if some and (row.model != model or notes + row.notes > _HELD_NOTES):
            yield _batch(model, some, failures, dim)
            some, failures, notes = [], [], 0
        some.append(row)
        model, notes = row.model, notes + row.notes
    if some or failures:
        yield _batch(model, some, failures, dim)


def _batch(
    model: str, rows: Sequence[SavedRow], failures: Sequence[ListingFailure], dim: int
) -> SavedBatch:
    vectors = [row.vector for row in rows if row.vector is not None]
    refs = tuple(row.ref for row in rows if row.ref is not None)
    stacked = np.stack(vectors) if vectors else np.empty((0, dim), np.float32)
    return SavedBatch(model, refs, stacked, tuple(failures), sum(row.notes for row in rows))


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
