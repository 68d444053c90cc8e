"""Images into the hash tables of a partition: packed, hashed, sorted by bucket, in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from simdist.hashing.family import Buckets
from simdist.index.batch import COMMIT_BATCH, Batch, Command
from simdist.index.families import Hashing
from simdist.index.partition import Partition
from simdist.settings import SORTED
from simdist.sources.background import ahead
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

    def hashed() -> Iterator[Hashed]:
        for start in range(0, len(refs), SORTED):
            part = slice(start, start + SORTED)
            batch = Batch.pack(packed(partition.codec, vectors[part]), refs[part])
            yield Hashed.of(partition, batch)

    several = len(refs) > SORTED
    batches = ahead(hashed()) if several else hashed()
    commits = (_Commit(one, replicas=replicas, force=force, outdated=several) for one in batches)
    return b"".join(one.run() for one in commits)


def commit_batch(
    partition: Partition, batch: Batch, *, force: bool = False, new: bool = False
) -> bytes:
    """As `commit`, of what is packed already: bytes that are stored, stored again.

    Args:
        new: most of the images are not there yet, so that is tried first.
    """
    hashed = Hashed.of(partition, batch)
    return _Commit(hashed, replicas=0, force=force, new=new or not force).run()


def commit_hashed(hashed: Hashed) -> bytes:
    """As `commit_batch`, of what was hashed while others were written; all is replaced."""
    return _Commit(hashed, replicas=0, force=True, new=True, outdated=True).run()


@dataclass(frozen=True)
class Hashed:
    """Images with their buckets, so that the next are made while some are on the wire.

    Attributes:
        buckets: (n, tables) of the tables in use, and of those that are being filled.
    """

    partition: Partition
    batch: Batch
    hashing: Hashing
    buckets: Buckets

    @classmethod
    def of(cls, partition: Partition, batch: Batch) -> Hashed:
        """By the hash families in use now.

        Bucketed as they are stored: rebuilt tables, which know nothing else, come out equal.
        """
        hashing, unpack = partition.families.now(), partition.codec.unpack
        families = [hashing.family, *([hashing.following] if hashing.following else [])]
        buckets = [
            np.concatenate(
                [family.buckets(*unpack(batch.packed[piece])) for piece in _pieces(len(batch))]
            )
            for family in families
        ]
        return cls(partition, batch, hashing, np.hstack(buckets))

    def now(self) -> Hashed:
        """With the row that is next by now; by other families if these are not in use any more."""
        used, hashing = self.hashing, self.partition.families.now()
        if (used.generation, used.following_generation) != (
            hashing.generation,
            hashing.following_generation,
        ):
            return self.of(self.partition, self.batch)
        return replace(self, hashing=hashing)


class _Commit:
    """Some images that are sorted together, on their way into the tables."""

    def __init__(
        self,
        hashed: Hashed,
        *,
        replicas: int,
        force: bool,
        new: bool = False,
        outdated: bool = False,
    ) -> None:
        self._hashed = hashed
        # Others were written since it was hashed.
        self._outdated = outdated
        self._partition = hashed.partition
        self._replicas = replicas
        self._force = force
        self._results = np.zeros(len(hashed.batch), np.uint8)
        self._try_new = new or not force
        # Until one is there already, or somebody else writes.
        self._all_new = self._try_new

    def run(self) -> bytes:
        """Write them all; returns the results, as `commit` does."""
        while not self._results.all():
            if self._outdated:
                self._hashed = self._hashed.now()
            self._outdated = True
            self._write_left(self._hashed.hashing)
        return self._results.tobytes()

    def _write_left(self, hashing: Hashing) -> None:
        """Write what is left, as long as these are the hash families in use."""
        tables = Tables(
            generation=hashing.generation,
            count=hashing.family.tables,
            following=hashing.following_generation,
            following_count=hashing.following.tables if hashing.following else 0,
        )
        left, row = np.flatnonzero(self._results == 0), hashing.row
        self._all_new = self._try_new
        bits = self._partition.uri_bits
        batch, buckets = self._hashed.batch, self._hashed.buckets
        for command in batch.commands(left, buckets, uri_bits=bits, row=row):
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


def packed(codec: Codec, vectors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(n, dim) -> (n, width) bytes, stored vectors."""
    made = np.empty((len(vectors), codec.width), np.uint8)
    for piece in _pieces(len(vectors)):
        made[piece] = codec.pack(codec.turned(vectors[piece]))
    return made


def _pieces(count: int) -> list[slice]:
    """So many, in pieces that are prepared together."""
    return [slice(start, start + _PREPARED) for start in range(0, count, _PREPARED)]
