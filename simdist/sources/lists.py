"""Lists of images: text, one address a line, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from simdist.errors import SourceError
from simdist.sources.access import Access
from simdist.sources.columns import Columns, Misnamed, listed_image
from simdist.sources.files import open_file
from simdist.sources.reference import (
    MEMBER,
    Found,
    ImageRef,
    ListingFailure,
)

MAX_LINE = 1024 * 1024  # characters


def text_list(source: Found, access: Access) -> Iterator[ImageRef | ListingFailure]:
    """List the images that a text file names, one a line; empty lines are passed over.

    Raises:
        SourceError: the list cannot be read.
    """
    for number, line in enumerate(_lines(source, access), 1):
        if line.strip():
            try:
                yield listed_image(source, line)
            except Misnamed as error:
                yield _bad(source, number, error)


def csv_list(
    source: Found, access: Access, columns: Columns
) -> Iterator[ImageRef | ListingFailure]:
    """List the images that a CSV file names; its first line names the columns.

    Raises:
        SourceError: the list cannot be read, or a column is not there.
    """
    rows = csv.reader(_lines(source, access))
    try:
        header = [name.strip() for name in next(rows, [])]
    except csv.Error as error:
        raise SourceError(f"{source.uri} is not CSV: {error}") from error
    uri, label = columns.uri_in(header, source.uri), columns.label_in(header, source.uri)
    while True:
        try:
            row = next(rows, None)
            if row is None:
                return
            if not row:
                continue
            if len(row) != len(header):
                raise SourceError(f"{len(row)} fields, where the first line has {len(header)}")
            fields = dict(zip(header, row, strict=True))
            address = fields.pop(uri)
            name = fields.pop(label, None) if label else None
            yield listed_image(source, address, label=name, metadata=fields)
        except (*Misnamed, csv.Error) as error:
            yield _bad(source, rows.line_num, error)


def _lines(source: Found, access: Access) -> Iterator[str]:
    with io.TextIOWrapper(
        open_file(source, access), encoding="utf-8-sig", errors="surrogateescape", newline=""
    ) as file:
        # A file that is no list may hold no line's end for gigabytes.
        while line := file.readline(MAX_LINE):
            yield line


def _bad(source: Found, line: int, error: Exception) -> ListingFailure:
    return ListingFailure(f"{source.uri}{MEMBER}{line}", f"line {line}: {error}")
