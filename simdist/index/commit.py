"""Images into the hash tables of a partition: packed, hashed, sorted by bucket, in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simdist.hashing import HashFamily
from simdist.hashing.family import Buckets
from simdist.index.batch import COMMIT_BATCH, Batch, Command
from simdist.index.tables import Hashing, HashTables
from simdist.settings import SORTED
from simdist.sources.reference import ImageRef
from simdist.store import layout
from simdist.store.connection import Argument

# Images that are packed and hashed together: what is made of them stays in a processor's cache.
_PREPARED = COMMIT_BATCH


def commit(
    tables: HashTables,
    vectors: NDArray[np.float32],
    refs: Sequence[ImageRef],
    metadata: Sequence[Mapping[str, Any]],
    *,
    replicas: int = 0,
    force: bool = False,
) -> bytes:
    """Write images, in batches of about `batch.COMMIT_BATCH`, each whole or not at all.

    What is there already stays as it is.

    Args:
        tables: they have a hash family.
        vectors: (n, dim) float32, checked.
        replicas: how many must confirm each batch (`Store.run`).
        force: replace also what is there already.

    Returns:
        A character for each image: '=' unchanged, '+' added, '~' replaced.
    """
    results = b""
    for start in range(0, len(refs), SORTED):
        part = slice(start, start + SORTED)
        batch = Batch.pack(_packed(tables, vectors[part]), refs[part], metadata[part])
        results += _Commit(tables, batch, replicas=replicas, force=force).run()
    return results


class _Commit:
    """Some images that are sorted together, on their way into the tables."""

    def __init__(self, tables: HashTables, batch: Batch, *, replicas: int, force: bool) -> None:
        self._tables = tables
        self._batch = batch
        self._replicas = replicas
        self._force = force
        self._results = np.zeros(len(batch.packed), np.uint8)
        # Until one is there already, or somebody else writes.
        self._all_new = not force

    def run(self) -> bytes:
        """Write them all; returns the results, as `commit` does."""
        while not self._results.all():
            self._write_left(self._tables.hashing())
        return self._results.tobytes()

    def _write_left(self, hashing: Hashing) -> None:
        """Write what is left, as long as these are the hash families in use."""
        families = [hashing.family, *([hashing.following] if hashing.following else [])]
        buckets = np.hstack([self._buckets(family) for family in families])
        sides: list[Argument] = [hashing.generation, hashing.family.tables, 0, 0]
        if hashing.following:
            sides[2:] = [hashing.generation + 1, hashing.following.tables]
        left, row = np.flatnonzero(self._results == 0), hashing.row
        self._all_new = not self._force
        bits = self._tables.uri_bits
        for command in self._batch.commands(left, buckets, uri_bits=bits, row=row):
            written = self._write(command, sides, row)
            if written is None:
                return
            self._results[command.members] = np.frombuffer(written, np.uint8)
            row += len(written) - written.count(b"=")

    def _write(self, command: Command, sides: list[Argument], row: int) -> bytes | None:
        """Write what one call of a script does.

        Returns:
            A character for each image; None if the tables were rebuilt since it was hashed.
        """
        if self._all_new:
            inserted = self._call("insert", [*sides[:3], row, *command.insertion()])
            self._all_new = inserted is not None
            if self._all_new:
                return b"+" * len(command.members)
        arguments = [*sides, int(self._force), *command.arguments(row)]
        written: bytes | None = self._call("commit", arguments)
        return written

    def _call(self, script: str, arguments: Sequence[Argument]) -> Any:
        tables = self._tables
        return tables.store.run(script, [tables.meta_key], arguments, replicas=self._replicas)

    def _buckets(self, family: HashFamily) -> Buckets:
        """Bucketed as they are stored: rebuilt tables, which know nothing else, come out equal."""
        packed, unpack = self._batch.packed, self._tables.unpack
        return np.concatenate(
            [family.buckets(*unpack(packed[piece])) for piece in _pieces(len(packed))]
        )


def _packed(tables: HashTables, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, dim) -> (n, width) bytes, stored vectors."""
    packed = np.empty((len(vectors), tables.width), np.uint8)
    for piece in _pieces(len(vectors)):
        packed[piece] = layout.pack_vectors(tables.turned(vectors[piece]), tables.dtype)
    return packed


def _pieces(count: int) -> list[slice]:
    """So many, in pieces that are prepared together."""
    return [slice(start, start + _PREPARED) for start in range(0, count, _PREPARED)]
