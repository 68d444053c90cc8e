"""Images into the hash tables of a partition: packed, hashed, sorted by bucket, in batches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from simdist.hashing import HashFamily
from simdist.hashing.family import Buckets
from simdist.index.batch import COMMIT_BATCH, Batch, Command
from simdist.index.partition import Hashing, Partition
from simdist.settings import SORTED
from simdist.sources.reference import ImageRef
from simdist.store import scripts
from simdist.store.scripts import Tables
from simdist.vectors.codec import Codec

# Images that are packed and hashed together: what is made of them stays in a processor's cache.
_PREPARED = COMMIT_BATCH


def commit(
    partition: Partition,
    vectors: NDArray[np.float32],
    refs: Sequence[ImageRef],
    *,
    replicas: int = 0,
    force: bool = False,
) -> bytes:
    """Write images, in batches of about `batch.COMMIT_BATCH`, each whole or not at all.

    What is there already stays as it is.

    Args:
        partition: it has a hash family.
        vectors: (n, dim) float32, checked.
        replicas: how many must confirm each batch (`Store.run`).
        force: replace also what is there already.

    Returns:
        A character for each image: '=' unchanged, '+' added, '~' replaced.
    """
    results = b""
    for start in range(0, len(refs), SORTED):
        part = slice(start, start + SORTED)
        batch = Batch.pack(_packed(partition.codec, vectors[part]), refs[part])
        results += _Commit(partition, batch, replicas=replicas, force=force).run()
    return results


def commit_batch(
    partition: Partition, batch: Batch, *, force: bool = False, new: bool = False
) -> bytes:
    """As `commit`, of what is packed already: bytes that are stored, stored again.

    Args:
        new: most of the images are not there yet, so that is tried first.
    """
    return _Commit(partition, batch, replicas=0, force=force, new=new or not force).run()


class _Commit:
    """Some images that are sorted together, on their way into the tables."""

    def __init__(
        self, partition: Partition, batch: Batch, *, replicas: int, force: bool, new: bool = False
    ) -> None:
        self._partition = partition
        self._batch = batch
        self._replicas = replicas
        self._force = force
        self._results = np.zeros(len(batch.packed), np.uint8)
        self._try_new = new or not force
        # Until one is there already, or somebody else writes.
        self._all_new = self._try_new

    def run(self) -> bytes:
        """Write them all; returns the results, as `commit` does."""
        while not self._results.all():
            self._write_left(self._partition.hashing())
        return self._results.tobytes()

    def _write_left(self, hashing: Hashing) -> None:
        """Write what is left, as long as these are the hash families in use."""
        families = [hashing.family, *([hashing.following] if hashing.following else [])]
        buckets = np.hstack([self._buckets(family) for family in families])
        tables = Tables(
            generation=hashing.generation,
            count=hashing.family.tables,
            following=hashing.following_generation,
            following_count=hashing.following.tables if hashing.following else 0,
        )
        left, row = np.flatnonzero(self._results == 0), hashing.row
        self._all_new = self._try_new
        bits = self._partition.uri_bits
        for command in self._batch.commands(left, buckets, uri_bits=bits, row=row):
            written = self._write(command, tables, row)
            if written is None:
                return
            self._results[command.members] = np.frombuffer(written, np.uint8)
            row += len(written) - written.count(b"=")

    def _write(self, command: Command, tables: Tables, row: int) -> bytes | None:
        """Write what one call of a script does.

        Returns:
            A character for each image; None if the tables were rebuilt since it was hashed.
        """
        store, meta = self._partition.store, self._partition.keys.meta
        history, replicas = self._partition.history, self._replicas
        if self._all_new:
            new = command.new_images()
            inserted = scripts.insert(
                store, meta, history.seen, tables, new, row=row, replicas=replicas
            )
            self._all_new = bool(history.note(inserted))
            if self._all_new:
                return b"+" * len(command.members)
        images = command.images(row)
        committed = scripts.commit(
            store, meta, history.seen, tables, images, force=self._force, replicas=replicas
        )
        return history.note(committed)

    def _buckets(self, family: HashFamily) -> Buckets:
        """Bucketed as they are stored: rebuilt tables, which know nothing else, come out equal."""
        packed, unpack = self._batch.packed, self._partition.codec.unpack
        return np.concatenate(
            [family.buckets(*unpack(packed[piece])) for piece in _pieces(len(packed))]
        )


def _packed(codec: Codec, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, dim) -> (n, width) bytes, stored vectors."""
    packed = np.empty((len(vectors), codec.width), np.uint8)
    for piece in _pieces(len(vectors)):
        packed[piece] = codec.pack(codec.turned(vectors[piece]))
    return packed


def _pieces(count: int) -> list[slice]:
    """So many, in pieces that are prepared together."""
    return [slice(start, start + _PREPARED) for start in range(0, count, _PREPARED)]
