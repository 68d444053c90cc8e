"""Vectors and records out of Redis into files, and back, while everything goes on.

Of a block that is moved only codes of its vectors stay in Redis (`simdist.vectors.codes`), by which
a search finds what it then reads from the file. Each block is moved by one write, once its file is
on the disk: whoever dies in between has moved some blocks, and a file that nobody looks for.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, compress

from simdist.errors import UsageError
from simdist.index.collection import Collection
from simdist.index.moved import FOLDER
from simdist.index.partition import Partition
from simdist.sources.access import Access
from simdist.sources.output import OutputFolder
from simdist.store import layout, scripts, table_scripts
from simdist.store.connection import Argument
from simdist.vectors.codec import Int8Codec
from simdist.vectors.codes import BITS, Codes

# Blocks in one file: some 20 MB. And those that one call of the script moves: a stall of some
# milliseconds.
_IN_A_FILE, _AT_ONCE = 512, 32
# Buckets that one call writes anew.
_BUCKETS = 512
# Bytes of the lengths in front of a block's records.
_LENGTHS = 4 * layout.BLOCK

OnProgress = Callable[[str, int, int], None]


def offload(
    collection: Collection,
    folder: str,
    *,
    bits: int,
    on_progress: OnProgress = lambda _doing, _done, _total: None,
) -> int:
    """Move vectors and records of all full blocks into files; returns how many images' rows.

    Args:
        folder: a path that every worker sees under the same name, or a URI of an object store.
        bits: of each value that stay in Redis, one of `codes.BITS`.
        on_progress: called with what is done, how many blocks have been gone through, and of how
            many.

    Raises:
        UsageError: the collection's vectors have no codes; or it is offloaded already, elsewhere or
            with other bits; or another process has begun to bring it back meanwhile.
        OutputError: nothing can be written there.
        StoreError: the server cannot be reached, or refuses.
    """
    if bits not in BITS:
        raise UsageError(f"of each value {', '.join(map(str, BITS))} bits can stay, not {bits}")
    codec = collection.partitions[0].codec
    if not isinstance(codec, Int8Codec) or Codes(codec, bits).width >= codec.width:
        raise UsageError(
            f"{bits} bits of these vectors would take no less: only those of bytes, and of more "
            "than 32 dimensions, can be offloaded"
        )
    place = OutputFolder.of(folder, Access.resolve())
    place.check()
    _agree(collection, place.uri, bits)
    moved = sum(_all(collection, _Move(bits, ""), on_progress))
    for partition in collection.partitions:
        _trim(partition)
    return moved


def bring_back(
    collection: Collection, *, on_progress: OnProgress = lambda _doing, _done, _total: None
) -> int:
    """Have everything in Redis again; returns how many images' rows were elsewhere.

    Raises:
        UsageError: another process has begun to offload the collection meanwhile.
        SourceError: a file cannot be read.
        StoreError: the server cannot be reached, or refuses.
    """
    back = _Move(0, secrets.token_hex(8))
    for partition in collection.partitions:
        partition.note("HSET", "meta", "returning", back.returning)
    moved = sum(_all(collection, back, on_progress))
    # The first last: it says where files are.
    for partition in reversed(collection.partitions):
        _call(partition, back, [], last=True)
    return moved


def offloaded(collection: Collection) -> tuple[str, int] | None:
    """The folder that a collection's vectors are in, and the bits that stay; None if none is."""
    folder, bits = collection.store.call(
        "HMGET", collection.partitions[0].keys.meta, FOLDER, "bits"
    )
    return (folder.decode(), int(bits)) if folder and bits else None


@dataclass(frozen=True)
class _Move:
    """Which way: so many bits of each value are to stay, or all come back (0), by this mark."""

    bits: int
    returning: str


