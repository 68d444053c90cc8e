"""What is stored of a partition's images, by field, in arrays: what filters are tried on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.index.fields import OWN, typed, value_of
from simdist.index.partition import Partition
from simdist.index.where import AllOf, AnyOf, FieldTest, Node, Not

# What a value is that is there, and compared with nothing.
_OTHER = object()


class _Column:
    """One field: a number for each row, and what the numbers stand for."""

    def __init__(self) -> None:
        self.rows = 0
        self.values: list[object] = [None, _OTHER]
        self._numbers: dict[tuple[type, object], int] = {}
        self._codes = np.zeros(0, np.int32)

    def codes(self, start: int, end: int) -> NDArray[np.int32]:
        """(end - start,) which of the values these rows have."""
        return self._codes[start:end]

    def extend(self, end: int) -> None:
        """Have room for so many rows, none of which has a value yet."""
        if end > len(self._codes):
            # Half as much again, so that some at a time do not cost a copy each.
            more = max(end, len(self._codes) * 3 // 2) - len(self._codes)
            self._codes = np.concatenate([self._codes, np.zeros(more, np.int32)])

    def put(self, rows: NDArray[np.int64], found: list[object]) -> None:
        """Note the values of some rows."""
        self._codes[rows] = [self._code(value) for value in found]

    def _code(self, value: object) -> int:
        if value is None:
            return 0
        key = typed(value)
        if key is None:
            return 1
        code = self._numbers.get(key)
        if code is None:
            code = self._numbers[key] = len(self.values)
            self.values.append(key[1])
        return code


class Columns:
    """The fields that filters have asked for, of one partition's rows.

    Rows are only ever appended, and what is stored of one never changes: each is read once, and
    once more for each field that is asked for later. What no image has is not looked for again.
    """

    def __init__(self, partition: Partition) -> None:
        self._partition = partition
        self._columns: dict[str, _Column] = {}
        # The fields that the metadata of the first rows have, and how many rows these are.
        self._names: set[str] = set()
        self._named = 0

    def prepare(self, fields: Iterable[str], end: int) -> None:
        """Read fields of the rows before `end`, before a filter asks for them."""
        for field in fields:
            self._columns.setdefault(field, _Column())
        self._read(end)

    def passing(self, node: Node, start: int, end: int) -> NDArray[np.bool_]:
        """Which rows from `start` on, before `end`, are meant; deleted ones may be among them.

        What is not here is read, some thousand rows a round trip.

        Raises:
            StoreError: a record is damaged.
        """
        self.prepare(_fields(node), end)
        return self._holds(node, start, end)

    def _read(self, end: int) -> None:
        """Read what there is to know of the rows before `end`."""
        for field, column in self._columns.items():
            if column.rows < self._named and not self._may_have(field):
                column.rows = self._named
            column.extend(end)
        behind = {field: one for field, one in self._columns.items() if one.rows < end}
        if not behind:
            return
        first = min(column.rows for column in behind.values())
        for rows, records in self._partition.blocks.records(first, end):
            for field, column in behind.items():
                found = [value_of(field, one.uri, one.label, one.metadata) for one in records]
                column.put(rows, found)
            self._names.update(*(one.metadata for one in records))
        for column in behind.values():
            column.rows = end
        self._named = max(self._named, end)

    def _may_have(self, field: str) -> bool:
        return field in OWN or field.removeprefix("metadata.") in self._names

    def _holds(self, node: Node, start: int, end: int) -> NDArray[np.bool_]:
        match node:
            case FieldTest():
                return self._tested(node, start, end)
            case Not():
                return ~self._holds(node.one, start, end)
            case AllOf():
                parts = [self._holds(one, start, end) for one in node.of]
                return np.asarray(np.logical_and.reduce(parts))
            case AnyOf():
                parts = [self._holds(one, start, end) for one in node.of]
                return np.asarray(np.logical_or.reduce(parts))

    def _tested(self, test: FieldTest, start: int, end: int) -> NDArray[Any]:
        """Each value is tested once, however many rows have it."""
        column = self._columns[test.field]
        codes = column.codes(start, end)
        used = np.arange(len(column.values)) if start == 0 else np.unique(codes)
        holds = np.zeros(len(column.values), np.bool_)
        holds[used] = [test.holds(column.values[code]) for code in used.tolist()]
        return holds[codes]


def _fields(node: Node) -> Iterator[str]:
    match node:
        case FieldTest():
            yield node.field
        case Not():
            yield from _fields(node.one)
        case AllOf() | AnyOf():
            for one in node.of:
                yield from _fields(one)
