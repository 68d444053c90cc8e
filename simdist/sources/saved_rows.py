"""Rows of saved embeddings: each an image and its vector, or why it is none."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from simdist.errors import SourceError
from simdist.sources.parquet import rows_of
from simdist.sources.reference import MEMBER, ImageRef, ListingFailure

if TYPE_CHECKING:
    import pyarrow as pa

MAX_DIM = 65_536


@dataclass(frozen=True)
class SavedRow:
    """A row: its model, image and (dim,) float32 vector, or its failure.

    `notes` is how many characters its texts have in the file.
    """

    model: str = ""
    ref: ImageRef | None = None
    vector: NDArray[np.float32] | None = None
    notes: int = 0
    failure: ListingFailure | None = None


def usual_length(column: pa.Array) -> int:
    """The length that most lists of a column have; 0 where none can be indexed."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).drop_null().to_numpy()
    sound = lengths[(lengths > 0) & (lengths <= MAX_DIM)]
    return int(np.bincount(sound).argmax()) if len(sound) else 0


def saved_rows(batch: pa.RecordBatch, uri: str, first: int, dim: int) -> Iterator[SavedRow]:
    """The rows of a batch, whose first has the number `first` in the file of that URI.

    Args:
        dim: the numbers that a vector must have.
    """
    vectors, is_good = _vectors(batch.column("vector"), dim)
    at = 0
    for number, (fields, good) in enumerate(
        zip(rows_of(batch.drop_columns("vector")), is_good.tolist(), strict=True), first
    ):
        at += good
        try:
            if isinstance(fields, str):
                raise SourceError(fields)
            if not good:
                raise SourceError(f"its vector is not {dim:,} numbers, as most are in this file")
            vector = vectors[at - 1]
            ref = _ref(fields, vector)
        except SourceError as error:
            reason = f"row {number}: {error}"
            yield SavedRow(failure=ListingFailure(f"{uri}{MEMBER}{number}", reason))
            continue
        notes = sum(len(text) for text in fields.values() if isinstance(text, str))
        yield SavedRow(str(fields.get("model") or ""), ref, vector, notes)


def _vectors(column: Any, dim: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The (m, dim) float32 of those rows that have a vector; and (n,) which ones have."""
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.list_value_length(column), -1).to_numpy(zero_copy_only=False)
    good = (lengths == dim) & (lengths > 0)
    flat = (column if good.all() else column.filter(good)).flatten()
    if flat.null_count:
        holes = flat.is_null().to_numpy(zero_copy_only=False).reshape(-1, dim).any(axis=1)
        good[good] = ~holes
        flat = column.filter(good).flatten()
    values: NDArray[np.float32] = flat.to_numpy(zero_copy_only=False).astype(np.float32)
    return values.reshape(int(good.sum()), dim), good


def _ref(fields: Mapping[str, Any], vector: NDArray[np.float32]) -> ImageRef:
    name = fields["uri"]
    if not isinstance(name, str) or not name or not name.isascii():
        raise SourceError(f"{str(name)[:200]!r} is not a URI: write it in ASCII, percent-encoded")
    fingerprint = fields.get("fingerprint") or blake2b(vector.tobytes(), digest_size=16).hexdigest()
    label = fields.get("label")
    return ImageRef(
        uri=name,
        fingerprint=str(fingerprint),
        size=0,
        label=None if label is None else str(label),
        metadata=_metadata(fields.get("metadata")),
    )


def _metadata(text: Any) -> Mapping[str, Any]:
    if text is None or text == "":
        return {}
    try:
        value = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise SourceError("its metadata must be a JSON object, as text, or null")
    return value
