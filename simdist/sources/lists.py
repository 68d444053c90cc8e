"""Lists of images: text, one address a line, and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from simdist.errors import SourceError
from simdist.sources.access import Access
from simdist.sources.columns import Columns, Misnamed, listed_image
from simdist.sources.reference import (
    MEMBER,
    Found,
    ImageRef,
    ListingFailure,
)
from simdist.sources.texts import Records, lines_of


def text_list(source: Found, access: Access) -> Iterator[ImageRef | ListingFailure]:
    """List the images that a text file names, one a line; empty lines are passed over.

    Raises:
        SourceError: the list cannot be read.
    """
    for number, line in enumerate(lines_of(source, access), 1):
        if line.strip():
            try:
                yield listed_image(source, line)
            except Misnamed as error:
                yield _bad(source, number, error)


def csv_list(
    source: Found, access: Access, columns: Columns
) -> Iterator[ImageRef | ListingFailure]:
    """List the images that a CSV file names; its first line names the columns.

    They are separated by commas, semicolons, tabs or bars, whatever the first line has most of.

    Raises:
        SourceError: the list cannot be read, or a column is not there.
    """
    try:
        records = Records(lines_of(source, access))
    except csv.Error as error:
        raise SourceError(f"{source.uri} is not CSV: {error}") from error
    header = records.header
    uri, label = columns.uri_in(header, source.uri), columns.label_in(header, source.uri)
    for record in records:
        if isinstance(record, str):
            yield _bad(source, records.line, record)
            continue
        fields = dict(zip(header, record, strict=True))
        address = fields.pop(uri)
        name = fields.pop(label, None) if label else None
        try:
            yield listed_image(source, address, label=name, metadata=fields)
        except Misnamed as error:
            yield _bad(source, records.line, error)


def _bad(source: Found, line: int, error: Exception | str) -> ListingFailure:
    return ListingFailure(f"{source.uri}{MEMBER}{line}", f"line {line}: {error}")