def _agree(collection: Collection, folder: str, bits: int) -> None:
    """Say where the files are, and what stays."""
    there = offloaded(collection)
    if there and there != (folder, bits):
        raise UsageError(
            f"the collection {collection.name!r} is offloaded to {there[0]}, with {there[1]} bits: "
            "bring it back first"
        )
    partitions = collection.partitions
    partitions[0].note("HSET", "meta", FOLDER, folder)
    for partition in partitions:
        partition.note("HSET", "meta", "bits", str(bits))
        partition.note("HDEL", "meta", "returning")


def _all(collection: Collection, move: _Move, on_progress: OnProgress) -> Iterator[int]:
    """Move the blocks of all partitions; yields how many images' rows."""
    ends = [partition.state().rows // layout.BLOCK for partition in collection.partitions]
    before = 0
    for partition, end in zip(collection.partitions, ends, strict=True):
        for done, moved in _partition(partition, end, move):
            yield layout.BLOCK * moved
            on_progress("moving blocks", before + done, sum(ends))
        before += end


def _partition(partition: Partition, end: int, move: _Move) -> Iterator[tuple[int, int]]:
    """Move blocks of a partition; yields how many were gone through, and how many moved."""
    full, store = layout.BLOCK * partition.codec.width, partition.store
    left: list[int] = []
    for start in range(0, end, _IN_A_FILE):
        numbers = range(start, min(start + _IN_A_FILE, end))
        sizes = store.call_many([("STRLEN", partition.keys.vectors(n)) for n in numbers])
        left += compress(numbers, [size and (size == full) == (move.bits > 0) for size in sizes])
        moved = 0
        while len(left) >= _IN_A_FILE or (left and numbers.stop == end):
            moved += _move(partition, left[:_IN_A_FILE], move)
            del left[:_IN_A_FILE]
        yield numbers.stop, moved


def _move(partition: Partition, numbers: Sequence[int], move: _Move) -> int:
    """Move blocks into one file, or out of files; returns how many were moved."""
    partition.history.check()
    stored = partition.blocks.stored(numbers)
    blocks = [
        (number, vectors, records)
        for number, (vectors, records) in zip(numbers, stored, strict=True)
        if vectors and records
    ]
    places = [b""] * len(blocks)
    if move.bits:
        places = partition.files.write([(vectors, records) for _, vectors, records in blocks])
    words: list[list[Argument]] = []
    for (number, vectors, records), place in zip(blocks, places, strict=True):
        here = (vectors, records[_LENGTHS:])
        if move.bits:
            here = _codes(partition, vectors, move.bits), b""
        words.append([number, records[:_LENGTHS], place, *here])
    return sum(
        _call(partition, move, words[at : at + _AT_ONCE]) for at in range(0, len(words), _AT_ONCE)
    )


def _call(
    partition: Partition, move: _Move, blocks: Sequence[list[Argument]], *, last: bool = False
) -> int:
    answer = scripts.move(
        partition.store,
        partition.keys.meta,
        partition.history.seen,
        width=partition.codec.width,
        returning=move.returning,
        last=last,
        blocks=list(chain.from_iterable(blocks)),
    )
    moved = partition.history.note(answer)
    if moved < 0:
        raise UsageError(
            f"another process has begun to move {partition.collection!r} the other way: see what "
            "it does, then try again"
        )
    return moved


def _trim(partition: Partition) -> None:
    """Have buckets take no more than they need: what one has is a hundredth of its images."""
    generation = partition.state().generation
    if not generation:
        return
    family = partition.families.of(generation)
    step = max(1, _BUCKETS // family.tables)
    for first in range(0, family.size, step):
        if not table_scripts.trim(
            partition.store,
            partition.keys.meta,
            generation=generation,
            tables=family.tables,
            first=first,
            end=min(first + step, family.size),
        ):
            return


def _codes(partition: Partition, vectors: bytes, bits: int) -> bytes:
    packed = partition.codec.matrix(vectors)
    partition.codec.check(packed)
    return Codes.of(partition.codec, bits).pack(packed).tobytes()
