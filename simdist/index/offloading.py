"""Vectors and records out of Redis into files, and back, while everything goes on.

Of a block that is moved only codes of its vectors stay in Redis (`simdist.vectors.codes`), by which
a search finds what it then reads from the file. Each block is moved by one write, once its file is
on the disk: whoever dies in between has moved some blocks, and a file that nobody looks for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import compress

from simdist.errors import UsageError
from simdist.index import catalogue
from simdist.index.collection import Collection
from simdist.index.growth import lease, renew
from simdist.index.moved import FOLDER
from simdist.index.partition import Partition
from simdist.sources.access import Access
from simdist.sources.output import OutputFolder
from simdist.store import layout, scripts
from simdist.store.connection import Argument
from simdist.vectors.codec import Int8Codec
from simdist.vectors.codes import BITS, Codes

# Blocks in one file: some 20 MB. And those that one call of the script moves: a stall of some
# milliseconds.
_IN_A_FILE, _AT_ONCE = 512, 32

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
            with other bits.
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
    return _all(collection, bits, on_progress)


def bring_back(
    collection: Collection, *, on_progress: OnProgress = lambda _doing, _done, _total: None
) -> int:
    """Have everything in Redis again; returns how many images' rows were elsewhere.

    Raises:
        SourceError: a file cannot be read.
        StoreError: the server cannot be reached, or refuses.
    """
    moved = _all(collection, 0, on_progress)
    for partition in collection.partitions:
        partition.note("HDEL", "meta", "bits")
    collection.partitions[0].note("HDEL", "meta", FOLDER)
    return moved


def offloaded(collection: Collection) -> tuple[str, int] | None:
    """The folder that a collection's vectors are in, and the bits that stay; None if none is."""
    folder, bits = collection.store.call(
        "HMGET", collection.partitions[0].keys.meta, FOLDER, "bits"
    )
    return (folder.decode(), int(bits)) if folder and bits else None


def _agree(collection: Collection, folder: str, bits: int) -> None:
    """Say where the files are, and what stays."""
    there = offloaded(collection)
    if there and there != (folder, bits):
        raise UsageError(
            f"the collection {collection.name!r} is offloaded to {there[0]}, with {there[1]} bits: "
            "bring it back first"
        )
    partitions = collection.partitions
    catalogue.renew(collection.store, collection.home_name, partitions[0].history.born)
    partitions[0].note("HSET", "meta", FOLDER, folder)
    for partition in partitions:
        partition.note("HSET", "meta", "bits", str(bits))


def _all(collection: Collection, bits: int, on_progress: OnProgress) -> int:
    ends = [partition.state().rows // layout.BLOCK for partition in collection.partitions]
    moved = before = 0
    for partition, end in zip(collection.partitions, ends, strict=True):
        with lease(partition) as granted:
            if not granted:
                raise UsageError(
                    f"another process rebuilds or moves {collection.name!r}: try again later"
                )
            for done, count in _partition(partition, end, bits):
                moved += count
                on_progress("moving blocks", before + done, sum(ends))
        before += end
    return layout.BLOCK * moved


def _partition(partition: Partition, end: int, bits: int) -> Iterator[tuple[int, int]]:
    """Move blocks of a partition; yields how many were gone through, and how many moved."""
    width, store = partition.codec.width, partition.store
    full = layout.BLOCK * width
    left: list[int] = []
    for start in range(0, end, _IN_A_FILE):
        numbers = range(start, min(start + _IN_A_FILE, end))
        sizes = store.call_many([("STRLEN", partition.keys.vectors(n)) for n in numbers])
        left += compress(numbers, [size and (size == full) == (bits > 0) for size in sizes])
        moved = 0
        while len(left) >= _IN_A_FILE or (left and numbers.stop == end):
            moved += _move(partition, left[:_IN_A_FILE], bits)
            del left[:_IN_A_FILE]
            renew(partition)
        yield numbers.stop, moved


def _move(partition: Partition, numbers: Sequence[int], bits: int) -> int:
    """Move blocks into one file, or out of files; returns how many were moved."""
    partition.history.check()
    stored = partition.blocks.stored(numbers)
    blocks = [
        (number, vectors, records)
        for number, (vectors, records) in zip(numbers, stored, strict=True)
        if vectors and records
    ]
    pairs = [(vectors, records) for _, vectors, records in blocks]
    places = partition.files.write(pairs) if bits else [b""] * len(pairs)
    moved = 0
    for at in range(0, len(blocks), _AT_ONCE):
        words: list[Argument] = []
        for (number, vectors, records), place in zip(
            blocks[at : at + _AT_ONCE], places[at : at + _AT_ONCE], strict=True
        ):
            lengths = 4 * layout.BLOCK
            words += [number, records[:lengths], place]
            words += (
                [_codes(partition, vectors, bits), b""] if bits else [vectors, records[lengths:]]
            )
        answer = scripts.move(
            partition.store,
            partition.keys.meta,
            partition.history.seen,
            width=partition.codec.width,
            blocks=words,
        )
        moved += partition.history.note(answer)
    return moved


def _codes(partition: Partition, vectors: bytes, bits: int) -> bytes:
    packed = partition.codec.matrix(vectors)
    partition.codec.check(packed)
    return Codes.of(partition.codec, bits).pack(packed).tobytes()
