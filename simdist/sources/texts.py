"""Text files as they are: in which encoding, and what separates their columns."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections import deque
from collections.abc import Iterator, Sequence

from simdist.sources.access import Access
from simdist.sources.files import open_file
from simdist.sources.reference import Found

MAX_LINE = 1024 * 1024  # characters
# Of a record whose quotes do not end: characters that are looked through for them.
MAX_RECORD = 64 * 1024
SEPARATORS = ",;\t|"

_SAMPLE = 1024 * 1024  # bytes that say in which encoding a file is
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_WESTERN = re.compile(rb"[A-Za-z][\xc0-\xff]|[\xc0-\xff][A-Za-z]")
_NONE_OF_IT = re.compile(rb"[\xc2-\xf4][\x80-\xbf]|[\0\x81\x8d\x8f\x90\x9d]")


def lines_of(source: Found, access: Access) -> Iterator[str]:
    """The lines of a text, with their ends; bytes that are none in its encoding as surrogates.

    Raises:
        SourceError: it cannot be read.
    """
    with open_file(source, access) as file:
        encoding = _encoding(file.read(_SAMPLE))
        file.seek(0)
        errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
        text = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
        # A file that is no list may hold no line's end for gigabytes.
        while line := text.readline(MAX_LINE):
            yield line


def _encoding(sample: bytes) -> str:
    for mark, name in _MARKS.items():
        if sample.startswith(mark):
            return name
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if max(even, odd) > len(sample) // 4:  # Latin letters in two bytes each
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        sample[:-4].decode()
    except UnicodeDecodeError:
        # Letters, and not one of UTF-8: what Windows has in Western Europe.
        if _WESTERN.search(sample) and not _NONE_OF_IT.search(sample):
            return "cp1252"
    return "utf-8"


class Records:
    """The records of a CSV file.

    A quote that has no end would take all that follows into one field. Such a record, and one that
    has another number of fields than the first, gives its further lines back.

    Attributes:
        line: the number of the first line of the record read last.
        header: the first record.
    """

    def __init__(self, lines: Iterator[str]) -> None:
        """The header is read.

        Raises:
            csv.Error: it cannot be.
        """
        self._lines = lines
        self._again: deque[str] = deque()
        self._taken: list[str] = []
        self.line, self._next = 1, 1
        first = next(self._lines, "")
        self._again.append(first)
        self._separator = max(SEPARATORS, key=lambda one: _fields_in(first, one))
        self.header = [name.strip() for name in self._read() or []]

    def __iter__(self) -> Iterator[list[str] | str]:
        """The records; of one that cannot be used, the reason."""
        while True:
            try:
                fields = self._read()
                if fields is None:
                    return
                if not fields:
                    continue
                if len(fields) == len(self.header):
                    yield fields
                    continue
                reason = f"{len(fields)} fields, where the first line has {len(self.header)}"
            except csv.Error as error:
                reason = str(error)
            self._next -= len(self._taken) - 1
            self._again.extendleft(reversed(self._taken[1:]))
            yield reason

    def _read(self) -> list[str] | None:
        self._taken, self.line = [], self._next
        return next(csv.reader(self._take(), delimiter=self._separator), None)

    def _take(self) -> Iterator[str]:
        size = 0
        while True:
            line = self._again.popleft() if self._again else next(self._lines, None)
            if line is None:
                return
            self._taken.append(line)
            self._next += 1
            size += len(line)
            if size > MAX_RECORD and len(self._taken) > 1:
                raise csv.Error("a quote in it has no end")
            yield line


def _fields_in(line: str, separator: str) -> int:
    try:
        fields: Sequence[str] = next(csv.reader([line], delimiter=separator), [])
    except csv.Error:
        return 0
    return len(fields)
