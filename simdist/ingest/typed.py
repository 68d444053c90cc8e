"""What is listed, with the values of fields in the types that a collection knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from simdist.index.declared import Field
from simdist.sources.reference import ImageRef, ListingFailure
from simdist.sources.selection import Entry


def typed(entries: Iterator[Entry], fields: Sequence[Field]) -> Iterator[Entry]:
    """The same entries; an image of which a value is of another type is a failure."""
    for entry in entries:
        yield _typed(entry, fields) if isinstance(entry, ImageRef) else entry


def _typed(ref: ImageRef, fields: Sequence[Field]) -> Entry:
    there = [field for field in fields if ref.metadata.get(field.name) is not None]
    try:
        values = {field.name: field.typed(ref.metadata[field.name]) for field in there}
    except ValueError as error:
        return ListingFailure(ref.uri, str(error))
    return replace(ref, metadata={**ref.metadata, **values}) if values else ref
