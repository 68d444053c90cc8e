"""A damaged collection made whole again: what cannot be read is taken out of it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from simdist.errors import CollectionError, StoreError, UsageError
from simdist.hashing import KMeansFamily
from simdist.index.check import Checkup, check_partition, require_there
from simdist.index.corrections import find_keys
from simdist.index.dropping import MENDING
from simdist.index.growth import Wish, finish, lease, start, start_alike
from simdist.index.partition import Partition
from simdist.index.rehash import LSHASH_MODEL
from simdist.index.rows import Damage, Kind, Rows
from simdist.store import layout, name_scripts, table_scripts
from simdist.store.connection import Argument

if TYPE_CHECKING:
    from simdist.index.collection import Collection

# Bytes that one call of the script writes, and entries that one of its commands removes.
_BATCH_BYTES, _BATCH_ENTRIES = 1 << 22, 256
# The state, then the rows, then the tables; once more, where one shows damage of the next.
_ROUNDS = 6

Command = Sequence[Argument]


@dataclass(frozen=True)
class Repaired:
    """What a repair did.

    Attributes:
        lost: images that were taken out.
        left: damage that it could not mend.
    """

    lost: int
    left: list[Damage]


def repair(collection: Collection, damaged: Sequence[Checkup]) -> Repaired:
    """Mend the partitions in which damage was found (`check`).

    Until it has ended, `dropping.MENDING` stands in a partition's state. Nobody else may write
    meanwhile. Images that cannot be read, or not be found, are taken out as
    if they had been deleted; hash tables are filled anew from the stored vectors. Every searcher
    drops what it has read. After an interruption, check again, and repair what is found then.

    Raises:
        UsageError: blocks are in files.
        StoreError: somebody else has written meanwhile; or most images of a partition would be
            lost; or the tables are an `LSHash`'s, and its hyperplanes are lost.
        CollectionError: it was dropped meanwhile, or made anew: nothing of it is written again.
    """
    if any(found.damages and found.partition.files.bits() for found in damaged):
        raise UsageError(
            f"vectors of {collection.name!r} are in files: bring them back first, which mends what "
            "is damaged of their codes"
        )
    lost = 0
    left: list[Damage] = []
    for found in damaged:
        checkup, rounds = found, _ROUNDS
        while checkup.damages and rounds:
            lost += _mend(collection, checkup)
            checkup, rounds = _again(collection, checkup.partition), rounds - 1
        left += checkup.damages
        if found.damages and not checkup.damages:
            _write(checkup.partition, _epoch(checkup.partition), _others(checkup.partition))
    require_there(collection)
    return Repaired(lost, left)


def _again(collection: Collection, partition: Partition) -> Checkup:
    count = len(collection.partitions)
    keys = find_keys(collection.store, collection.home_name, count)[partition.number]
    return check_partition(partition, keys, partitions=count)


def _mend(collection: Collection, checkup: Checkup) -> int:
    """Mend what the rest depends on; returns how many images were taken out."""
    if checkup.is_lost:
        _restore(collection, checkup.partition)
        return 0
    if checkup.corrections:
        _write(checkup.partition, checkup.epoch, _corrected(checkup), born=checkup.born)
        for one in checkup.corrections:
            if one.name == "born":
                checkup.partition.history.recognise(str(one.value).encode())
        return 0
    if checkup.rows and checkup.row_damages:
        _require_most(collection, checkup, checkup.rows)
        commands = _without_lost(checkup.partition, checkup.rows)
        _write(checkup.partition, checkup.epoch, commands)
        return checkup.lost
    with lease(checkup.partition, taken_over=True):
        _rebuild(collection, checkup)
    return 0


def _restore(collection: Collection, partition: Partition) -> None:
    """Begin the state of a partition anew that has lost all of it; what else it has stays.

    Raises:
        CollectionError: it was not lost, but dropped: nothing of it is there again.
    """
    # Lost it was if the collection is there still, for that ends first.
    require_there(collection)
    store, meta, born = partition.store, partition.keys.meta, secrets.token_hex(8).encode()
    state = table_scripts.create(store, meta, {"born": born, MENDING.decode(): 1})
    try:
        require_there(collection)
    except CollectionError:
        # A drop may have found nothing here, just before.
        name_scripts.note(store, meta, born=born, command="UNLINK", key="meta", words=())
        raise
    partition.history.recognise(state.get(b"born", b""))


def _write(
    partition: Partition, epoch: bytes, commands: Iterator[Command], *, born: bytes | None = None
) -> None:
    """Write, in batches, unless somebody else does.

    Args:
        born: the partition's mark as it is stored; by default it is right.
    """
    mark = partition.history.born if born is None else born
    batch: list[Command] = []
    for command in commands:
        batch.append(command)
        size = sum(len(word) for words in batch for word in words if isinstance(word, bytes))
        if size >= _BATCH_BYTES:
            _run(partition, mark, epoch, batch)
            epoch, batch = _epoch(partition), []
    if batch:
        _run(partition, mark, epoch, batch)


def _run(partition: Partition, born: bytes, epoch: bytes, commands: Sequence[Command]) -> None:
    store, meta = partition.store, partition.keys.meta
    if not table_scripts.repair(store, meta, born=born, epoch=epoch, commands=commands):
        raise _changed(partition)


def _changed(partition: Partition) -> StoreError:
    """What is said where a partition is not any more what was found.

    Raises:
        CollectionError: it is gone, or was made anew.
    """
    partition.history.fields("epoch")
    return StoreError(
        f"somebody writes to the collection {partition.collection!r} while it is repaired: end "
        "that, then repair it again"
    )


def _corrected(checkup: Checkup) -> Iterator[Command]:
    yield "HSET", "meta", MENDING, 1
    for one in checkup.corrections:
        if one.value is None:
            yield "HDEL", "meta", one.name
        else:
            yield "HSET", "meta", one.name, one.value


def _images(rows: Rows) -> NDArray[np.bool_]:
    images: NDArray[np.bool_] = (rows.kinds == Kind.ALIVE) & rows.found
    return images


def _require_most(collection: Collection, checkup: Checkup, rows: Rows) -> None:
    """Refuse to take out most: what says how all is to be read may be all that is damaged."""
    left = int(_images(rows).sum())
    # The images of one block may be most of a small collection.
    if checkup.lost > left + layout.BLOCK:
        raise StoreError(
            f"{checkup.lost:,} images of {collection.name!r} cannot be read or found as it says "
            f"that they are stored, and only {left:,} would be left: restore a backup, or ingest "
            "into another collection"
        )


def _without_lost(partition: Partition, rows: Rows) -> Iterator[Command]:
    """What takes out all rows that are no whole images, and makes lists and counts right."""
    images = _images(rows)
    count = len(images)
    if rows.broken and max(rows.broken) == count // layout.BLOCK:
        # The next image begins a block.
        count = -(-count // layout.BLOCK) * layout.BLOCK
    for number in rows.broken:
        yield "UNLINK", f"vectors:{number}"
        yield "UNLINK", f"records:{number}"
    bad = ~images & (rows.kinds != Kind.DEAD)
    for number in np.unique(np.flatnonzero(bad) // layout.BLOCK).tolist():
        if number not in rows.broken:
            first = number * layout.BLOCK
            yield from _buried(partition, number, np.flatnonzero(bad[first : first + layout.BLOCK]))
    fields: dict[int, list[bytes]] = {}
    for number, name in rows.strays:
        fields.setdefault(number, []).append(name)
    for number, names in fields.items():
        for at in range(0, len(names), _BATCH_ENTRIES):
            yield "HDEL", f"uris:{number}", *names[at : at + _BATCH_ENTRIES]
    alive = np.flatnonzero(images)
    dead = np.setdiff1d(np.arange(count), alive, assume_unique=True)
    if len(dead):
        yield "SET", "dead", dead.astype(layout.ROW_DTYPE).tobytes()
    else:
        yield "UNLINK", "dead"
    yield "HSET", "meta", "rows", count, "live", len(alive)


def _buried(partition: Partition, number: int, slots: NDArray[np.intp]) -> Iterator[Command]:
    """What makes rows of a block dead."""
    store, keys, width = partition.store, partition.keys, partition.codec.width
    stored = [store.call("GET", key) for key in (keys.vectors(number), keys.records(number))]
    if None in stored:
        raise _changed(partition)
    vectors, records = map(bytearray, stored)
    lengths = np.frombuffer(records, "<u4", layout.BLOCK).copy()
    sizes = lengths % layout.DEAD
    ends = 4 * layout.BLOCK + np.cumsum(sizes)
    for slot in slots.tolist():
        vectors[slot * width : (slot + 1) * width] = bytes(width)
        records[ends[slot] - sizes[slot] : ends[slot]] = bytes(int(sizes[slot]))
        lengths[slot] = sizes[slot] + layout.DEAD
    if (lengths >= layout.DEAD).all():
        yield "UNLINK", f"vectors:{number}"
        yield "UNLINK", f"records:{number}"
        return
    records[: 4 * layout.BLOCK] = lengths.tobytes()
    yield "SET", f"vectors:{number}", bytes(vectors)
    yield "SET", f"records:{number}", bytes(records)


def _rebuild(collection: Collection, checkup: Checkup) -> None:
    """Fill hash tables anew from the stored vectors, and remove all others."""
    partition = checkup.partition
    state = partition.state()
    partition.families.forget()
    data = partition.store.call("GET", partition.keys.family(state.generation))
    try:
        family = partition.families.loaded(state.generation, data or b"")
    except (StoreError, CollectionError):
        family = None
        require_there(collection)
    if family is None and collection.model_id == LSHASH_MODEL:
        raise StoreError(
            f"the hyperplanes of {collection.name!r} are lost: open an LSHash under another name, "
            "and index again"
        )
    in_use = state.generation in checkup.table_damages or not state.generation
    # Nothing can be done with it, and no rebuild is to try.
    lost: list[Command] = [] if family else [("UNLINK", f"family:{state.generation}")]
    _write(partition, checkup.epoch, iter([*lost, *_only(state.generation)]))
    if in_use and not state.live:
        _write(partition, _epoch(partition), _only(0))
    elif in_use and family is None:
        start(partition, Wish(KMeansFamily.kind, None, None), collection.expected_each)
        finish(partition)
    elif in_use and family is not None:
        start_alike(partition, family, state)
        finish(partition)


def _only(generation: int) -> Iterator[Command]:
    """What makes these tables the only ones."""
    yield "HSET", "meta", "generation", generation, "next", 0, MENDING, 1
    yield "HDEL", "meta", "next_fitted", "next_skipped", "filled", "fill", "retired"


def _others(partition: Partition) -> Iterator[Command]:
    """What removes all tables but those that are used, and ends the repair."""
    state = partition.state()
    used = {str(state.generation), str(state.following)}
    yield "HDEL", "meta", "retired", MENDING
    base = partition.keys.pattern().removesuffix("*")
    for kind in ("bucket", "family"):
        for key in partition.store.scan(partition.keys.pattern(kind)):
            name = key.decode().removeprefix(base)
            if name.split(":")[1] not in used:
                yield "UNLINK", name


def _epoch(partition: Partition) -> bytes:
    return partition.store.call("HGET", partition.keys.meta, "epoch") or b""
