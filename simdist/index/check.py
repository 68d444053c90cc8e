"""Whether all that a collection keeps in Redis fits together, while it may be used."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.index.corrections import Correction, KeysFound, corrections, find_keys
from simdist.index.exact import OnProgress
from simdist.index.partition import Partition
from simdist.index.rows import Damage, Kind, OnRows, Rows, read_rows
from simdist.index.state import FIELDS, State
from simdist.index.tables import Tables, read_tables
from simdist.store import layout

if TYPE_CHECKING:
    from simdist.index.collection import Collection

# How often a count is compared with what it counts, where somebody writes in between.
_TRIES = 20
# Bytes of the list of dead rows that one round trip reads.
_PIECE = 1 << 22


@dataclass(frozen=True)
class Checkup:
    """What was found in a partition.

    Attributes:
        epoch, born: as they are stored, before anything was looked at.
        is_lost: whether all of its state is.
        corrections: what is wrong with the state; if numbers in it are, no more is looked at.
        rows: what the rows are.
        lost: images that are there no more, or cannot be found.
        row_damages: what is wrong with blocks, entries, dead rows and the number of images.
        table_damages: what is wrong with hash tables, by their generation; 0: there are none.
    """

    partition: Partition
    epoch: bytes
    born: bytes
    is_lost: bool
    corrections: Sequence[Correction]
    rows: Rows | None = None
    lost: int = 0
    row_damages: Sequence[Damage] = ()
    table_damages: Mapping[int, Sequence[Damage]] = field(default_factory=dict)

    @property
    def damages(self) -> list[Damage]:
        """All of it."""
        found = [*(one.damage for one in self.corrections), *self.row_damages]
        return found + [damage for damages in self.table_damages.values() for damage in damages]


def check(collection: Collection, *, on_progress: OnProgress = lambda *_: None) -> list[Checkup]:
    """Look at all that is stored of a collection, partition by partition.

    Writes may go on, and do not pass for damage. It takes 30 bytes of memory for each row of a
    partition.

    Raises:
        StoreError: the server cannot be reached, or has something else at a key.
        CollectionError: it was dropped meanwhile, or made anew.
    """
    count = len(collection.partitions)
    keys = find_keys(collection.store, collection.home_name, count)
    checkups, done = [], 0
    total = sum(found.blocks for found in keys) * layout.BLOCK
    for partition, found in zip(collection.partitions, keys, strict=True):
        before = done

        def on_rows(rows: int, before: int = before) -> None:
            on_progress("checking", min(before + rows, total), total)

        checkups.append(check_partition(partition, found, partitions=count, on_rows=on_rows))
        done += found.blocks * layout.BLOCK
    # What a drop has taken away is no damage.
    require_there(collection)
    return checkups


def require_there(collection: Collection) -> None:
    """Check that a collection was not dropped, nor made anew; one round trip.

    Of all partitions the first is closed first and made last: while it is there, whatever the
    others lack was lost.

    Raises:
        CollectionError: it was.
    """
    # Without its version it could not have been opened.
    collection.partitions[0].history.fields("version")


def check_partition(
    partition: Partition,
    keys: KeysFound,
    *,
    partitions: int,
    on_rows: OnRows = lambda _: None,
) -> Checkup:
    """Look at all that is stored of a partition.

    Args:
        keys: which it has.
        partitions: how many the collection has.
    """
    stored = partition.store.call("HGETALL", partition.keys.meta)
    epoch, born = stored.get(b"epoch", b""), stored.get(b"born", b"")
    if born:
        partition.history.require(born)
    found = corrections(partition, partitions, stored, keys)
    if FIELDS.keys() & {one.name for one in found}:
        return Checkup(partition, epoch, born, not stored, found)
    count = partition.state().rows
    before = _Dead.read(partition, count)
    rows = read_rows(partition, count, partitions=partitions, on_rows=on_rows)
    state, tables = read_tables(partition, count)
    dead = _Dead.read(partition, count)
    known = partition.state().rows
    if (end := max(rows.ends, default=0)) > known:
        damage = Damage(partition.keys.meta, f"it has more than {known} rows")
        found.append(Correction("rows", -(-end // layout.BLOCK) * layout.BLOCK, damage))
    # Rows that ended meanwhile are in one place what they were, in another what they are.
    lasting = ~(dead.flags & ~before.flags)
    images = (rows.kinds == Kind.ALIVE) & rows.found & lasting
    once = (rows.kinds == Kind.ALIVE) | (rows.kinds == Kind.BAD)
    damages = [
        *rows.damages,
        *_without_entry(partition, rows, lasting),
        *dead.damages(partition, rows, before, known),
    ]
    return Checkup(
        partition,
        epoch,
        born,
        False,
        found,
        rows=rows,
        lost=int((once & ~images & ~dead.flags).sum()),
        row_damages=damages or _wrong_count(partition),
        table_damages=_of_tables(partition, state, tables, images),
    )


@dataclass(frozen=True)
class _Dead:
    """The list of rows that were deleted: as it is stored, and (n,) bool, which rows are in it."""

    stored: bytes
    flags: NDArray[np.bool_]

    @classmethod
    def read(cls, partition: Partition, count: int) -> _Dead:
        pieces: list[bytes] = []
        while not pieces or len(pieces[-1]) == _PIECE:
            start = len(pieces) * _PIECE
            command = ("GETRANGE", partition.keys.dead, start, start + _PIECE - 1)
            pieces.append(partition.store.call(*command))
        stored, flags = b"".join(pieces), np.zeros(count, np.bool_)
        rows = np.frombuffer(stored[: len(stored) // 4 * 4], layout.ROW_DTYPE)
        flags[rows[rows < count]] = True
        return cls(stored, flags)

    def damages(self, partition: Partition, rows: Rows, before: _Dead, known: int) -> list[Damage]:
        """What is wrong with it.

        Args:
            before: as it was before the rows were looked at.
            known: how many rows there are, by now.
        """
        listed = np.frombuffer(self.stored[: len(self.stored) // 4 * 4], layout.ROW_DTYPE)
        alive = int((before.flags & (rows.kinds == Kind.ALIVE)).sum())
        lacking = int((~self.flags & (rows.kinds == Kind.DEAD)).sum())
        found = {
            "its length is no number of rows": len(self.stored) % 4 != 0,
            "it names rows that there are not": listed.max(initial=0) >= max(known, 1),
            "it names rows twice": len(np.unique(listed)) < len(listed),
            f"it names {alive} rows that were not deleted": alive > 0,
            f"it lacks {lacking} rows that were deleted": lacking > 0,
        }
        return [Damage(partition.keys.dead, what) for what, applies in found.items() if applies]


def _without_entry(partition: Partition, rows: Rows, lasting: NDArray[np.bool_]) -> list[Damage]:
    """Images to which no entry leads, by the hash where it should be."""
    lost = np.flatnonzero((rows.kinds == Kind.ALIVE) & ~rows.found & lasting)
    hashes = layout.uris_hashes(rows.digests[lost], partition.uri_bits)
    numbers, counts = np.unique(hashes, return_counts=True)
    return [
        Damage(partition.keys.uris(number), f"it lacks the entries of {times} images")
        for number, times in zip(numbers.tolist(), counts.tolist(), strict=True)
    ]


def _wrong_count(partition: Partition) -> list[Damage]:
    """Whether the number of images is another than that of rows which are not dead."""
    for _ in range(_TRIES):
        state = partition.state()
        dead = partition.store.call("STRLEN", partition.keys.dead) // layout.ROW_DTYPE.itemsize
        if partition.state().epoch == state.epoch:
            if state.live == state.rows - dead:
                return []
            what = f"its live is {state.live}, of {state.rows - dead} images"
            return [Damage(partition.keys.meta, what)]
    return []


def _of_tables(
    partition: Partition, state: State, tables: Sequence[Tables], images: NDArray[np.bool_]
) -> dict[int, list[Damage]]:
    found: dict[int, list[Damage]] = {}
    if not state.generation and images.any():
        found[0] = [Damage(partition.keys.meta, "it has images, but no hash tables")]
    for one in tables:
        wanted = images
        if one.generation == state.following:
            # The others are about to be filled in.
            numbers = np.arange(len(images))
            wanted = images & ((numbers < state.filled) | (numbers >= state.fill))
        damages = list(one.damages)
        for table, lacking in enumerate(one.lacking):
            if count := int((lacking & wanted).sum()):
                key = partition.keys.pattern(f"bucket:{one.generation}:{table}")
                damages.append(Damage(key, f"{count} images are not in just one of these"))
        if damages:
            found[one.generation] = damages
    return found
