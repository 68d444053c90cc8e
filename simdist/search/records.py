"""What a searcher knows of images by their rows: URI, label and metadata of those met of late."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.index.partition import READ_ROWS, Partition
from simdist.settings import MAX_RESULTS
from simdist.store import layout

# What one takes: some hundred bytes.
_RECORD_BYTES = 512
# Of all records, what is forgotten at once when there are too many.
_FORGOTTEN = 16
# Rows that one round trip reads: a stall of some milliseconds.
_READ = READ_ROWS // 4

# URI, label, metadata.
Known = tuple[str, str | None, Mapping[str, Any]]


class Records:
    """The records of a partition's rows that were met of late."""

    def __init__(self, partition: Partition, *, memory: int) -> None:
        """None is known yet.

        Args:
            memory: bytes that they may take, roughly.
        """
        self._partition = partition
        self._most = max(MAX_RESULTS, memory // _RECORD_BYTES)
        self._known: dict[int, Known] = {}

    def of(self, rows: Sequence[int]) -> list[Known]:
        """Those of these rows.

        Raises:
            KeyError: one is not known.
        """
        return [self._known[row] for row in rows]

    def forget(self) -> None:
        """Rows are those of other images now."""
        self._known.clear()

    def read(
        self,
        rows: Sequence[int],
        *,
        moment: bytes,
        on_vector: Callable[[int, NDArray[np.uint8]], None] | None = None,
    ) -> NDArray[np.uint32]:
        """Have the records of these rows; returns those whose images have been deleted meanwhile.

        Args:
            moment: at which the rows were read.
            on_vector: called with the stored vector of each; by default only what is not known is
                read.
        """
        if len(self._known) + len(rows) > self._most:
            # The oldest go, and some at once: not all, or every query would wait for its own anew.
            oldest = islice(self._known, max(len(rows), self._most // _FORGOTTEN))
            for row in list(oldest):
                del self._known[row]
        missing = [row for row in rows if on_vector or row not in self._known]
        gone = []
        for start in range(0, len(missing), _READ):
            some = missing[start : start + _READ]
            stored = self._partition.rows(np.array(some, np.uint32), moment=moment)
            for row, pair in zip(some, stored, strict=True):
                if pair is None:
                    gone.append(row)
                    continue
                record = layout.unpack_record(pair[1])
                self._known[row] = record.uri, record.label, record.metadata
                if on_vector:
                    on_vector(row, pair[0])
        return np.array(gone, np.uint32)
